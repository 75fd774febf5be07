"""The losses of all lanes on one batch, and their gradients, by ``vmap`` over the lanes."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from lrsearch.errors import InvalidArgument
from lrsearch.pytorch.lanes.lowering import Lowering
from lrsearch.pytorch.lanes.state import LaneState
from lrsearch.pytorch.loss import ComputeLoss

__all__ = ["Gradients", "Objective"]


@dataclass(frozen=True)
class Gradients:
    """What one batch says: losses ``(lanes,)``, and a gradient per parameter where there is one."""

    losses: Tensor
    gradients: tuple[Tensor | None, ...]


class Objective:
    """``compute_loss(model, batch)`` for many sets of weights of one model at once.

    The model lends its code and its modes; while it is called, the lanes' tensors take the
    place of its own, and leave it as it was afterwards.
    """

    def __init__(self, model: nn.Module, compute_loss: ComputeLoss) -> None:
        self._module = _LossModule(model, compute_loss)

    def gradients(
        self, state: LaneState, batch: Any, ones: Tensor, *, lowered: bool = False
    ) -> Gradients:
        """Return losses and gradients; buffers that training changes are changed in ``state``.

        Args:
            state: the lanes.
            batch: what ``compute_loss`` takes, on the model's device; the same for all lanes.
            ones: the derivative of the summed losses by each of them, ``(lanes,)``.
            lowered: whether to write layers as in :mod:`~lrsearch.pytorch.lanes.lowering`.
        """
        parameters = state.parameters
        with torch.enable_grad(), _quiet():
            losses = self._losses(state, batch, Lowering() if lowered else nullcontext())
            if losses.dtype != ones.dtype:
                raise RuntimeError(f"losses in {losses.dtype} from parameters in {ones.dtype}")
            gradients = torch.autograd.grad(
                losses,
                list(parameters.values()),
                grad_outputs=ones,
                allow_unused=True,
            )
        return Gradients(losses.detach(), gradients)

    def values(self, state: LaneState, batch: Any, lane: int | None = None) -> Tensor:
        """Return the losses ``(lanes,)`` without gradients, or the loss of one lane."""
        with torch.no_grad(), _quiet():
            if lane is None:
                return self._losses(state, batch, Lowering())
            own = {**state.parameters, **state.buffers}
            tensors = {**state.shared, **{name: tensor[lane] for name, tensor in own.items()}}
            named = {f"model.{name}": tensor for name, tensor in tensors.items()}
            return _scalar(functional_call(self._module, named, (batch,)))

    def _losses(
        self, state: LaneState, batch: Any, lowering: AbstractContextManager[Any]
    ) -> Tensor:
        def of_one_lane(
            parameters: dict[str, Tensor], buffers: dict[str, Tensor]
        ) -> tuple[Tensor, dict[str, Tensor]]:
            tensors = {**state.shared, **parameters, **buffers}
            named = {f"model.{name}": tensor for name, tensor in tensors.items()}
            with lowering:
                loss = functional_call(self._module, named, (batch,))
            for name, tensor in state.shared.items():
                if named[f"model.{name}"] is not tensor:
                    raise RuntimeError(f"the forward pass replaces the buffer {name!r}")
            return _scalar(loss), {name: named[f"model.{name}"] for name in buffers}

        losses, buffers = vmap(of_one_lane, randomness="same")(state.parameters, state.buffers)
        for name, buffer in buffers.items():
            kept = state.buffers[name]
            if buffer.data_ptr() != kept.data_ptr():
                kept.copy_(buffer.detach())
        return losses


class _LossModule(nn.Module):
    """A loss as a module, since ``functional_call`` swaps the tensors of a module."""

    def __init__(self, model: nn.Module, compute_loss: ComputeLoss) -> None:
        super().__init__()
        # A new module is in training mode, but setting a mode here would reach the model.
        self.model = model
        self._compute_loss = compute_loss

    def forward(self, batch: Any) -> Tensor | None:
        return self._compute_loss(self.model, batch)


def _scalar(loss: object) -> Tensor:
    if not isinstance(loss, Tensor) or loss.numel() != 1:
        raise InvalidArgument.of("loss", loss, "a scalar torch tensor")
    return loss.reshape(())


@contextmanager
def _quiet() -> Iterator[None]:
    """Leave unsaid that some operation has no batched kernel: how fast it is gets measured."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="There is a performance drop")
        yield
