"""Small models in a Lightning ``Trainer``, for ``benchmarks.integrations``."""

from __future__ import annotations

import functools
import tempfile
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import lrsearch
from benchmarks.integrations_case import HIGH, LOW, Case
from lrsearch.demos.char_lm import char_lm

Run = tuple[Any, Any, Any]  # trainer, module, loader


def mlp() -> tuple[nn.Module, Any, Any]:
    """64-64-10 on random data, batches of 32."""
    data = TensorDataset(torch.randn(6400, 64), torch.randint(10, (6400,)))
    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    return model, nn.functional.cross_entropy, DataLoader(data, batch_size=32, shuffle=True)


def transformer() -> tuple[nn.Module, Any, Any]:
    """The character transformer of ``lrsearch demo char-lm``, batches of 16 x 64 characters."""
    demo = char_lm()
    return demo["model"], demo["loss_fn"], demo["train_loader"]


def run(steps: int, kind: str, **options: Any) -> Run:
    """A module with AdamW that logs its loss, and a trainer without files and progress bar."""
    import pytorch_lightning as pl

    torch.manual_seed(0)
    model, loss_fn, loader = {"mlp": mlp, "transformer": transformer}[kind]()

    class Module(pl.LightningModule):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def training_step(self, batch: Any, _: int) -> Tensor:
            loss: Tensor = loss_fn(self.model(batch[0]), batch[1])
            self.log("loss", loss)
            return loss

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.AdamW(self.parameters(), lr=LOW)

    trainer = pl.Trainer(
        accelerator="cpu",
        max_epochs=-1,
        max_steps=steps,
        default_root_dir=tempfile.gettempdir(),
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **options,
    )
    return trainer, Module(), loader


def train(made: Run, steps: int) -> int:
    """``trainer.fit(...)`` for ``steps`` updates."""
    trainer, module, loader = made
    trainer.fit(module, loader)
    return int(trainer.global_step)


def search(made: Run, steps: int) -> int:
    """A range test of ``steps`` updates."""
    from lrsearch.integrations.lightning import find_lr_for

    trainer, module, loader = made
    method = lrsearch.RangeTest(steps=steps, min_lr=LOW, max_lr=HIGH)
    options: dict[str, Any] = {"method": method, "progress": False, "throw": False}
    return find_lr_for(trainer, module, train_dataloaders=loader, **options).cost.steps


def _case(name: str, kind: str, **options: Any) -> Case:
    return Case(f"lightning, {name}", functools.partial(run, kind=kind, **options), train, search)


CASES = (
    _case("MLP", "mlp"),
    _case("character transformer", "transformer"),
    _case("MLP, 4 batches per update", "mlp", accumulate_grad_batches=4),
)
