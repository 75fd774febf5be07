"""The best learning rate against the length and the schedule of the run, from real runs.

``python -m benchmarks.planned_run`` trains a small network on scikit-learn's digits at every
learning rate of a grid, for several lengths, schedules and seeds, and draws where the held-out
loss is lowest. The picture and its JSON are what README and tutorial show.
"""

from __future__ import annotations

from typing import Any

import matplotlib as mpl
import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from benchmarks.environment import environment
from benchmarks.markdown import ROOT, write_between_markers
from benchmarks.results_file import write_json
from lrsearch.core.curve import final_loss
from lrsearch.core.search import Plan, run_search
from lrsearch.demos.digits import digits
from lrsearch.methods.sweep import Sweep
from lrsearch.pytorch.trainable import torch_trainable

LENGTHS = (50, 100, 200, 400, 800, 1600)
SCHEDULES = ("constant", "linear", "cosine", "one-cycle")
SEEDS = (0, 1, 2)
LRS = tuple(float(f"{10.0**power:.6g}") for power in np.arange(-2.6, 0.81, 0.2))
PICTURE = ROOT / "docs" / "images" / "planned_run.png"


def main() -> None:
    """Entry point."""
    torch.set_num_threads(1)
    best = {schedule: [_best(length, schedule) for length in LENGTHS] for schedule in SCHEDULES}
    content: dict[str, Any] = {
        "environment": environment("torch", "numpy", "scikit-learn"),
        "task": "digits, 64-32-10 MLP, SGD with momentum 0.9, batches of 64, held-out loss",
        "lengths": LENGTHS,
        "seeds": len(SEEDS),
        "lrs": LRS,
        "best": best,
    }
    print("wrote", write_json("planned_run", content))
    draw(content)
    print("wrote", PICTURE.name)
    publish(content)


def publish(content: dict[str, Any]) -> None:
    """Write what it means into README and tutorial."""
    for page, folder in (("README.md", "docs/images"), ("docs/tutorial.md", "images")):
        write_between_markers(ROOT / page, "planned-run", section(content, folder))


def section(content: dict[str, Any], folder: str) -> str:
    """Three sentences, with the figures of the runs, and the picture."""
    best, lengths = content["best"], content["lengths"]
    linear, constant = best["linear"], best["constant"]
    early = lengths.index(100)
    return (
        f"A learning rate is best for one run: the same network on the same data wants "
        f"{linear[0]:.2g} for {lengths[0]} updates and {linear[-1]:.2g} for {lengths[-1]} "
        f"(linear decay), because a longer run reaches as far with smaller steps and gains more "
        f"from their calm. The schedule matters as much: at {lengths[early]} updates a constant "
        f"rate is best at {constant[early]:.2g} and one that decays to zero at a peak of "
        f"{linear[early]:.2g}, since it may be bold first and calm later. So a test of 100 updates "
        f"answers for 100 updates; give `find_lr` the `train_steps` and the `schedule` of the run "
        f"you plan, and it searches for that one.\n\n"
        f"![Best learning rate against length, for four schedules]({folder}/{PICTURE.name})\n\n"
        f"({content['task']}; {content['seeds']} seeds, every point from a sweep of "
        f"{len(content['lrs'])} rates: `python -m benchmarks.planned_run`.)"
    )


def _best(length: int, schedule: str) -> float:
    """The bottom of the parabola around the lowest mean loss."""
    losses = np.mean([_losses(length, schedule, seed) for seed in SEEDS], axis=0)
    place = int(np.argmin(losses))
    at = np.log10(LRS[place])
    if 0 < place < len(LRS) - 1 and np.isfinite(losses[place - 1 : place + 2]).all():
        before, here, after = losses[place - 1 : place + 2]
        at += 0.1 * (before - after) / (before - 2.0 * here + after)
    print(f"{schedule} {length}: {10.0**at:.3g}", flush=True)
    return float(f"{10.0**at:.4g}")


def _losses(length: int, schedule: str, seed: int) -> list[float]:
    data = digits()
    images, labels = next(iter(DataLoader(data["train_loader"].dataset, batch_size=2000)))
    train = TensorDataset(images.flatten(1), labels)
    held_out, held_labels = next(iter(data["val_loader"]))
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    trainable = torch_trainable(
        model,
        torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9),
        nn.functional.cross_entropy,
        DataLoader(train, batch_size=64, shuffle=True, drop_last=True),
        val_loader=[(held_out.flatten(1), held_labels)],
        seed=seed,
    )
    found = run_search(trainable, Sweep(lrs=LRS), Plan(length, schedule))
    return [final_loss(curve) for curve in found.curves]


def draw(content: dict[str, Any]) -> None:
    """Draw best learning rate against length, a line per schedule."""
    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(6.4, 3.8), layout="constrained")
    for schedule, lrs in content["best"].items():
        axes.plot(content["lengths"], lrs, marker="o", label=schedule)
    axes.set(
        xscale="log",
        yscale="log",
        xlabel="length of the run (optimizer updates)",
        ylabel="best peak learning rate",
        title="One network, one data set: the best rate depends on the planned run",
    )
    axes.set_xticks(content["lengths"], [str(length) for length in content["lengths"]])
    ticks = (0.07, 0.1, 0.15, 0.2, 0.3, 0.5)
    axes.set_yticks(ticks, [str(tick) for tick in ticks])
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    axes.legend(title="schedule", frameon=False)
    figure.savefig(PICTURE, dpi=120)
    plt.close(figure)


if __name__ == "__main__":
    main()
