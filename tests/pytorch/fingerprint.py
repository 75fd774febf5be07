"""Everything that a search must leave as it was, as plain comparable values."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn


def fingerprint(model: nn.Module, optimizer: torch.optim.Optimizer, *more: Any) -> dict[str, Any]:
    """Return a deep, comparable copy of model, optimizer, random states and ``more``.

    ``more`` are objects with a ``state_dict`` or generators.
    """
    return {
        "tensors": {
            name: plain(tensor)
            for name, tensor in (*model.named_parameters(), *model.named_buffers())
        },
        "identity": {name: id(tensor) for name, tensor in model.named_parameters()},
        "grads": {
            name: None if p.grad is None else (id(p.grad), plain(p.grad))
            for name, p in model.named_parameters()
        },
        "requires_grad": {name: p.requires_grad for name, p in model.named_parameters()},
        "modes": {name: module.training for name, module in model.named_modules()},
        "hooks": {
            name: (len(m._forward_hooks), len(m._forward_pre_hooks), len(m._backward_hooks))
            for name, m in model.named_modules()
        },
        "optimizer": plain(optimizer.state_dict()),
        "optimizer flags": {
            k: v for k, v in vars(optimizer).items() if isinstance(v, (bool, int, float, str))
        },
        "python": random.getstate(),
        "numpy": plain(np.random.get_state(legacy=False)),  # noqa: NPY002
        "torch": plain(torch.get_rng_state()),
        "more": [
            plain(m.get_state() if isinstance(m, torch.Generator) else m.state_dict()) for m in more
        ],
    }


def plain(value: Any) -> Any:
    """Tensors and arrays become (dtype, shape, bytes); containers are copied."""
    if isinstance(value, Tensor):
        if hasattr(value, "to_local"):
            value = value.to_local()  # of a sharded tensor, the shard of this process
        array = value.detach().cpu().clone().contiguous()  # numpy() would fix its size
        return (str(array.dtype), tuple(array.shape), array.numpy().tobytes())
    if isinstance(value, np.ndarray):
        return (str(value.dtype), value.shape, value.tobytes())
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return value
