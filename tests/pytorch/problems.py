"""Small PyTorch problems shared by the tests: built anew at every call, seeded."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

CLASSES, FEATURES = 4, 8

OPTIMIZERS: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1),
    "momentum": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=1e-4),
    "nesterov": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True),
    "adam": lambda p: torch.optim.Adam(p, lr=1e-3),
    "adamw-amsgrad": lambda p: torch.optim.AdamW(p, lr=1e-3, amsgrad=True),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=1e-3, momentum=0.5, centered=True),
    "adagrad": lambda p: torch.optim.Adagrad(p, lr=1e-2),
    "adadelta": lambda p: torch.optim.Adadelta(p, lr=1.0),
    "tensor-lr": lambda p: torch.optim.Adam(p, lr=torch.tensor(1e-3), capturable=False),
    "fused": lambda p: torch.optim.AdamW(p, lr=1e-3, fused=True),
    "foreach": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, foreach=True),
}


def data(examples: int = 256, seed: int = 0) -> TensorDataset:
    """Four noisy clusters: easy enough to learn in a hundred steps, never perfectly."""
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(CLASSES, FEATURES, generator=generator)
    labels = torch.arange(examples) % CLASSES
    inputs = centres[labels] + 0.8 * torch.randn(examples, FEATURES, generator=generator)
    return TensorDataset(inputs, labels)


def loader(batch_size: int = 16, shuffle: bool = True, **options: Any) -> DataLoader[Any]:
    return DataLoader(data(), batch_size=batch_size, shuffle=shuffle, **options)


def network(seed: int = 0) -> nn.Module:
    """BatchNorm, dropout and a tied-in buffer: everything that training changes."""
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Linear(FEATURES, 16),
        nn.BatchNorm1d(16),
        nn.ReLU(),
        nn.Dropout(0.2),
        nn.Linear(16, CLASSES),
    )


def train(
    model: nn.Module, optimizer: torch.optim.Optimizer, batches: DataLoader[Any], steps: int
) -> list[float]:
    """A bare training loop; the losses, one per step."""
    losses: list[float] = []
    model.train()
    while len(losses) < steps:
        for inputs, targets in batches:
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(inputs), targets)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
            if len(losses) == steps:
                break
    return losses
