"""Trainings of PyTorch in which the learning rate moves nothing, or nothing that matters."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import lrsearch

BATCH = 16
STEPS = 200
Optimizer = torch.optim.Optimizer


@dataclass(frozen=True)
class Setup:
    """A model with its optimizer and data (inputs and targets)."""

    model: nn.Module
    optimizer: Optimizer
    train: tuple[Tensor, Tensor]
    held_out: tuple[Tensor, Tensor]


def _data(rows: int = 512, learnable: float = 0.0) -> tuple[Tensor, Tensor]:
    inputs = torch.randn(rows, 8)
    return inputs, learnable * inputs.sum(1, keepdim=True) + torch.randn(rows, 1)


def dead_relu() -> Setup:
    """All inputs of the ReLU are negative, and the last constant is fixed: no gradient."""
    net = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 1))
    first, last = net[0], net[2]
    assert isinstance(first, nn.Linear)
    assert isinstance(last, nn.Linear)
    nn.init.constant_(first.bias, -100.0)
    last.bias.requires_grad_(False)
    return Setup(net, torch.optim.SGD(net.parameters(), lr=0.1), _data(), _data())


class Detached(nn.Module):
    """Features that are detached before a frozen head; a parameter that is in vain."""

    def __init__(self) -> None:
        super().__init__()
        self.features, self.head = nn.Linear(8, 8), nn.Linear(8, 1).requires_grad_(False)
        self.scale = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.features(x).detach()) + 0 * self.scale
        return out


def detached() -> Setup:
    """No gradient reaches the features."""
    net = Detached()
    return Setup(net, torch.optim.Adam(net.parameters()), _data(), _data())


class IgnoresRate(torch.optim.Optimizer):
    """An optimizer that has a learning rate and steps by another."""

    def __init__(self, params: Any, lr: float = 0.1) -> None:
        super().__init__(params, {"lr": lr})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Update at 0.02, whatever was asked for."""
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.sub_(parameter.grad, alpha=0.02)


def ignored_rate() -> Setup:
    """The loss falls as it would at 0.02, at every learning rate."""
    net = nn.Linear(8, 1)
    return Setup(net, IgnoresRate(net.parameters()), _data(learnable=0.5), _data(learnable=0.5))


def _shifted() -> tuple[Tensor, Tensor]:
    inputs, targets = _data()
    return 5.0 + 3.0 * inputs, targets


def _normalised(head: nn.Linear) -> nn.Sequential:
    return nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), head)


def frozen_batchnorm() -> Setup:
    """All weights are frozen but one in vain; running statistics alone lower the held-out loss."""
    net = _normalised(nn.Linear(16, 1)).requires_grad_(False)
    unused = nn.Parameter(torch.zeros(3))
    net.register_parameter("unused", unused)

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net, self.unused = net, unused

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.net(x) + 0 * self.unused.sum()
            return out

    return Setup(Model(), torch.optim.SGD([unused], lr=0.1), _shifted(), _shifted())


def noise_batchnorm() -> Setup:
    """A frozen net whose running statistics settle, beside a zero model of pure noise."""

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = _normalised(nn.Linear(16, 1)).requires_grad_(False)
            self.linear = nn.Linear(8, 1)
            nn.init.zeros_(self.linear.weight)
            nn.init.zeros_(self.linear.bias)

        def forward(self, x: Tensor) -> Tensor:
            settled: Tensor = self.net(x)
            if self.training:
                settled = settled - settled  # held-out losses alone see the statistics
            out: Tensor = settled + self.linear((x - 5.0) / 3.0)
            return out

    model = Model()
    inputs = 5.0 + 3.0 * torch.randn(8192, 8)
    train = inputs, torch.randn(8192, 1)
    return Setup(model, torch.optim.SGD(model.linear.parameters(), lr=0.1), train, _shifted())


def in_torch(make: Callable[[], Setup]) -> Callable[[Any, int, bool], lrsearch.Result]:
    """Search a set-up: ``search(method, seed, held_out)``."""

    def search(method: Any, seed: int, held_out: bool) -> lrsearch.Result:
        torch.manual_seed(seed)
        setup = make()
        loader = DataLoader(TensorDataset(*setup.train), BATCH, shuffle=True)
        val = DataLoader(TensorDataset(*setup.held_out), 256)
        return lrsearch.find_lr(
            setup.model,
            setup.optimizer,
            nn.functional.mse_loss,
            loader,
            val_loader=val if held_out else None,
            train_steps=STEPS,
            method=method,
            seed=seed,
            progress=False,
            throw=False,
        )

    return search
