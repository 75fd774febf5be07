"""Write docs/tutorial.md and its figures from runs made now.

``python -m benchmarks.tutorial_page`` takes a few minutes: besides the six steps, which
``lrsearch tutorial`` shows as well, it repeats steps d and e with ten seeds, trains for other
lengths than the planned one, and tries targets of another size.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from benchmarks import planned_run
from benchmarks.results_file import read_json
from lrsearch.core.search import run_search
from lrsearch.core.serialize import write_atomically
from lrsearch.demos.two_layer_net import Examples, TwoLayerNet
from lrsearch.methods.ladder import Ladder
from lrsearch.tutorial import figures, seeds
from lrsearch.tutorial.ladder import SEGMENTS
from lrsearch.tutorial.page import page
from lrsearch.tutorial.problem import BATCH, EPOCHS, HIDDEN, plan, problem
from lrsearch.tutorial.run import SEED, steps
from lrsearch.tutorial.seeds import Agreement
from lrsearch.tutorial.tables import number

DOCS = Path(__file__).resolve().parent.parent / "docs"
NETS = range(10)
LONG_NETS = range(3)


def main() -> None:
    """Run everything and write the page."""
    shown = []
    for step in steps(SEED, lambda title: print(title, flush=True)):
        figures.save(step.figure, DOCS / "tutorial" / f"{step.name}.png")
        shown.append((step.name, step.title, step.text, step.table))
    text = page(shown, folder="tutorial", appendix=appendix())
    write_atomically(DOCS / "tutorial.md", lambda path: path.write_text(text, "utf-8"))
    planned_run.publish(read_json("planned_run"))
    print(f"Wrote {DOCS / 'tutorial.md'}")


def appendix() -> str:
    """What the tutorial's one net cannot tell."""
    rows = []
    for seed in NETS:
        print(f"net {seed}", flush=True)
        rows.append(seeds.agreement(seed))
    print("other lengths", flush=True)
    best = seeds.best_by_length(LONG_NETS)
    print("stretched targets", flush=True)
    pairs = [stretched(seed) for seed in NETS]
    return "\n\n".join(
        (
            "What follows takes longer, and is added by `python -m benchmarks.tutorial_page`.",
            "## The same with ten nets",
            ten_nets(rows),
            seeds.agreement_table(rows).markdown(),
            "## What the ladder cannot know",
            other_lengths(best),
            seeds.lengths_table(best).markdown(),
            "<!-- planned-run:begin -->\n<!-- planned-run:end -->",
            "## What was chosen, and on what",
            chosen([pair[0] for pair in pairs], [pair[1] for pair in pairs]),
        )
    )


def ten_nets(rows: list[Agreement]) -> str:
    """Sum the table up."""
    chosen = [row.chosen for row in rows]
    own = [row.own for row in rows]
    return (
        f"Steps d and e with ten nets (seeds 0 to {len(rows) - 1}, each with data, initial weights "
        f"and batch order of its own; the page above shows seed {SEED}). *Factor* is the distance "
        "of the suggestion from the best of the sweep, *regret* the part of the attainable fall of "
        "the held-out loss that it loses. The second ladder is off by a factor of at most "
        f"{number(max(t.factor for t in chosen))} (median "
        f"{number(float(np.median([t.factor for t in chosen])))}) and loses at most "
        f"{number(100 * max(t.regret for t in chosen), 2)} %; the ladder's own zoom by at most "
        f"{number(max(t.factor for t in own))} (median "
        f"{number(float(np.median([t.factor for t in own])))}) and at most "
        f"{number(100 * max(t.regret for t in own), 2)} %. The second ladder could hardly miss: "
        "any rate between 0.5 and 1.0 is within a factor of 2 of a best rate in that range, and "
        "the range was chosen by the chapter. The ladder's own zoom was told nothing. On the "
        f"second ladder the loss clearly turns up for {sum(row.turned for row in rows)} of the "
        "nets; for the others the ladder says that its answer may lie at an edge."
    )


def other_lengths(best: dict[int, np.ndarray]) -> str:
    """Say what the planned run has to do with it."""
    short, long = min(best), max(best)
    return (
        "A ladder climbs once, and does not ask how long the net will be trained afterwards. But "
        "the best learning rate depends on it: a short run must leave the plateau of step a in "
        "time, and a long one gains more from calm. For runs of "
        f"{short} epochs the best of the sweep is {number(float(np.median(best[short])))}, for "
        f"{long} epochs {number(float(np.median(best[long])))} (medians of {len(best[short])} "
        f"nets). The ladder's answer fits the {EPOCHS} epochs planned here. `Race` takes the "
        "length of the run into account."
    )


def chosen(best: list[float], answers: list[float]) -> str:
    """Say what was chosen while looking at results, and on which."""
    factors = [max(a / b, b / a) for a, b in zip(answers, best, strict=True)]
    within = sum(factor <= 2.0 for factor in factors)
    return (
        "The classifier's and the plateau finder's constants, the rule that reads a ladder with "
        f"long rungs (`turning`) and the length of the planned run ({EPOCHS} epochs, among 300, "
        "400 and 500) were chosen while looking at other nets of this problem: seeds 0 to 5 for "
        "the constants of the classifier, 20 to 35 for the rule and the length. The ten nets above "
        "were first run after that.\n\n"
        "The problem itself suits the ladder: with targets between 0 and 1, as in the chapter, the "
        "best learning rates of the nets lie close together. With the same targets stretched to "
        f"between -1 and 1 they lie from {number(min(best))} to {number(max(best))}, and the "
        f"ladder's own zoom is within a factor of 2 of the best for {within} of {len(best)} nets "
        f"(at worst {number(max(factors))})."
    )


def stretched(seed: int) -> tuple[float, float]:
    """The best of the sweep and the ladder's own answer with targets between -1 and 1."""
    net = problem(seed)
    train, held_out = (Examples(e.x, 2.0 * e.y - 1.0) for e in (net.train, net.held_out))
    other = TwoLayerNet(train, held_out, hidden=HIDDEN, batch=BATCH, seed=seed)
    best = run_search(other, seeds.LONG_SWEEP, plan()).lr
    return best, run_search(other, Ladder(SEGMENTS), plan()).lr


if __name__ == "__main__":
    main()
