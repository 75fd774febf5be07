"""What a training is made of, as far as lanes need to know it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from lrsearch.pytorch.batches import BatchStream
from lrsearch.pytorch.loss import ComputeLoss

__all__ = ["LaneRecipe"]


@dataclass(frozen=True)
class LaneRecipe:
    """What a trainable is made of, as far as lanes need it.

    Attributes:
        model: lends its code; its weights are where the lanes begin.
        optimizer: its options, and the state the lanes begin with.
        compute_loss: ``compute_loss(model, batch)`` on the model's device.
        multipliers: learning rate of each parameter group over that of the first.
        batches: the training data, at the place where the lanes begin.
        held_out: the held-out data, if there is any.
        accumulate: batches per update; fewer at the end of a pass.
        clip_grad_norm: the largest norm of a lane's gradient, or ``None``.
        clip_grad_value: the largest size of an element of the gradient, or ``None``.
        seed: what a run that has made no update yet seeds everything with.
        updates: updates made before.
        autocast: whether ``compute_loss`` runs under autocast.
        grad_scaler: the loss scaler, if there is one.
        moving: names of the buffers that training changes.
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer
    compute_loss: ComputeLoss
    multipliers: tuple[float, ...]
    batches: BatchStream
    held_out: BatchStream | None
    accumulate: int
    clip_grad_norm: float | None
    seed: int
    updates: int
    autocast: bool = False
    grad_scaler: torch.amp.GradScaler | None = None
    clip_grad_value: float | None = None
    moving: frozenset[str] = frozenset()
