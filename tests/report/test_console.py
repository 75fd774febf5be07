from __future__ import annotations

import io
import itertools
import subprocess
import sys

import pytest
from rich.console import Console

from lrsearch.core.outcome import Outcome
from lrsearch.core.search import Update
from lrsearch.report import console
from lrsearch.report.console import live_progress, result_table
from tests.report.outcomes import broken_line, flat, outcome_of, sweep


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def terminal_as_stderr(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """To be called by the test itself: pytest sets its own streams after every fixture."""
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    return stream


def shown(outcome: Outcome) -> str:
    screen = Console(file=io.StringIO(), width=100)
    screen.print(result_table(outcome))
    assert isinstance(screen.file, io.StringIO)
    return screen.file.getvalue()


def test_progress_shows_the_lane_its_lr_and_its_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = terminal_as_stderr(monkeypatch)
    with live_progress("range [test]", enabled=True) as observer:
        assert observer is not None
        observer(Update(lane=3, done=4, asked=40, lr=0.00125, loss=-1.5))
    for words in ("range [test]", "4/40", "lane 3", "lr 0.00125", "loss -1.5"):
        assert words in terminal.getvalue()


def test_the_last_update_is_shown_even_right_after_another(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = terminal_as_stderr(monkeypatch)
    monkeypatch.setattr("time.monotonic", lambda: 1000.0)
    with live_progress("range", enabled=True) as observer:
        assert observer is not None
        for done in range(1, 8):
            observer(Update(0, done, 7, 0.1, float("nan")))
    text = terminal.getvalue()
    assert "1/7" in text
    assert "3/7" not in text
    assert "7/7" in text


def test_redraws_are_an_eighth_of_a_second_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal_as_stderr(monkeypatch)
    now = [1000.0]
    drawn: list[float] = []
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    with live_progress("range", enabled=True) as observer:
        assert isinstance(observer, console._Bar)
        monkeypatch.setattr(observer, "draw", lambda: drawn.append(now[0]))
        for done in range(1000):
            observer(Update(0, done, 1000, 0.1, 1.0))
            now[0] += 0.001
    # The last drawing is that of the end, whenever it comes.
    gaps = [later - sooner for sooner, later in itertools.pairwise(drawn[:-1])]
    assert len(drawn) <= 10
    assert min(gaps) >= 0.125


def test_an_error_inside_passes_and_leaves_the_terminal_usable(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    terminal = terminal_as_stderr(monkeypatch)

    def search() -> None:
        with live_progress("range", enabled=True) as observer:
            assert observer is not None
            observer(Update(0, 1, 2, 0.1, 1.0))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        search()
    assert terminal.getvalue().rfind("\x1b[?25h") > terminal.getvalue().rfind("\x1b[?25l")


def test_what_is_printed_to_a_file_meanwhile_stays_there(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal_as_stderr(monkeypatch)
    file = io.StringIO()
    monkeypatch.setattr(sys, "stdout", file)
    with live_progress("range", enabled=True) as observer:
        assert observer is not None
        sys.stdout.write("mine\n")
    assert file.getvalue() == "mine\n"


def test_it_is_silent_when_switched_off(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = terminal_as_stderr(monkeypatch)
    with live_progress("range", enabled=False) as observer:
        assert observer is None
    assert terminal.getvalue() == ""


@pytest.mark.parametrize("stream", [io.StringIO(), None])
def test_it_is_silent_without_a_terminal(
    stream: io.StringIO | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stderr", stream)
    with live_progress("range", enabled=True) as observer:
        assert observer is None


def test_rich_and_matplotlib_are_imported_only_when_used() -> None:
    program = """
import sys
import lrsearch.find
from lrsearch.report.console import live_progress
with live_progress("range", enabled=True):
    pass
assert not {"rich", "matplotlib", "torch"} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", program], check=True, stderr=subprocess.PIPE)


def test_the_table_has_the_answer_its_interval_and_its_price() -> None:
    text = shown(sweep())
    for words in ("0.01", "0.001 .. 0.1", "FOUND", "It has the lowest", "12 updates", "4 planned"):
        assert words in text
    assert "groups" not in text


def test_the_table_lists_the_groups_when_there_are_several() -> None:
    assert "0.01, 0.005" in shown(outcome_of(broken_line(), lr=0.01, multipliers=(1.0, 0.5)))


def test_the_table_of_a_failure_says_why_once() -> None:
    text = " ".join(shown(flat()).replace("│", " ").split())
    assert "learning rate none" in text
    assert "NO_SIGNAL" in text
    assert text.count("did not fall by more than its noise") == 1
    assert "interval" not in text


def test_brackets_in_a_reason_are_not_markup() -> None:
    assert "[bold] odd [/nonsense]" in shown(
        outcome_of(broken_line(), why="[bold] odd [/nonsense]")
    )
