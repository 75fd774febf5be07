"""Step a: at a fixed learning rate of 0.1 the loss stands still. What is it standing on?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from lrsearch.core.plateau import Plateau, plateaus
from lrsearch.demos.two_layer_net import Curvature, loss
from lrsearch.tutorial import figures
from lrsearch.tutorial.problem import BATCH, HIDDEN, problem
from lrsearch.tutorial.tables import Table, number

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["Plateaus", "Stretch", "compute", "draw", "kind", "table", "tell"]

FloatArray = npt.NDArray[np.float64]

LR, UPDATES, EVERY = 0.1, 80_000, 100
# The first epochs only take off the offset of the output, which may be any size: they are left
# out, so that "flat" is judged by what the net learns after them.
SKIP, BAND = 20, 0.05
FORMS: dict[str, int | None] = {"single-sample": 1, "mini-batch": BATCH, "full-batch": None}


@dataclass(frozen=True)
class Stretch:
    """A plateau of the full-batch run, and what was measured in its middle.

    Attributes:
        first: the update it begins at.
        last: the update it ends at.
        level: mean loss on it.
        curvature: gradient norm and Hessian of the loss on all training data.
        growth: what a displacement along the steepest downward curvature would grow by in a run
            of this length, as a power of e: ``lr * -lowest eigenvalue * updates``.
        kind: what it is, see :func:`kind`.
    """

    first: int
    last: int
    level: float
    curvature: Curvature
    growth: float
    kind: str


@dataclass(frozen=True)
class Plateaus:
    """The three forms of gradient descent at one learning rate, and the plateaus of one.

    Attributes:
        updates: the updates after which everything was measured, shape ``(n,)``.
        losses: training loss by form, each of shape ``(n,)``.
        curvatures: of the full-batch run, one for each measurement.
        stretches: the plateaus of the full-batch run, in order.
    """

    lr: float
    updates: FloatArray
    losses: dict[str, FloatArray]
    curvatures: tuple[Curvature, ...]
    stretches: tuple[Stretch, ...]


def compute(seed: int = 0, lr: float = LR, updates: int = UPDATES) -> Plateaus:
    """Train with all three forms, and measure the full-batch run every 100 updates."""
    losses: dict[str, FloatArray] = {}
    curvatures: list[Curvature] = []
    for form, batch in FORMS.items():
        net = problem(seed, batch)
        history = []
        for update in range(updates + 1):
            if update % EVERY == 0:
                history.append(loss(net.weights, net.train))
                if batch is None:
                    curvatures.append(net.curvature())
            net.step(lr)
        losses[form] = np.array(history)
    found = plateaus(losses["full-batch"][SKIP:], band=BAND)
    return Plateaus(
        lr=lr,
        updates=np.arange(0.0, updates + 1, EVERY),
        losses=losses,
        curvatures=tuple(curvatures),
        stretches=tuple(_stretch(plateau, curvatures, lr * updates) for plateau in found),
    )


def _stretch(plateau: Plateau, curvatures: list[Curvature], reach: float) -> Stretch:
    """Describe a plateau; ``reach`` is learning rate times updates of the whole run."""
    start, stop = plateau.start + SKIP, plateau.stop + SKIP
    middle = curvatures[(start + stop) // 2]
    first, last = start * EVERY, (stop - 1) * EVERY
    growth = reach * max(-middle.lowest, 0.0)
    return Stretch(first, last, plateau.level, middle, growth, kind(middle, growth))


def kind(curvature: Curvature, growth: float) -> str:
    """Name a plateau from what was measured on it.

    ``"saddle"``: the loss curves downward, steeply enough to carry the weights away in a run of
    this length (a displacement grows by a factor of e or more). ``"minimum"``: it curves upward
    in every direction. ``"flat"``: neither; whatever downward curvature there is could not act.

    Example:
        >>> kind(Curvature(gradient_norm=1e-4, lowest=-1e-3, highest=2.0, downward=1), growth=3.0)
        'saddle'
    """
    if curvature.lowest > 0.0:
        return "minimum"
    return "saddle" if growth >= 1.0 else "flat"


def tell(result: Plateaus) -> str:
    """Say what the plateaus are, from the measurements."""
    sentences = []
    start = result.curvatures[0].gradient_norm
    for stretch in result.stretches:
        c = stretch.curvature
        sentences.append(
            f"From update {number(stretch.first)} to {number(stretch.last)} the loss stays near "
            f"{number(stretch.level)}. In the middle of it the gradient is "
            f"{number(c.gradient_norm)} long, {number(start / c.gradient_norm, 2)} times shorter "
            f"than at the start, and the Hessian has {c.downward} eigenvalues below zero; the "
            f"lowest is {number(c.lowest, 2)}, the highest {number(c.highest, 2)}. "
            f"{_reason(stretch, result.lr, float(result.updates[-1]))}"
        )
    return "\n\n".join(sentences)


def _reason(stretch: Stretch, lr: float, updates: float) -> str:
    if stretch.kind == "minimum":
        return "The loss curves upward everywhere: this is a **minimum**."
    wait = number(1.0 / (lr * -stretch.curvature.lowest), 2)
    if stretch.kind == "saddle":
        return (
            f"Along the lowest one a displacement grows by a factor of e in {wait} updates: this "
            "is a **saddle**, left as slowly as that, and sooner at a larger learning rate."
        )
    return (
        f"Along the lowest one a displacement would need {wait} updates to grow by a factor of e, "
        f"more than the {number(updates)} of the whole run: the ground is **flat**."
    )


def table(result: Plateaus) -> Table:
    """One row for each plateau."""
    return Table(
        f"Plateaus of full-batch gradient descent at lr {number(result.lr)}",
        ("updates", "loss", "gradient norm", "lowest eigenvalue", "highest", "below zero", "kind"),
        tuple(
            (
                f"{number(s.first)} to {number(s.last)}",
                number(s.level),
                number(s.curvature.gradient_norm, 2),
                number(s.curvature.lowest, 2),
                number(s.curvature.highest, 3),
                f"{s.curvature.downward} of {3 * HIDDEN + 1}",
                s.kind,
            )
            for s in result.stretches
        ),
    )


def draw(result: Plateaus) -> Figure:
    """Loss of the three forms above; gradient norm and downward curvature below."""
    longest = max((s.last - s.first for s in result.stretches), default=0)
    figure, (above, below) = figures.new(
        f"At a learning rate of {number(result.lr)} the loss stands still for "
        f"{number(longest)} updates",
        size=(8.0, 5.6), rows=2, sharex=True, height_ratios=(3, 2),
    )  # fmt: skip
    _draw_losses(above, result)
    x = result.updates / 1000.0
    below.semilogy(x, [c.gradient_norm for c in result.curvatures], color=figures.BLUE)
    below.semilogy(
        x, [-c.lowest if c.lowest < 0.0 else np.nan for c in result.curvatures], color=figures.RED
    )
    middle = len(x) // 2
    below.annotate(
        "gradient norm", (x[middle], result.curvatures[middle].gradient_norm), xytext=(0, 6),
        textcoords="offset points", ha="center", color=figures.BLUE, fontsize=9,
    )  # fmt: skip
    below.annotate(
        "downward curvature (minus the lowest eigenvalue)", (0.03, 0.12),
        xycoords="axes fraction", color=figures.RED, fontsize=9,
    )  # fmt: skip
    below.set_ylabel("full-batch run")
    below.set_xlabel("update (thousands)")
    below.set_xlim(0.0, float(x[-1]))
    below.set_ylim(top=0.1)
    return figure


def _draw_losses(ax: Axes, result: Plateaus) -> None:
    colors = (figures.SKY, figures.ORANGE, figures.INK)
    for (form, losses), color in zip(result.losses.items(), colors, strict=True):
        width = 2.0 if form == "full-batch" else 0.8
        ax.semilogy(result.updates / 1000.0, losses, color=color, lw=width, label=form)
    for stretch in result.stretches:
        first, last = stretch.first / 1000.0, stretch.last / 1000.0
        ax.axvspan(first, last, color=figures.GREY, alpha=0.15, lw=0)
        ax.annotate(
            stretch.kind, ((first + last) / 2.0, stretch.level), xytext=(0, 18),
            textcoords="offset points", ha="center", fontsize=11, fontweight="bold",
            color=figures.INK,
        )  # fmt: skip
    figures.log_ticks(ax.yaxis, (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2))
    ax.set_ylabel("loss on all training data")
    ax.legend(frameon=False, fontsize=9, loc="upper right")
