"""The whole tutorial, once, and the page in docs that shows it."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest
from rich.console import Console

import lrsearch
from lrsearch.tutorial.page import TERMS, page
from lrsearch.tutorial.run import Report, run_tutorial
from lrsearch.tutorial.tables import Table

NAMES = ["a-plateaus", "b-regimes", "c-ladder", "d-zoom", "e-trial", "f-decay"]
DOCS = Path(lrsearch.__file__).parents[2] / "docs"


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> tuple[Report, Path, str]:
    out = tmp_path_factory.mktemp("tutorial") / "new" / "folder"
    text = io.StringIO()
    report = run_tutorial(out, Console(file=text, width=200))
    return report, out, text.getvalue()


@pytest.mark.slow
def test_every_step_writes_a_small_figure_and_the_last_file_is_the_page(
    told: tuple[Report, Path, str],
) -> None:
    report, out, _ = told
    assert [path.name for path in report.files] == [*(f"{n}.png" for n in NAMES), "tutorial.md"]
    assert sorted(out.iterdir()) == sorted(report.files)
    for path in report.files[:-1]:
        content = path.read_bytes()
        assert content.startswith(b"\x89PNG\r\n\x1a\n")
        assert 10_000 < len(content) < 120_000


@pytest.mark.slow
def test_every_step_shows_its_title_text_and_table(told: tuple[Report, Path, str]) -> None:
    report, _, text = told
    assert [step.name for step in report.shown] == NAMES
    for step in report.shown:
        assert step.title in text
        for column in step.table.columns:
            assert column in text
        for row in step.table.rows:
            assert row[0] in text
    assert f"after {report.seconds:.0f} seconds" in text


@pytest.mark.slow
def test_the_page_shows_every_figure_text_and_table(told: tuple[Report, Path, str]) -> None:
    report, out, _ = told
    text = (out / "tutorial.md").read_text("utf-8")
    assert re.findall(r"!\[.*\]\((.*)\)", text) == [f"{name}.png" for name in NAMES]
    for step in report.shown:
        assert f"## {step.title}" in text
        assert step.text in text
        assert step.table.markdown() in text


@pytest.mark.slow
def test_no_title_runs_out_of_its_figure(told: tuple[Report, Path, str]) -> None:
    for step in told[0].shown:
        step.figure.canvas.draw()  # at the resolution that the extents below are in
        (title,) = step.figure.texts
        assert title.get_window_extent().x1 < step.figure.bbox.x1


@pytest.mark.slow
def test_the_trial_is_that_of_the_suggestion_of_the_zoom(told: tuple[Report, Path, str]) -> None:
    zoom, trial = (step.table for step in told[0].shown[3:5])
    suggested = next(row for row in trial.rows if row[1] == "the suggestion")
    assert suggested[0] == zoom.rows[0][4]
    assert "the ladders that led here as much as" in told[0].shown[4].text


def test_the_page_can_keep_its_figures_elsewhere_and_have_an_appendix() -> None:
    step = ("d-zoom", "d. Zoom", "It turns up.", Table("", ("a",), (("1",),)))
    text = page([step], folder="pictures", appendix="## More")
    assert "![d. Zoom](pictures/d-zoom.png)" in text
    assert text.index("It turns up.") < text.index("| a |") < text.index("## More")
    assert text.endswith("## More\n")


def test_the_page_maps_the_words_of_the_chapter_to_ours() -> None:
    words = {row[0]: row[1] for row in TERMS.rows}
    assert words["learning-rate searcher"] == "`Ladder`"
    assert words["looper"].startswith("`Segment(")
    assert words["seeking net"] == "a trainable"
    assert words["history"] == "`Curve`"


def test_the_page_in_docs_has_all_steps_and_all_its_figures() -> None:
    text = (DOCS / "tutorial.md").read_text("utf-8")
    figures = re.findall(r"!\[.*\]\((.*)\)", text)
    assert figures == [*(f"tutorial/{name}.png" for name in NAMES), "images/planned_run.png"]
    for figure in figures:
        assert 10_000 < (DOCS / figure).stat().st_size < 120_000
    assert TERMS.markdown() in text
    assert "## The same with ten nets" in text
