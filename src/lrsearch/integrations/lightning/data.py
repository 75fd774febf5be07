"""The batches that ``trainer.fit`` would train and validate on, as plain streams."""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Iterator
from typing import Any, NamedTuple

from lrsearch.errors import InvalidArgument, Words
from lrsearch.integrations.lightning.package import setup_data
from lrsearch.pytorch.loss import to_device
from lrsearch.pytorch.random_state import generators_of

__all__ = ["Batches", "Item", "loaders_of"]


class Item(NamedTuple):
    """A batch on the trainer's device, with what else a step of the module is told."""

    batch: Any
    index: Any
    loader: int | None = None
    held_out: bool = False


class Batches:
    """One pass after another over a combined loader, each batch as the trainer hands it over.

    The loader of the trainer itself is left alone: its iterator may be in use.

    Args:
        trainer: whose hooks convert and move the batches.
        combined: the combined loader of ``fit`` or of its validation.
        limits: the most batches of each loader.
        held_out: whether this is the validation.
    """

    def __init__(self, trainer: Any, combined: Any, limits: Any, *, held_out: bool = False) -> None:
        self._trainer = trainer
        self._combined = combined
        self._limits = limits
        self._held_out = held_out
        self.generators = tuple(
            generator for loader in combined.flattened for generator in generators_of(loader)
        )

    def __len__(self) -> int:
        """The batches of one pass; a ``TypeError`` where that is not known."""
        if self._held_out or self._limits == math.inf:
            raise TypeError("the length is not known")
        return int(self._limits)

    def __iter__(self) -> Iterator[Item]:
        return self._validation() if self._held_out else self._training()

    def _training(self) -> Iterator[Item]:
        combined = copy.copy(self._combined)
        combined.flattened = [_fresh(loader) for loader in self._combined.flattened]
        for batch, index, _ in itertools.islice(combined, _most(self._limits)):
            yield Item(self._handed_over(batch, 0), index)

    def _validation(self) -> Iterator[Item]:
        loaders = [_fresh(loader) for loader in self._combined.flattened]
        several = len(loaders) > 1
        for place, (loader, limit) in enumerate(zip(loaders, self._limits, strict=True)):
            for index, batch in enumerate(itertools.islice(loader, _most(limit))):
                item = self._handed_over(batch, place)
                yield Item(item, index, place if several else None, held_out=True)

    def _handed_over(self, batch: Any, loader: int) -> Any:
        strategy = self._trainer.strategy
        if strategy.root_device.type == "cpu":
            batch = to_device(batch, strategy.root_device)  # a copy: the batch may be the user's
        batch = strategy.precision_plugin.convert_input(batch)
        batch = self._trainer.lightning_module._on_before_batch_transfer(batch, loader)
        return strategy.batch_to_device(batch, dataloader_idx=loader)


def loaders_of(trainer: Any) -> tuple[Batches, Batches | None]:
    """Return the training batches and, where ``fit`` would validate, the held-out ones.

    Raises:
        InvalidArgument: there are no training batches.
    """
    train, validation = setup_data(trainer)
    if train is None or trainer.num_training_batches == 0:
        raise InvalidArgument.of(
            "train_dataloaders",
            Words("no training batches"),
            "at least one",
            "Pass train_dataloaders or a datamodule, and check limit_train_batches and drop_last.",
        )
    batches = Batches(trainer, train, trainer.num_training_batches)
    if validation is None or not any(trainer.num_val_batches):
        return batches, None
    return batches, Batches(trainer, validation, trainer.num_val_batches, held_out=True)


def _most(limit: float) -> int | None:
    return None if limit == math.inf else int(limit)


def _fresh(loader: Any) -> Any:
    """Return the loader, or a copy of one that keeps a single iterator with its workers."""
    if getattr(loader, "persistent_workers", False) is not True:
        return loader
    loader = copy.copy(loader)
    vars(loader)["_iterator"] = None
    return loader
