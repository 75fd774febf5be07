"""From a model and a batch to a scalar loss, for the shapes that batches come in."""

from __future__ import annotations

import copy
import dataclasses
import numbers
from collections.abc import Callable, Iterable, Mapping, MutableMapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lrsearch.core.validation import can_take
from lrsearch.errors import InvalidArgument, Words

__all__ = [
    "ComputeLoss",
    "PairLoss",
    "batch_size",
    "checked_loss",
    "default_loss",
    "number_of",
    "to_device",
]

ComputeLoss = Callable[[nn.Module, Any], Tensor | None]  # None: the batch is passed over

_PARTS = 16  # of a batch
_WAY_OUT = "Pass compute_loss=..., a function (model, batch) -> scalar loss, for any other batch."


def default_loss(loss_fn: Callable[[Any, Any], Tensor] | None) -> ComputeLoss:
    """Return ``compute_loss`` for batches of two, mappings, and outputs with their own loss.

    With a ``loss_fn``, a batch is a pair ``(inputs, targets)``. Without, a mapping goes to
    the model as keyword arguments, a tuple or list as positional ones, anything else as it
    is, and the output's ``.loss`` (or ``["loss"]``) is used. A batch that is ``None``, as a
    collate function returns for broken files, is passed over.
    """
    if loss_fn is None:
        return _own_loss

    return PairLoss(loss_fn)


@dataclasses.dataclass(frozen=True)
class PairLoss:
    """``loss_fn`` on batches ``(inputs, targets)``."""

    loss_fn: Callable[[Any, Any], Tensor]

    def __call__(self, model: nn.Module, batch: Any) -> Tensor | None:
        """Return the loss of the model on the batch; ``None`` of no batch."""
        if batch is None:
            return None
        self.check(batch)
        return self.loss_fn(model(batch[0]), batch[1])

    def in_parts(self, model: nn.Module, batch: Any) -> list[float]:
        """Return the losses of equal parts of a batch, or none where it cannot be cut.

        The parts are drawn at random, always the same: examples may lie in an order.
        """
        try:
            output, targets = model(batch[0]), batch[1]
            size = len(targets) // _PARTS
            if len(output) != len(targets) or size < 2:
                return []
            order = torch.randperm(len(targets), generator=torch.Generator().manual_seed(0))
            parts = order.to(targets.device)[: size * _PARTS].reshape(_PARTS, size)
            return [float(self.loss_fn(output[part], targets[part])) for part in parts]
        except Exception:  # whatever a loss says to a part of a batch: it is no part then
            return []

    @staticmethod
    def check(batch: Any, name: str = "train_loader") -> None:
        """Raise unless a batch is a pair; ``name`` is the loader it came from."""
        if not isinstance(batch, (tuple, list)) or len(batch) != 2:
            raise InvalidArgument.of(
                name, _described(batch), "batches (inputs, targets) with loss_fn", _WAY_OUT
            )


def checked_loss(loss: object) -> Tensor:
    """Return ``loss`` if it is a scalar with a gradient.

    Raises:
        InvalidArgument: it is no tensor, has more than one element, or needs no gradient.
    """
    if not isinstance(loss, Tensor):
        raise InvalidArgument.of("loss", loss, "a scalar torch tensor")
    if loss.numel() != 1:
        raise InvalidArgument.of(
            "loss",
            Words(f"a tensor of shape {tuple(loss.shape)}"),
            "a scalar",
            "Take its mean, or use reduction='mean'.",
        )
    if not loss.requires_grad:
        raise InvalidArgument.of(
            "loss",
            Words("a tensor that needs no gradient"),
            "one that depends on the model's parameters",
            "Was it detached, computed under no_grad, or are all parameters frozen?",
        )
    return loss.reshape(())


def number_of(name: str, value: object) -> float:
    """Return what a function of the user's measured as a float; it may be NaN.

    Args:
        name: of the function.
        value: a tensor of one element, or a number of Python's or NumPy's.

    Raises:
        InvalidArgument: it is something else.

    Example:
        >>> number_of("evaluate", torch.tensor([0.5]))
        0.5
    """
    if isinstance(value, Tensor):
        if value.numel() == 1 and not value.is_complex():
            return float(value.detach())
        got: object = Words(f"a tensor of shape {tuple(value.shape)}")
    else:
        if isinstance(value, numbers.Real) and not isinstance(value, bool):
            return float(value)
        array = np.asarray(value) if isinstance(value, (np.ndarray, np.generic)) else None
        if array is not None and array.size == 1 and array.dtype.kind in "fiu":
            return float(array.reshape(()))
        got = Words(f"{type(value).__name__} {value!r}"[:80]) if value is not None else None
    raise InvalidArgument.of(f"{name}(...)", got, "one number, or a tensor of one element")


def to_device(batch: Any, device: torch.device) -> Any:
    """Return a copy of the batch with every tensor on ``device``, in containers of any depth.

    A model may work in place on what it is given, and the batch may be the user's own. What
    has a method ``to`` moves by itself. Mappings, lists, tuples and dataclasses stay of their
    type.
    """
    if isinstance(batch, Tensor):
        there = batch.to(device, non_blocking=True)
        if there is not batch:
            return there
        own = batch.detach().clone()
        return own.requires_grad_() if batch.requires_grad else own
    if isinstance(batch, np.ndarray):
        return batch.copy()
    if callable(getattr(batch, "to", None)) and not isinstance(batch, type):
        return _deep_copy(batch).to(device)
    if isinstance(batch, tuple):
        moved = (to_device(item, device) for item in batch)
        return type(batch)(*moved) if hasattr(batch, "_fields") else type(batch)(moved)
    if isinstance(batch, list):
        return _changed(batch, enumerate([to_device(item, device) for item in batch]))
    if isinstance(batch, MutableMapping):
        return _changed(batch, [(key, to_device(item, device)) for key, item in batch.items()])
    if isinstance(batch, Mapping):
        return {key: to_device(item, device) for key, item in batch.items()}
    if dataclasses.is_dataclass(batch) and not isinstance(batch, type):
        copied = copy.copy(batch)
        for name, item in _fields(batch).items():
            object.__setattr__(copied, name, to_device(item, device))  # frozen ones too
        return copied
    return batch


def batch_size(batch: Any) -> int:
    """Return the first dimension of the first tensor in the batch, 1 when there is none."""
    size = _first_size(batch)
    return 1 if size is None else size


def _first_size(batch: Any) -> int | None:
    if isinstance(batch, Tensor):
        return int(batch.shape[0]) if batch.ndim else 1
    items: Iterable[Any] = ()
    if isinstance(batch, Mapping):
        items = batch.values()
    elif isinstance(batch, (tuple, list)):
        items = batch
    elif dataclasses.is_dataclass(batch) and not isinstance(batch, type):
        items = _fields(batch).values()
    sizes = (_first_size(item) for item in items)
    return next((size for size in sizes if size is not None), None)


def _deep_copy(batch: Any) -> Any:
    try:
        return copy.deepcopy(batch)
    except Exception:  # whatever its parts say to being copied
        return batch


def _changed(container: Any, items: Iterable[tuple[Any, Any]]) -> Any:
    """Return a shallow copy with these items; a subclass keeps what else it has."""
    copied = copy.copy(container)
    for key, item in items:
        copied[key] = item
    return copied


def _fields(batch: Any) -> dict[str, Any]:
    return {field.name: getattr(batch, field.name) for field in dataclasses.fields(batch)}


def _own_loss(model: nn.Module, batch: Any) -> Tensor | None:
    if batch is None:
        return None
    given: tuple[Any, ...] = tuple(batch) if isinstance(batch, (tuple, list)) else (batch,)
    named: Mapping[str, Any] = batch if isinstance(batch, Mapping) else {}
    given = () if isinstance(batch, Mapping) else given
    try:
        output = model(*given, **named)
    except TypeError as error:
        if can_take(getattr(model, "module", model).forward, *given, **named):
            raise
        expected = "a loss_fn, or a model that takes the whole batch and returns its own loss"
        got = Words(f"None, and {_described(batch)} that the model does not take")
        raise InvalidArgument.of("loss_fn", got, expected, _WAY_OUT) from error
    loss = output.get("loss") if isinstance(output, Mapping) else getattr(output, "loss", None)
    if loss is None and isinstance(output, Tensor) and output.numel() == 1:
        return output
    if loss is None:
        raise InvalidArgument.of(
            "loss_fn", None, "a model whose output carries its own .loss", _WAY_OUT
        )
    return loss  # type: ignore[no-any-return]


def _described(batch: object) -> Words:
    kind = type(batch).__name__
    if isinstance(batch, Mapping):
        return Words(f"a {kind} with keys {sorted(map(str, batch))}")
    return Words(f"a {kind} of {len(batch)}" if isinstance(batch, (tuple, list)) else f"a {kind}")
