"""What a tool is given in the benchmarks of time and memory."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader


@dataclass(frozen=True)
class Setting:
    """A model with everything that trains it; a batch is a pair ``(inputs, targets)``."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    loss_fn: Callable[[Any, Tensor], Tensor]
    loader: DataLoader[Any]


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Drop what the tools print, log and warn."""
    logging.disable(logging.CRITICAL)
    sink = io.StringIO()
    try:
        with (
            contextlib.redirect_stdout(sink),
            contextlib.redirect_stderr(sink),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logging.NOTSET)
