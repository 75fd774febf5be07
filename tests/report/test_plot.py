from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from lrsearch.errors import InvalidArgument
from lrsearch.report.plot import plot
from tests.report.outcomes import (
    EVERY_KIND,
    broken_line,
    exploding,
    flat,
    outcome_of,
    short_runs,
    sweep,
)


def legend_of(figure: Figure) -> list[str]:
    legend = figure.axes[0].get_legend()
    return [] if legend is None else [text.get_text() for text in legend.get_texts()]


@pytest.mark.parametrize("name", EVERY_KIND)
def test_every_kind_of_outcome_can_be_drawn(name: str, tmp_path: Path) -> None:
    figure = plot(EVERY_KIND[name], tmp_path / "plot.png")
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")
    (axes,) = figure.axes
    assert axes.get_xscale() == "log"
    assert axes.get_title(loc="left")


def test_the_answer_is_written_beside_its_line() -> None:
    outcome = outcome_of(broken_line())
    (axes,) = plot(outcome).axes
    assert f"lr = {outcome.lr:.3g}" in [text.get_text() for text in axes.texts]


def test_what_is_drawn_is_named_in_the_legend() -> None:
    names = legend_of(plot(exploding()))
    assert "fitted fall" in names
    assert "above the frame (up to 1e+06)" in names
    assert "NaN or inf at 8" in names
    assert any(name.startswith("the loss falls: ") for name in names)


def test_no_signal_is_drawn_with_its_noise_and_without_an_answer() -> None:
    figure = plot(flat())
    assert "noise (2 sd)" in legend_of(figure)
    assert "fitted fall" not in legend_of(figure)
    assert not figure.axes[0].texts


def test_a_sweep_says_which_loss_it_shows() -> None:
    (axes,) = plot(sweep()).axes
    assert axes.get_ylabel() == "training loss at the end of the run"
    assert "ended in NaN or inf" in legend_of(plot(sweep()))


@pytest.mark.parametrize(
    ("name", "head"), [("p.png", b"\x89PNG"), ("p.svg", b"<?xml"), ("p.PDF", b"%PDF")]
)
def test_the_ending_names_the_format(name: str, head: bytes, tmp_path: Path) -> None:
    plot(outcome_of(broken_line()), tmp_path / name)
    assert (tmp_path / name).read_bytes().startswith(head)


@pytest.mark.parametrize("name", ["plot", "plot.doc", "plot."])
def test_an_unknown_ending_is_refused_before_anything_is_drawn(name: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match=r"ending in \.png, \.svg or \.pdf"):
        plot(outcome_of(broken_line()), tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_it_draws_on_axes_that_are_given() -> None:
    mine = Figure()
    left, right = mine.subplots(1, 2)
    assert plot(outcome_of(broken_line()), ax=right) is mine
    assert right.get_title(loc="left")
    assert not left.has_data()


def test_a_figure_that_cannot_be_written_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def half(self: Figure, path: Path, **options: object) -> None:
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    target = tmp_path / "plot.png"
    target.write_bytes(b"old")
    monkeypatch.setattr(Figure, "savefig", half)
    with pytest.raises(OSError, match="No space"):
        plot(outcome_of(broken_line()), target)
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


def test_missing_folders_are_made(tmp_path: Path) -> None:
    plot(outcome_of(broken_line()), tmp_path / "a" / "b" / "plot.png")
    assert (tmp_path / "a" / "b" / "plot.png").is_file()


@pytest.mark.parametrize("ending", ["png", "svg", "pdf"])
def test_the_same_outcome_gives_the_same_file(ending: str, tmp_path: Path) -> None:
    files = [tmp_path / f"{name}.{ending}" for name in "ab"]
    for file in files:
        plot(sweep(), file)
    if ending != "svg":  # its element ids are random
        assert files[0].read_bytes() == files[1].read_bytes()
    assert b"<dc:date>" not in files[0].read_bytes()
    assert b"CreationDate" not in files[0].read_bytes()


def test_pyplot_is_never_imported_and_user_settings_are_left_alone(tmp_path: Path) -> None:
    program = f"""
import sys, matplotlib
# Reading the setting "backend" would itself import pyplot.
settings = lambda: {{k: matplotlib.rcParams[k] for k in matplotlib.rcParams if k != "backend"}}
before = settings()
from tests.report.outcomes import EVERY_KIND
from lrsearch.report.plot import plot
for outcome in (EVERY_KIND["exploding"], EVERY_KIND["no signal"], EVERY_KIND["sweep"]):
    plot(outcome, {str(tmp_path / "p.png")!r})
assert "matplotlib.pyplot" not in sys.modules
assert settings() == before
"""
    root = Path(__file__).parents[2]
    subprocess.run([sys.executable, "-W", "error", "-c", program], check=True, cwd=root)


def test_short_runs_are_named_in_the_legend_and_low_and_high_on_their_lines() -> None:
    figure = plot(short_runs(held_out=True))
    names = legend_of(figure)
    for name in (
        "the loss falls: 0.002 to 0.01",
        "noise (2 sd)",
        "climb, until it diverged",
        "short runs, last third of updates",
        "mean of each run",
        "held-out loss of each",
        "above the frame (up to 1e+06)",
    ):
        assert name in names
    written = [text.get_text() for text in figure.axes[0].texts]
    assert set(written) >= {"low", "high", "lr = 0.008"}
