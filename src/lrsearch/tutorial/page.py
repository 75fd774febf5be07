"""The tutorial as a page: what is asked in each step, and the answers that were measured."""

from __future__ import annotations

from collections.abc import Iterable

from lrsearch.tutorial.problem import BATCH, EPOCHS, EXAMPLES, HELD_OUT, HIDDEN, NOISE
from lrsearch.tutorial.tables import Table, number

__all__ = ["TERMS", "page"]

_INTRO = f"""\
# The textbook experiment

How does one find a learning rate? This page retells the experiment of a textbook chapter,
"Searching the optimal learning rate" (Microsoft ai-edu, after L. Smith, "Cyclical Learning Rates
for Training Neural Networks", arXiv 1506.01186, section 3.3), with the parts of lrsearch. Every
number, table and figure comes from a run; the command that makes them is

    lrsearch tutorial --out DIR

**The problem.** One period of a sine with noise of standard deviation {number(NOISE)} on targets
between 0 and 1: {EXAMPLES} examples to learn from, {number(HELD_OUT)} held out. A network with one
input, {HIDDEN} sigmoid hidden units and one linear output learns it by plain gradient descent, in
mini-batches of {BATCH} where nothing else is said. The loss is half the mean squared error. The
planned run is {EPOCHS} epochs, or {number(EPOCHS * EXAMPLES // BATCH)} updates, at a constant rate.

The chapter's words and ours:
"""

#: The chapter's terms, ours, and where to find them.
TERMS = Table(
    "Terms",
    ("in the chapter", "in lrsearch", "what it is"),
    (
        ("learning-rate searcher", "`Ladder`", "the learning rates to try, in order"),
        ("looper", "`Segment(start, step, stop, epochs=...)`", "one stretch of the ladder"),
        ("loop", "`updates=` or `epochs=` of a segment", "how long each rung lasts"),
        ("seeking net", "a trainable", "what takes its learning rate from the ladder"),
        ("history", "`Curve`", "learning rate and raw loss of every update"),
        ("reading the chart", '`suggest(curve, rule="turning")`', "where the loss turns up"),
        ("second search around it", "`Ladder(zoom=20)`", "a closer look, by itself"),
        ("trying 0.6, 0.7, 0.8", "`Sweep`", "full training at every candidate"),
    ),
    words=3,
)

_QUESTIONS = {
    "a-plateaus": """\
At a learning rate of 0.1, a customary choice, the loss soon stops falling. One would think that
training is over, and stop. `lrsearch.core.plateau` finds such stretches; what they are can be
measured, because this net is small enough to compute the gradient and all second derivatives of its
loss. The three forms of gradient descent are drawn: with a single sample for each update, with
mini-batches, and with all examples (full batch). The measurements are those of the full-batch run,
where no noise of the batches blurs them.""",
    "b-regimes": """\
The same net at four learning rates, from the same start. The names are those of
`lrsearch.core.regime`, which sees nothing but the curve of held-out losses. It cannot see
everything: the run of step a would be called converged while it stands on its plateau.""",
    "c-ladder": """\
One run instead of many: the net trains without a break while its learning rate climbs from rung to
rung of the chapter's staged table. The chapter's table has ten epochs on every rung, its experiment
fifty, as here. In lrsearch:

    Ladder([
        Segment(0.0001, 0.0001, 0.0009, epochs=50),
        Segment(0.001, 0.001, 0.009, epochs=50),
        Segment(0.01, 0.01, 0.09, epochs=50),
        Segment(0.1, 0.1, 0.9, epochs=50),
        Segment(1.0, 0.01, 1.1, epochs=50),
    ])

A segment without a `stop` ends at ten times its start.""",
    "d-zoom": """\
The chapter then climbs a second ladder from 0.5 to 1.0 in steps of 0.01, a range chosen by eye,
from the untrained net. Here it stands beside the zoom that `Ladder` makes by itself: twenty rungs
over the decade around what the first ladder said. The suggestion is where the loss turns up: the
mean of all places where it may turn, weighed by how well the curve fits. The shaded range is two
standard deviations wide on either side.""",
    "e-trial": """\
A suggestion is worth what a full training run at it is worth. The chapter tries its suggestion
and 0.1 on either side. The sweep tries every learning rate, and the suggestion is held against
its best.""",
    "f-decay": """\
With a single sample for each update and twice the noise in the targets, a constant learning rate
never comes to rest. Robbins and Monro (1951) asked for rates whose sum is infinite, so that the
weights can get anywhere, and whose squares have a finite sum, so that the noise they add up stays
finite: such as `lr / (1 + t / constant)`.""",
}


def page(steps: Iterable[tuple[str, str, str, Table]], folder: str, appendix: str = "") -> str:
    """Return the page in Markdown.

    Args:
        steps: name, title, text and table of every step; the figure of a step is ``NAME.png``.
        folder: where the figures are, relative to the page.
        appendix: what follows the steps.
    """
    parts = [_INTRO, TERMS.markdown()]
    for name, title, text, table in steps:
        figure = f"![{title}]({name}.png)" if folder == "." else f"![{title}]({folder}/{name}.png)"
        parts += [f"## {title}", _QUESTIONS[name], figure, text, table.markdown()]
    if appendix:
        parts.append(appendix)
    return "\n\n".join(part.strip("\n") for part in parts) + "\n"
