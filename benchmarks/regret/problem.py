"""What a benchmark task is: a planned run that any learning-rate tool can be pointed at."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    RandomSampler,
    SequentialSampler,
    TensorDataset,
)

from lrsearch.core.schedule import Shape

Loader = DataLoader[Any]
LossFn = Callable[[Any, Tensor], Tensor]

VAL_BATCH = 1024


@dataclass(frozen=True)
class Problem:
    """One freshly initialised planned run, ready for any tool.

    Every batch is a pair ``(inputs, targets)`` and the loss of a batch is
    ``loss_fn(model(inputs), targets)``. The lr already in `optimizer` is a customary default;
    what matters of it is the ratio between parameter groups.
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer
    loss_fn: LossFn
    train_loader: Loader
    val_loader: Loader


@dataclass(frozen=True)
class Task:
    """A planned run whose best lr the oracle knows.

    Attributes:
        name: unique, ``data-model-optimizer``; also the name of the oracle's file.
        model: the kind of model, in words.
        family: the optimizer family, in words.
        train_steps: planned optimizer steps, > 0.
        schedule: the lr's shape or its name, see `lrsearch.core.schedule`.
        batch_size: examples per step.
        build: ``build(seed) -> Problem``; the seed decides initial weights, data order and
            dropout. The data set and its train/validation split never change.
        note: what the task is there to show, where it is there for a reason of its own.
    """

    name: str
    model: str
    family: str
    train_steps: int
    schedule: str | Shape
    batch_size: int
    build: Callable[[int], Problem]
    note: str = ""


def loaders(
    train: tuple[Tensor, Tensor], val: tuple[Tensor, Tensor], batch_size: int, seed: int
) -> tuple[Loader, Loader]:
    """A shuffling train loader (incomplete last batch dropped) and a validation loader in order.

    The data set is indexed with whole batches, which spares one Python call per example. The
    order of the data comes from a generator of its own, so that dropout does not disturb it.

    Args:
        train: inputs and targets, first dimension examples.
        val: likewise, held out.
        batch_size: examples per training batch, at most ``len(train[0])``.
        seed: decides the order of the training data.
    """
    if batch_size > len(train[0]):
        raise ValueError(
            f"batch_size={batch_size} is larger than the training set of {len(train[0])} "
            "examples: no batch would be complete. Pass a smaller batch_size."
        )
    generator = torch.Generator().manual_seed(seed)
    train_set, val_set = TensorDataset(*train), TensorDataset(*val)
    order = BatchSampler(RandomSampler(train_set, generator=generator), batch_size, drop_last=True)
    in_order = BatchSampler(SequentialSampler(val_set), VAL_BATCH, drop_last=False)
    return (
        DataLoader(train_set, sampler=order, batch_size=None, generator=generator),
        DataLoader(val_set, sampler=in_order, batch_size=None),
    )
