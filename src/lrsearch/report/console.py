"""What a terminal shows: live progress while a search runs, and a table of its answer.

``rich`` is imported when something is shown, never with this module.
"""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, TaskID
    from rich.table import Table

    from lrsearch.core.outcome import Cost, Outcome
    from lrsearch.core.search import Observer, Update

__all__ = ["live_progress", "printable", "result_table", "terminal"]

# Control characters but tab and newline, what turns the direction of text, and lone surrogates.
_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_REDRAW_SECONDS = 0.125  # between two redraws; every other update costs one clock reading


def printable(text: str) -> str:
    """Return ``text`` with everything visible that a terminal would obey or cannot write.

    Example:
        >>> printable("a\\x1b[2Jb")
        'a\\\\x1b[2Jb'
    """
    return _UNPRINTABLE.sub(lambda found: found.group().encode("unicode_escape").decode(), text)


@contextmanager
def live_progress(title: str, *, enabled: bool) -> Iterator[Observer | None]:
    """Show a live bar on standard error with the lane, learning rate and loss of a search.

    Nothing is shown, and ``rich`` is not even imported, when standard error is no terminal.
    There is no background thread: the bar is redrawn by the observer, at most eight times a
    second, so that the search it watches is not slowed.

    Args:
        title: what stands before the bar, such as the name of the method.
        enabled: whether to show anything.

    Yields:
        The observer to hand to :func:`lrsearch.core.search.run_search`, or ``None``.

    Example:
        >>> with live_progress("range", enabled=False) as observer:
        ...     print(observer)
        None
    """
    if not enabled or not _is_terminal(sys.stderr):
        yield None
        return
    progress = _progress()
    with progress:
        bar = _Bar(progress, title)
        try:
            yield bar
        finally:
            bar.draw()


def result_table(outcome: Outcome) -> Table:
    """Return a table of the answer: lr, interval, status, reason and cost.

    Example:
        >>> from lrsearch.core.outcome import Cost, Outcome, Status
        >>> outcome = Outcome(0.01, 0.001, 0.1, Status.FOUND, "It falls.", "default", (),
        ...     Cost(100, 0, 2.5))
        >>> result_table(outcome).row_count
        5
    """
    from rich.table import Table
    from rich.text import Text

    table = Table(show_header=False, title=None)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    found = outcome.status.found
    # Text, not str: a reason may hold square brackets, which are markup to rich.
    for name, value in _rows(outcome):
        main = name == "learning rate"
        table.add_row(
            name, Text(printable(value), style=("bold green" if found else "red") if main else "")
        )
    return table


def _rows(outcome: Outcome) -> list[tuple[str, str]]:
    status = outcome.status
    rows = [("learning rate", f"{outcome.lr:.3g}" if status.found else "none")]
    if status.found:
        rows.append(("interval", f"{outcome.low:.3g} .. {outcome.high:.3g}"))
        if len(outcome.multipliers) > 1:
            rows.append(("groups", ", ".join(f"{lr:.3g}" for lr in outcome.group_lrs)))
    rows.append(("status", f"{status.name}: {status.value}"))
    if outcome.why != status.value:
        rows.append(("why", outcome.why))
    rows.append(("cost", _cost(outcome.cost)))
    return rows


def _cost(cost: Cost) -> str:
    parts = [f"{cost.steps} updates"]
    if cost.evaluations:
        parts.append(f"{cost.evaluations} evaluations")
    parts.append(f"{cost.seconds:.1f} s")
    if cost.runs is not None:
        parts.append(f"{cost.runs:.2g} planned runs")
    return ", ".join(parts)


def terminal(stderr: bool = False) -> Console:
    """Return a console whose cursor stays: no end of the process, however sudden, hides it."""
    from rich.console import Console

    class Terminal(Console):
        def show_cursor(self, show: bool = True) -> bool:
            return show and super().show_cursor(show)

    return Terminal(stderr=stderr)


def _is_terminal(stream: object) -> bool:
    """Whether a stream, which may be missing, closed or a stranger's class, is a terminal."""
    try:
        return bool(stream.isatty())  # type: ignore[attr-defined]
    except (AttributeError, ValueError, OSError):
        return False


class _Bar:
    """An observer that redraws at most every ``_REDRAW_SECONDS``."""

    def __init__(self, progress: Progress, title: str) -> None:
        self._progress = progress
        self._title = title
        self._task: TaskID | None = None
        self._last: Update | None = None
        self._next = 0.0
        self._gone = False

    def __call__(self, update: Update) -> None:
        self._last = update
        if time.monotonic() >= self._next:
            self.draw()
            # Counted from the end of the drawing, so that a slow terminal gets fewer redraws.
            self._next = time.monotonic() + _REDRAW_SECONDS

    def draw(self) -> None:
        """Show the last update; a terminal that went away is no reason to stop the search."""
        if self._last is not None and not self._gone:
            try:
                self._draw(self._last)
            except (OSError, ValueError):
                self._gone = True

    def _draw(self, last: Update) -> None:
        state = f"lane {last.lane}  lr {last.lr:.3g}  loss {last.loss:.4g}"
        if self._task is None:
            self._task = self._progress.add_task(self._title, state=state)
        self._progress.update(self._task, total=last.asked, completed=last.done, state=state)
        self._progress.refresh()


def _progress() -> Progress:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[state]}", markup=False),
        console=terminal(stderr=True),
        auto_refresh=False,
        transient=True,
        # What is printed meanwhile goes above the bar, unless it is written to a file or pipe.
        redirect_stdout=_is_terminal(sys.stdout),
    )
