"""The conformance suite of lrsearch, inherited by a module in a Lightning trainer."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from lrsearch.integrations.lightning.logged import Logged
from lrsearch.integrations.lightning.trainable import lightning_trainable
from lrsearch.testing import TrainableSuite
from tests.integrations.lightning_parts import Validated, loader, quiet, seeded, trainer
from tests.pytorch.fingerprint import fingerprint

pytestmark = quiet


class Counting(Validated):
    """Keeps things in attributes, as modules do."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.seen, self.history = torch.zeros(()), [0.0]

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        self.seen += len(batch[0])
        self.history.append(float(self.seen))
        return super().training_step(batch, batch_idx) * (1.0 + 1e-4 * self.seen)


_MUTED: list[Any] = []


class _Suite(TrainableSuite):
    options: dict[str, Any] = {}  # noqa: RUF012 - set by subclasses
    kind: type[Validated] = Validated

    def make(self) -> Any:
        module = seeded(lambda: self.kind(dropout=0.1, norm=True))
        train = trainer(max_epochs=0, num_sanity_val_steps=0, **self.options)
        train.fit(module, loader(shuffle=True), loader(64))  # sets up, and trains nothing
        train.training = True
        logged = Logged()
        muted = logged.instead_of_logging(module)
        muted.__enter__()
        _MUTED.append(muted)  # ends with the module
        return lightning_trainable(train, train.optimizers[0], logged)

    def fingerprint(self, trainable: Any) -> object:
        model, optimizer = trainable._model, trainable._optimizer
        kept = [(str(v), list(v) if isinstance(v, list) else 0) for v in vars(model).values()]
        return fingerprint(model, optimizer), model.global_step, kept

    def used_lr(self, trainable: Any) -> float:
        return float(trainable._optimizer.param_groups[0]["lr"])


class TestPlain(_Suite): ...


class TestAttributes(_Suite):
    kind = Counting


class TestAccumulation(_Suite):
    options = {"accumulate_grad_batches": 3, "gradient_clip_val": 0.5}  # noqa: RUF012


class ByHand(Validated):
    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.automatic_optimization = False

    def configure_optimizers(self) -> Any:
        return [torch.optim.Adam(part.parameters()) for part in (self.head, self.backbone)]

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        for optimizer in self.optimizers():
            optimizer.zero_grad()
        loss = nn.functional.l1_loss(self(batch[0]), batch[1])
        self.manual_backward(loss)
        for optimizer in self.optimizers():
            optimizer.step()
        return loss


class TestByHand(_Suite):
    kind = ByHand
    lr = 0.1


@pytest.mark.slow
class TestBrainFloat(_Suite):
    options = {"precision": "bf16-mixed"}  # noqa: RUF012
