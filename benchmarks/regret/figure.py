"""All sweeps in one picture, to see at a glance whether every task is well posed."""

from __future__ import annotations

import math
import pathlib
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.regret.oracle import Oracle

PATH = pathlib.Path(__file__).parent / "oracle.png"
COLUMNS = 6


def draw_oracles(oracles: Sequence[Oracle], path: pathlib.Path = PATH) -> pathlib.Path:
    """Final held-out loss against lr, one panel per task, with the spread over seeds."""
    rows = math.ceil(len(oracles) / COLUMNS)
    figure = Figure(figsize=(3.0 * COLUMNS, 2.2 * rows), layout="constrained")
    axes = figure.subplots(rows, COLUMNS, squeeze=False).ravel()
    for ax, oracle in zip(axes, oracles, strict=False):
        draw_oracle(ax, oracle)
    for ax in axes[len(oracles) :]:
        ax.set_axis_off()
    figure.supxlabel("learning rate")
    figure.supylabel("held-out loss after the planned run")
    figure.savefig(path, dpi=80)
    return path


def draw_oracle(ax: Axes, oracle: Oracle) -> None:
    """One sweep: the seeds, their mean, the loss before training (dashed), the best lr (line)."""
    by_seed = np.array(oracle.losses, dtype=float)  # None becomes NaN: a gap in the line
    ax.plot(oracle.lrs, by_seed, color="0.7", linewidth=0.8, marker=".", markersize=3)
    ax.plot(oracle.lrs, oracle.mean_losses, color="C0")
    ax.axhline(oracle.initial_loss, color="0.4", linewidth=0.8, linestyle="--")
    ax.axvline(oracle.best_lr, color="C2", linewidth=0.8)
    ax.axvline(oracle.last_stable_lr, color="C3", linewidth=0.8, linestyle=":")
    gap = oracle.initial_loss - oracle.best_loss
    ax.set(xscale="log", ylim=(oracle.best_loss - 0.1 * gap, oracle.initial_loss + 0.15 * gap))
    ax.set_title(oracle.task, fontsize=8)
    ax.tick_params(labelsize=6)
