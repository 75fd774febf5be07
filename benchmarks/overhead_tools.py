"""The bare training loop and three range tests, between bounds at which none of them stops."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

import lrsearch
from benchmarks.memory import Tool
from benchmarks.setting import Setting

LOW, HIGH = 1e-7, 1e-4


def bare_loop(setting: Setting, steps: int) -> int:
    """The training loop that anybody writes, with the loss read at every step."""
    losses = []
    setting.model.train()
    for inputs, targets in itertools.islice(_forever(setting.loader), steps):
        setting.optimizer.zero_grad()
        loss = setting.loss_fn(setting.model(inputs), targets)
        loss.backward()  # type: ignore[no-untyped-call]
        setting.optimizer.step()
        losses.append(loss.item())
    return len(losses)


def ours(setting: Setting, steps: int) -> int:
    """``lrsearch.find_lr`` with a range test between the bounds."""
    result = lrsearch.find_lr(
        setting.model,
        setting.optimizer,
        setting.loss_fn,
        setting.loader,
        method=lrsearch.RangeTest(steps=steps, min_lr=LOW, max_lr=HIGH),
        progress=False,
        throw=False,
    )
    return result.cost.steps


def torch_lr_finder(setting: Setting, steps: int) -> int:
    """torch-lr-finder, with its reset."""
    from torch_lr_finder import LRFinder

    finder = LRFinder(setting.model, setting.optimizer, setting.loss_fn)
    finder.range_test(
        setting.loader, start_lr=LOW, end_lr=HIGH, num_iter=steps, diverge_th=float("inf")
    )
    finder.reset()
    return len(finder.history["loss"])


def lightning(setting: Setting, steps: int) -> int:
    """Lightning's tuner in a trainer without logger, checkpoints and progress bar."""
    import pytorch_lightning as pl
    from pytorch_lightning.tuner import Tuner

    class Module(pl.LightningModule):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.model, self.lr = setting.model, LOW

        def training_step(self, batch: Any, _: int) -> Tensor:
            return setting.loss_fn(self.model(batch[0]), batch[1])

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return setting.optimizer

    with tempfile.TemporaryDirectory() as folder:
        trainer = pl.Trainer(
            accelerator="cpu",
            default_root_dir=folder,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        finder = Tuner(trainer).lr_find(
            Module(),
            train_dataloaders=setting.loader,
            min_lr=LOW,
            max_lr=HIGH,
            num_training=steps,
            early_stop_threshold=None,
        )
    return len(finder.results["loss"])


TOOLS: dict[str, Tool] = {
    "bare loop": bare_loop,
    "lrsearch": ours,
    "torch-lr-finder": torch_lr_finder,
    "lightning": lightning,
}


def _forever(loader: DataLoader[Any]) -> Iterator[Any]:
    while True:
        yield from loader
