"""One self-contained HTML page: the answer, the plot, every lane, settings and versions."""

from __future__ import annotations

import io
import os
import platform
from collections.abc import Iterable
from html import escape as escape_markup
from pathlib import Path

import numpy as np
import numpy.typing as npt

from lrsearch._version import __version__
from lrsearch.core.curve import Curve
from lrsearch.core.outcome import Outcome
from lrsearch.core.serialize import write_atomically
from lrsearch.report.console import printable
from lrsearch.report.plot import plot

__all__ = ["card", "html_page", "write_report"]

_STYLE = """
:root { color-scheme: light dark; --ink: #1a1a1a; --paper: #ffffff; --line: #d8d8d8;
  --soft: #5c5c5c; --good: #00785a; --bad: #b84a00; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e8e8e8; --paper: #16181b; --line: #3a3d42; --soft: #a5a9b0;
    --good: #3ecf9f; --bad: #ff9a52; }
  .plot svg { filter: invert(0.91) hue-rotate(180deg); }
}
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper);
  max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1rem; font-weight: 600; color: var(--soft); margin: 0; }
h2 { font-size: 1.1rem; margin: 2rem 0 .5rem; }
.answer { font-size: 3.5rem; font-weight: 700; line-height: 1.2; margin: 0; color: var(--good); }
.none .answer { color: var(--bad); }
.soft { color: var(--soft); }
.plot svg { width: 100%; height: auto; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; }
th, td { text-align: left; vertical-align: top; padding: .3rem .9rem .3rem 0;
  border-bottom: 1px solid var(--line); overflow-wrap: anywhere; }
td.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
"""

_LANE_HEAD = (
    *("lane", "first lr", "last lr", "updates", "first loss", "lowest loss", "last loss"),
    *("held-out loss", "ended because"),
)


def write_report(outcome: Outcome, path: str | os.PathLike[str]) -> Path:
    """Write the page for ``outcome``; an existing file is replaced only by a complete one.

    The page loads nothing: no scripts, fonts or pictures from elsewhere.

    Args:
        outcome: what a search found, with or without an answer.
        path: file to write.

    Returns:
        The file written.
    """
    text = html_page(outcome)
    return write_atomically(path, lambda temporary: temporary.write_text(text, "utf-8"))


def html_page(outcome: Outcome) -> str:
    """Return the page as text.

    Example:
        >>> from lrsearch.core.outcome import Cost, Status
        >>> outcome = Outcome(0.1, 0.01, 0.2, Status.FOUND, "a < b", "default", (), Cost(3, 0, 1))
        >>> "a &lt; b" in html_page(outcome)
        True
    """
    found = outcome.status.found
    title = f"Learning rate {outcome.lr:.3g}" if found else "No learning rate"
    return "\n".join(
        [
            "<!DOCTYPE html>",
            '<html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{escape(title)}</title><style>{_STYLE}</style></head>",
            f'<body class="{"found" if found else "none"}">',
            *_answer(outcome),
            f'<div class="plot">{_svg(outcome)}</div>',
            "<h2>Lanes</h2>",
            _lanes(outcome.curves),
            "<h2>Cost</h2>",
            _pairs(_cost(outcome)),
            "<h2>Settings</h2>",
            _pairs({"rule": outcome.rule, **outcome.settings}),
            "<h2>Written with</h2>",
            _pairs(_versions()),
            "</body></html>\n",
        ]
    )


def card(outcome: Outcome) -> str:
    """Return a small piece of HTML for a notebook: answer, interval, why, what to do next.

    Example:
        >>> from lrsearch.core.outcome import Cost, Status
        >>> outcome = Outcome(0.1, 0.01, 0.2, Status.FOUND, "a < b", "default", (), Cost(3, 0, 1))
        >>> "a &lt; b" in card(outcome) and "result.apply(optimizer)" in card(outcome)
        True
    """
    found = outcome.status.found
    answer = f"{outcome.lr:.3g}" if found else "no learning rate"
    interval = f"{outcome.low:.3g} to {outcome.high:.3g}" if found else outcome.status.name
    next_step = "result.apply(optimizer)" if found else "result.plot()"
    return (
        '<div style="border:1px solid #8886;border-radius:8px;padding:.6em 1em;max-width:40em;'
        'font-family:system-ui,sans-serif">'
        f'<div style="opacity:.7">Learning rate</div>'
        f'<div style="font-size:1.8em;font-weight:700">{escape(answer)}</div>'
        f"<div>{escape(interval)}</div>"
        f'<p style="margin:.6em 0">{escape(outcome.why)}</p>'
        f'<code>{next_step}</code> <span style="opacity:.7">{escape(_steps(outcome))}</span></div>'
    )


def _steps(outcome: Outcome) -> str:
    return f"{outcome.cost.steps} steps, {outcome.cost.seconds:.1f} s"


def escape(text: str) -> str:
    """Return ``text`` as HTML that shows it and can be written."""
    return escape_markup(printable(text))


def _answer(outcome: Outcome) -> Iterable[str]:
    found = outcome.status.found
    yield "<h1>Learning rate</h1>"
    yield f'<p class="answer">{f"{outcome.lr:.3g}" if found else "none"}</p>'
    if found:
        yield f"<p>Interval: {outcome.low:.3g} to {outcome.high:.3g}</p>"
    if found and len(outcome.multipliers) > 1:
        groups = ", ".join(f"{lr:.3g}" for lr in outcome.group_lrs)
        yield f"<p>Parameter groups, in order: {groups}</p>"
    yield f"<p><strong>{outcome.status.name}</strong>: {escape(outcome.status.value)}</p>"
    if outcome.why != outcome.status.value:
        yield f'<p class="soft">{escape(outcome.why)}</p>'


def _svg(outcome: Outcome) -> str:
    """The plot as an ``<svg>`` element, without the XML head that HTML has no use for."""
    buffer = io.StringIO()
    plot(outcome).savefig(buffer, format="svg", metadata={"Date": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]


def _lanes(curves: tuple[Curve, ...]) -> str:
    head = "".join(f"<th>{name}</th>" for name in _LANE_HEAD)
    rows = "".join(f"<tr>{_lane(curve)}</tr>" for curve in curves)
    return f'<div class="wide"><table><tr>{head}</tr>{rows}</table></div>'


def _lane(curve: Curve) -> str:
    finite = curve.finite().loss
    cells = [
        str(curve.lane),
        _number(curve.lr[:1]),
        _number(curve.lr[-1:]),
        str(len(curve)),
        _number(curve.loss[:1]),
        _number(np.sort(finite)[:1]),
        _number(curve.loss[-1:]),
        _number([loss for _, loss in curve.evaluations[-1:]]),
    ]
    numbers = "".join(f'<td class="number">{cell}</td>' for cell in cells)
    return f"{numbers}<td>{escape(curve.stop.value)}</td>"


def _number(values: npt.ArrayLike) -> str:
    """The only value of ``values``, or a dash when there is none."""
    return "".join(f"{value:.4g}" for value in np.asarray(values).tolist()) or "-"


def _cost(outcome: Outcome) -> dict[str, object]:
    cost = outcome.cost
    return {
        "optimizer updates": cost.steps,
        "held-out evaluations": cost.evaluations,
        "seconds": f"{cost.seconds:.2f}, of which {cost.evaluation_seconds:.2f} for evaluations",
        "planned runs": "unknown" if cost.runs is None else f"{cost.runs:.3g}",
    }


def _versions() -> dict[str, object]:
    import matplotlib

    return {
        "lrsearch": __version__,
        "Python": platform.python_version(),
        "NumPy": np.__version__,
        "matplotlib": matplotlib.__version__,
    }


def _pairs(values: dict[str, object]) -> str:
    rows = "".join(
        f"<tr><th>{escape(str(name))}</th><td>{escape(str(value))}</td></tr>"
        for name, value in values.items()
    )
    return f'<div class="wide"><table>{rows}</table></div>'
