"""The batches of every update, gathered as the trainer's own loop gathers them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from transformers import Trainer

from lrsearch.pytorch.loss import to_device

__all__ = ["Update", "Updates"]


@dataclass(frozen=True)
class Update:
    """The micro-batches of one update, and over how many items its loss is a mean.

    Attributes:
        batches: as the loader gave them.
        items: labels in all of them together, or ``None`` when the trainer does not count them.
    """

    batches: tuple[Any, ...]
    items: Any


class Updates:
    """Cycle through an epoch of the trainer's own loader, update by update.

    An epoch ends with a smaller update when it does not divide evenly. Of a loader without a
    length, batches that do not fill an update are left out, as the trainer leaves them.

    Args:
        trainer: whose training has begun.
    """

    def __init__(self, trainer: Trainer) -> None:
        self.loader = trainer.get_train_dataloader()
        self._trainer = trainer
        self._size = int(trainer.args.gradient_accumulation_steps)

    def __len__(self) -> int:
        return -(-len(self.loader) // self._size)

    def __iter__(self) -> Iterator[Update]:
        try:
            left = len(self.loader)
        except TypeError:
            left = None
        batches = iter(self.loader)
        while left is None or left > 0:
            size = self._size if left is None else min(self._size, left)
            device = self._trainer.args.device
            samples, items = self._trainer.get_batch_samples(batches, size, device)
            if len(samples) < (size if left is None else 1):
                return
            if device.type == "cpu":
                samples = to_device(list(samples), device)  # a copy: they may be the user's
            yield Update(tuple(samples), items)
            left = None if left is None else left - size
