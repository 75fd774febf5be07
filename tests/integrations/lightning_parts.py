"""Small real modules, data and trainers for the tests of the Lightning integration."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

# What Lightning itself warns of in these tests, and what about it is on purpose.
quiet = [
    # Lightning 2.6 with torch 2.13: its own use of pytrees.
    pytest.mark.filterwarnings("ignore:`isinstance.treespec, LeafSpec.` is deprecated"),
    # Tiny data need no worker processes.
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    # Tiny epochs have fewer batches than log_every_n_steps.
    pytest.mark.filterwarnings("ignore:The number of training batches"),
    # Trainers in these tests are on the CPU on purpose.
    pytest.mark.filterwarnings("ignore:GPU available but not used"),
]

MakeOptimizer = Callable[[Any], Any]


def adam(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.Adam(parameters, lr=1e-3)


class Net(pl.LightningModule):
    """A regression with a hyperparameter ``lr``; ``configure`` makes what Lightning asks for."""

    def __init__(
        self,
        lr: float = 1e-3,
        configure: Callable[[Net], Any] | None = None,
        dropout: float = 0.0,
        norm: bool = False,
    ) -> None:
        super().__init__()
        self.save_hyperparameters("lr")
        self.configure = configure
        middle = nn.BatchNorm1d(16) if norm else nn.Identity()
        self.backbone = nn.Sequential(nn.Linear(8, 16), middle, nn.ReLU(), nn.Dropout(dropout))
        self.head = nn.Linear(16, 1)
        self.losses: list[float] = []

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.backbone(x))  # type: ignore[no-any-return]

    def loss(self, batch: Any) -> Tensor:
        return nn.functional.mse_loss(self(batch[0]), batch[1])

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        loss = self.loss(batch)
        self.log("train_loss", loss, prog_bar=True)
        return loss

    def configure_optimizers(self) -> Any:
        if self.configure is not None:
            return self.configure(self)
        return torch.optim.Adam(self.parameters(), lr=self.hparams.lr)


class Validated(Net):
    """With a validation that logs its loss and returns nothing."""

    def validation_step(self, batch: Any, batch_idx: int) -> Any:
        self.log("val_loss", self.loss(batch))


class Recorder(pl.Callback):
    """The loss of every batch of a real ``fit``, and the learning rate it was trained with."""

    def __init__(self) -> None:
        self.losses: list[float] = []
        self.lrs: list[float] = []

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, i: int) -> None:
        self.lrs.append(float(trainer.optimizers[0].param_groups[0]["lr"]))

    def on_train_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, i: int
    ) -> None:
        self.losses.append(float(outputs["loss"]) * trainer.accumulate_grad_batches)


def seeded(make: Callable[[], Any], seed: int = 0) -> Any:
    torch.manual_seed(seed)
    return make()


def data(examples: int = 160, seed: int = 0) -> TensorDataset:
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(examples, 8, generator=generator)
    noise = 0.1 * torch.randn(examples, 1, generator=generator)
    return TensorDataset(inputs, inputs @ torch.randn(8, 1, generator=generator) + noise)


def loader(examples: int = 160, shuffle: bool = False, **options: Any) -> DataLoader[Any]:
    return DataLoader(data(examples), batch_size=16, shuffle=shuffle, **options)


def trainer(package: Any = pl, **options: Any) -> Any:
    defaults: dict[str, Any] = {
        "max_epochs": 2,
        "accelerator": "cpu",
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    return package.Trainer(**{**defaults, **options})
