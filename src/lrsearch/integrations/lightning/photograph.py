"""A trainer and all it holds, as it was: one call of the walker over Lightning's own objects.

Lightning keeps the state of a run in the attributes of many objects. Which ones they are is
its own affair: every attribute of every object that can be reached is kept, so that nothing
needs to be known about them.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, Sampler

from lrsearch.pytorch.object_state import ObjectState, capture

__all__ = ["photograph"]

_LIGHTNING = ("pytorch_lightning", "lightning", "lightning_fabric")
# Processes and their addresses go on existing, whatever is put back.
_OUTSIDE = (".launchers", ".environments")
# Optimizers, data sets and the wrapper that holds process groups are not ours to look into.
_CLOSED = (
    type,
    enum.Enum,
    torch.optim.Optimizer,
    Dataset,
    Sampler,
    nn.parallel.DistributedDataParallel,
)


def photograph(roots: Iterable[object], *, trained: bool = True) -> ObjectState:
    """Remember what can be reached from ``roots`` through attributes and containers.

    Followed are modules, Lightning's own objects, and anything with a ``state_dict``; not the
    inside of optimizers, data sets and other people's objects.

    Args:
        roots: where to begin.
        trained: whether to copy the parameters and buffers of modules too.
    """
    roots = [root for root in roots if root is not None]
    modules = [m for root in roots if isinstance(root, nn.Module) for m in root.modules()]
    apart = [] if trained else [own for m in modules for own in (m._parameters, m._buffers)]
    return capture([(type(root).__name__, root) for root in roots], follow=_followed, apart=apart)


def _followed(value: Any) -> bool:
    if isinstance(value, _CLOSED):
        return False
    home = type(value).__module__
    if home.partition(".")[0] in _LIGHTNING:
        return not any(part in home for part in _OUTSIDE)
    if isinstance(value, (nn.Module, DataLoader)):
        return True
    return callable(getattr(type(value), "state_dict", None))
