"""Draw an outcome: the losses that were measured, and where the answer lies among them.

Figures are matplotlib ``Figure`` objects; pyplot is never imported and no window is opened.
"""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import TYPE_CHECKING

from lrsearch.core.outcome import Outcome
from lrsearch.core.serialize import write_atomically
from lrsearch.core.validation import file_path
from lrsearch.errors import InvalidArgument
from lrsearch.report.plot_data import Climb, Points, ShortRuns, Trials, plot_data

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["Climb", "ShortRuns", "Trials", "check_plot_path", "plot", "plot_data"]

# Okabe and Ito's palette: told apart by colour-blind readers, and in grey print.
_BLUE, _ORANGE, _GREEN, _RED, _GREY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#7F7F7F"


def plot(
    outcome: Outcome, path: str | os.PathLike[str] | None = None, ax: Axes | None = None
) -> Figure:
    """Draw ``outcome``, with or without an answer.

    Args:
        outcome: what a search found.
        path: file to write; its ending names the format (``.png``, ``.svg``, ``.pdf``). An
            existing file is replaced only when the new one is complete.
        ax: axes to draw on, instead of those of a new figure.

    Returns:
        The figure.

    Raises:
        InvalidArgument: the ending of ``path`` names no format that matplotlib can write.

    Example:
        >>> from lrsearch.core.curve import Curve
        >>> from lrsearch.core.outcome import Cost, Status
        >>> curve = Curve([0.01, 0.1, 1.0], [2.0, 1.0, 3.0])
        >>> outcome = Outcome(0.1, 0.01, 0.2, Status.FOUND, "", "default", (curve,),
        ...     Cost(3, 0, 0.1))
        >>> plot(outcome).axes[0].get_title(loc="left")
        'Learning rate 0.1'
    """
    target = None if path is None else check_plot_path(path)
    axes = _new_axes() if ax is None else ax
    data = plot_data(outcome)
    if isinstance(data, Climb):
        _draw_climb(axes, data)
    elif isinstance(data, ShortRuns):
        _draw_short_runs(axes, data)
    else:
        _draw_trials(axes, data)
    figure = axes.get_figure(root=True)
    assert figure is not None, "axes without a figure cannot be drawn on"
    if target is not None:
        # No date inside: the same result gives the same file.
        date = {".svg": "Date", ".pdf": "CreationDate"}.get(target.suffix.lower())
        metadata = {} if date is None else {date: None}
        write_atomically(
            target, lambda temporary: figure.savefig(temporary, dpi=150, metadata=metadata)
        )
    return figure


def check_plot_path(path: str | os.PathLike[str]) -> Path:
    """Return ``path`` if its ending names a format that can be written, else raise."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    target = file_path("path", path)
    ending = target.suffix.lower().lstrip(".")
    if ending not in FigureCanvasAgg.get_supported_filetypes():
        raise InvalidArgument.of("path", os.fspath(path), "a name ending in .png, .svg or .pdf")
    return target


def _new_axes() -> Axes:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.0, 4.8), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    return figure.add_subplot()


def _draw_climb(ax: Axes, data: Climb) -> None:
    _prepare(ax, data.title, found=data.lr is not None)
    ax.set_ylabel("training loss")
    ax.set_xlim(*data.x_limits)
    ax.set_ylim(*data.y_limits)
    _draw_interval(ax, data.interval, "the loss falls")
    _draw_band(ax, data.band)
    _draw_points(ax, data.scouts, color=_GREY, alpha=0.45, s=10, label="other lanes")
    _draw_points(ax, data.points, color=_BLUE, alpha=0.45, s=12, label="loss of each update")
    _draw_line(ax, data.trend, color=_BLUE, lw=1.5, label="running average")
    _draw_line(ax, data.fit, color=_ORANGE, lw=2.0, ls="--", label="fitted fall")
    _mark_above(ax, data.points)
    _say_if_empty(ax, data.points)
    if data.broke_at is not None:
        ax.axvline(data.broke_at, color=_RED, ls=":", label=f"NaN or inf at {data.broke_at:.2g}")
    _draw_answer(ax, data.lr)
    _legend(ax)


def _draw_short_runs(ax: Axes, data: ShortRuns) -> None:
    _prepare(ax, data.title, found=data.lr is not None)
    ax.set_ylabel("loss")
    ax.set_xlim(*data.x_limits)
    ax.set_ylim(*data.y_limits)
    _draw_interval(ax, data.interval, "the loss falls")
    _draw_band(ax, data.band)
    _draw_points(ax, data.climb, color=_GREY, alpha=0.6, s=12, label="climb, until it diverged")
    _draw_points(
        ax, data.points, color=_BLUE, alpha=0.45, s=14, label="short runs, last third of updates"
    )
    _draw_line(ax, data.means, color=_BLUE, lw=1.8, marker="_", ms=14, label="mean of each run")
    _draw_line(
        ax, data.held_out, color=_ORANGE, lw=1.8, ls="--", marker="s", label="held-out loss of each"
    )
    _mark_above(ax, data.climb + data.points)
    _say_if_empty(ax, data.points)
    _draw_answer(ax, data.lr)
    _legend(ax)


def _draw_trials(ax: Axes, data: Trials) -> None:
    _prepare(ax, data.title, found=data.lr is not None)
    kind = "held-out loss" if data.held_out else "training loss"
    ax.set_ylabel(f"{kind} at the end of the run")
    ax.set_xlim(*data.x_limits)
    ax.set_ylim(*data.y_limits)
    _draw_interval(ax, data.interval, "interval")
    if data.start is not None and data.y_limits[0] < data.start < data.y_limits[1]:
        ax.axhline(data.start, color=_GREY, ls=":", label="training loss at the start")
    for number, (length, points) in enumerate(data.rungs, start=1):
        # The longer the runs, the stronger: shorter ones stand at another height.
        runs = f"runs of {length} updates" if len(data.rungs) > 1 else "one run each"
        strength = number / len(data.rungs)
        _draw_line(ax, points, color=_BLUE, alpha=strength, lw=1.2, marker="o", ms=5, label=runs)
    _mark_above(ax, data.points)
    _say_if_empty(ax, data.points)
    for number, lr in enumerate(data.broken):
        label = "ended in NaN or inf" if number == 0 else None
        ax.plot(lr, 0.97, "x", color=_RED, transform=ax.get_xaxis_transform(), label=label)
    _draw_answer(ax, data.lr)
    _legend(ax)


def _prepare(ax: Axes, title: str, found: bool) -> None:
    ax.set_xscale("log")
    ax.set_xlabel("learning rate (log scale)")
    size = 14 if len(title) < 60 else 10
    ax.set_title(title, loc="left", fontsize=size, fontweight="bold", wrap=True)
    ax.title.set_color("black" if found else _RED)
    ax.grid(visible=True, which="major", alpha=0.25)
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)


def _draw_interval(ax: Axes, interval: tuple[float, float] | None, words: str) -> None:
    if interval is None:
        return
    low, high = interval
    label = f"{words}: {low:.2g} to {high:.2g}"
    ax.axvspan(low, high, color=_GREEN, alpha=0.12, lw=0, label=label)
    for name, at, side in (("low", low, "right"), ("high", high, "left")):
        ax.axvline(at, color=_GREEN, lw=1.0, ls="--")
        ax.annotate(
            name,
            (at, 1.0),
            xytext=(3 if side == "left" else -3, -12),  # outside: the two may be close
            textcoords="offset points",
            xycoords=ax.get_xaxis_transform(),
            ha=side,
            color=_GREEN,
            fontsize=9,
        )


def _draw_band(ax: Axes, band: tuple[float, float] | None) -> None:
    if band is not None:
        ax.axhspan(*band, color=_GREY, alpha=0.2, lw=0, label="noise (2 sd)")


def _draw_points(ax: Axes, points: Points, **style: object) -> None:
    if points:
        ax.scatter(*zip(*points, strict=True), linewidths=0, **style)  # type: ignore[arg-type]


def _draw_line(ax: Axes, points: Points, **style: object) -> None:
    if points:
        ax.plot(*zip(*points, strict=True), **style)  # type: ignore[arg-type]


def _mark_above(ax: Axes, points: Points) -> None:
    """Mark losses above the top as triangles on it, so that an explosion is seen, not drawn."""
    top = ax.get_ylim()[1]
    above = [lr for lr, loss in points if loss > top]
    if above:
        highest = max(loss for _, loss in points)
        ax.plot(
            above,
            [0.985] * len(above),
            "^",
            color=_RED,
            ms=5,
            transform=ax.get_xaxis_transform(),
            label=f"above the frame (up to {highest:.2g})",
        )


def _say_if_empty(ax: Axes, points: Points) -> None:
    if not points:
        ax.text(0.02, 0.9, "no finite loss was measured", transform=ax.transAxes)


def _draw_answer(ax: Axes, lr: float | None) -> None:
    if lr is None:
        return
    ax.axvline(lr, color="black", lw=1.5)
    low, high = (math.log(limit) for limit in ax.get_xlim())
    right = math.log(lr) > low + 0.8 * (high - low)
    ax.annotate(
        f"lr = {lr:.3g}",
        (lr, 0.02),
        xytext=(-6 if right else 6, 0),
        textcoords="offset points",
        xycoords=ax.get_xaxis_transform(),
        ha="right" if right else "left",
        fontsize=11,
        fontweight="bold",
        bbox={"boxstyle": "round,pad=0.15", "fc": "white", "ec": "none", "alpha": 0.8},
    )


def _legend(ax: Axes) -> None:
    if ax.get_legend_handles_labels()[0]:
        ax.legend(fontsize=8, framealpha=0.85, loc="best")
