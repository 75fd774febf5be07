from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from lrsearch.core.curve import Curve
from lrsearch.core.outcome import Outcome, Status
from lrsearch.report.html import html_page, write_report
from tests.report.outcomes import EVERY_KIND, broken_line, flat, outcome_of

_VOID = {"meta", "path", "use", "br", "rect", "image", "circle", "line"}


class Page(HTMLParser):
    """Checks that elements are closed in order; collects tags, addresses and text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.addresses: list[str] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href")]
        self.addresses += [value or "" for name, value in attrs if name == "xlink:href"]
        if tag not in _VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in _VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        if tag not in _VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.text += data


@pytest.mark.parametrize("name", EVERY_KIND)
def test_every_kind_of_outcome_makes_a_whole_page(name: str) -> None:
    outcome = EVERY_KIND[name]
    page = Page(html_page(outcome))
    assert "svg" in page.tags
    assert outcome.status.value in page.text
    assert (f"{outcome.lr:.3g}" if outcome.status.found else "none") in page.text


def test_the_page_loads_nothing() -> None:
    text = html_page(outcome_of(broken_line()))
    page = Page(text)
    assert not page.tags & {"script", "link", "img", "iframe", "image"}
    assert all(address.startswith("#") for address in page.addresses)
    assert "@import" not in text
    assert not re.search(r"url\((?!['\"]?#)", text)


def test_whatever_the_outcome_says_is_escaped() -> None:
    evil = '<script>alert("x")</script>&amp;'
    outcome = outcome_of(broken_line(), why=evil, rule=evil, settings={evil: evil})
    text = html_page(outcome)
    assert "<script" not in text
    assert Page(text).text.count(evil) == 4


def test_it_shows_cost_settings_lanes_and_versions() -> None:
    curve = Curve([0.5, 0.25], [2.0, 1.5], lane=7, evaluations=((2, 0.123),))
    outcome = outcome_of(broken_line())
    text = Page(html_page(Outcome(**{**vars(outcome), "curves": (curve, broken_line())}))).text
    for words in ("0.123", "made every update it was asked for", "range", "lrsearch", "NumPy"):
        assert words in text


def test_parameter_groups_are_listed_when_there_are_several() -> None:
    outcome = outcome_of(broken_line(), lr=0.01, multipliers=(1.0, 0.5))
    assert "Parameter groups, in order: 0.01, 0.005" in Page(html_page(outcome)).text
    assert "Parameter groups" not in html_page(outcome_of(broken_line()))


def test_the_reason_is_not_said_twice() -> None:
    assert html_page(flat()).count(Status.NO_SIGNAL.value) == 1


def test_it_is_readable_in_light_and_dark() -> None:
    text = html_page(outcome_of(broken_line()))
    assert "prefers-color-scheme: dark" in text
    assert "color-scheme: light dark" in text


def test_the_file_is_written_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "report.html"
    assert write_report(outcome_of(broken_line()), target) == target
    before = target.read_text("utf-8")
    assert before.startswith("<!DOCTYPE html>")

    def half(self: Path, text: str, encoding: str) -> int:
        self.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", half)
    with pytest.raises(OSError, match="No space"):
        write_report(flat(), target)
    assert target.read_text("utf-8") == before
    assert list(tmp_path.iterdir()) == [target]
