"""Replicated and sharded trainables run the conformance suite, in a group of one process."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
import torch.distributed as dist

from lrsearch.pytorch.distributed import Together
from lrsearch.pytorch.exchange import Exchange
from lrsearch.pytorch.trainable import TorchTrainable, torch_trainable
from lrsearch.pytorch.wrappers import Wrappers
from lrsearch.testing import TrainableSuite
from tests.pytorch.fingerprint import fingerprint
from tests.pytorch.problems import loader, network
from tests.pytorch.scenarios import LOSS, WRAP


@pytest.fixture(scope="module", autouse=True)
def group(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    meeting = tmp_path_factory.mktemp("one") / "meeting"
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


class Wrapped(TrainableSuite):
    wrapper: str
    options: dict[str, Any]

    def make(self) -> TorchTrainable:
        model = WRAP[self.wrapper](network())
        optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
        ranks = Together(Wrappers.of(model), Exchange([0]))
        return torch_trainable(
            model, optimizer, LOSS, loader(), accumulate=2, ranks=ranks, **self.options
        )

    def fingerprint(self, trainable: Any) -> object:
        return {
            **fingerprint(trainable._model, trainable._optimizer),
            "updates": trainable._updates,
            "position": trainable._batches.position,
        }

    def used_lr(self, trainable: Any) -> float:
        return float(trainable._optimizer.param_groups[0]["lr"])


class TestReplicated(Wrapped):
    wrapper = "ddp"
    options = {"val_loader": loader(64, shuffle=False)}  # noqa: RUF012


class TestSharded(Wrapped):
    wrapper = "fsdp"
    options = {  # noqa: RUF012
        "val_loader": loader(64, shuffle=False),
        "snapshot_to": "disk",
        "clip_grad_norm": 1.0,
    }
