"""What Accelerate and Fabric wrap around a training, looked through.

Their wrappers hand every call on to the object inside, with bookkeeping of their own around it: a
step that waits for the last micro-batch, a loader that counts its passes, a backward pass that is
allowed in one place only. A search makes the calls itself, so it takes what is inside.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

__all__ = ["backward_allowed", "inner_loader", "optimizers_of", "same_objects", "scaler_of"]

_PACKAGES = ("accelerate", "lightning", "lightning_fabric")


def optimizers_of(given: Any) -> tuple[torch.optim.Optimizer, ...]:
    """Return the optimizers in ``given``: itself, or those of a list, without their wrappers.

    Example:
        >>> weight = torch.nn.Parameter(torch.ones(2))
        >>> first, second = torch.optim.SGD([weight]), torch.optim.Adam([weight])
        >>> optimizers_of([first, second]) == (first, second)
        True
    """
    several = isinstance(given, (list, tuple))
    return tuple(_inner_optimizer(one) for one in (given if several else [given]))


def same_objects(one: Any, other: Any) -> bool:
    """Whether both are the same object, or lists of the same objects."""
    if isinstance(one, (list, tuple)) and isinstance(other, (list, tuple)):
        return len(one) == len(other) and all(a is b for a, b in zip(one, other, strict=True))
    return one is other


def scaler_of(given: Any) -> torch.amp.GradScaler | None:
    """Return the loss scaler that a wrapper around an optimizer steps by, if there is one."""
    for one in given if isinstance(given, (list, tuple)) else [given]:
        if _wraps(one):
            precision = getattr(vars(one).get("_strategy"), "precision", None)
            scaler = vars(one).get("scaler") or getattr(precision, "scaler", None)
            if scaler is not None:
                return scaler  # type: ignore[no-any-return]
    return None


def inner_loader(loader: Any) -> Any:
    """Return the loader in Fabric's, which counts passes where nothing takes them back."""
    return vars(loader)["_dataloader"] if _wraps(loader, "_dataloader") else loader


@contextmanager
def backward_allowed(model: nn.Module) -> Iterator[None]:
    """Let ``loss.backward()`` run on what a module of Fabric returned.

    Such a module wants ``fabric.backward(loss)``, which scales the loss and then does the same.
    """
    model = getattr(model, "_orig_mod", model)  # compiled
    home = sys.modules.get(type(model).__module__)
    flag = "_in_fabric_backward"
    if type(model).__name__ != "_FabricModule" or not hasattr(home, flag):
        yield
        return
    before = getattr(home, flag)
    setattr(home, flag, True)
    try:
        yield
    finally:
        setattr(home, flag, before)


def _inner_optimizer(one: Any) -> Any:
    while _wraps(one):
        one = one.optimizer
    return one


def _wraps(one: Any, name: str = "optimizer") -> bool:
    """Whether ``one`` is an object of these packages that holds another under this name."""
    homes = {kind.__module__.partition(".")[0] for kind in type(one).__mro__}
    held: Sequence[str] = (name, f"_{name}")
    own = getattr(one, "__dict__", {})
    return not homes.isdisjoint(_PACKAGES) and any(key in own for key in held)
