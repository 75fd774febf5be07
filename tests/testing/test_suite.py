"""Our own trainables run the suite that is for everybody's; and the suite finds what is wrong."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import torch
from torch import nn

from lrsearch.demos.two_layer_net import TwoLayerNet, noisy_sine
from lrsearch.pytorch.trainable import TorchTrainable, torch_trainable
from lrsearch.testing import TrainableSuite
from tests.pytorch.fingerprint import fingerprint
from tests.pytorch.problems import loader, network


class TestTwoLayerNet(TrainableSuite):
    lr, steps = 0.5, 10

    def make(self) -> TwoLayerNet:
        return TwoLayerNet(noisy_sine(50), noisy_sine(20, seed=1), batch=7)

    def fingerprint(self, trainable: Any) -> object:
        state = trainable.snapshot()
        return {
            "weights": state.weights.tobytes(),
            "random": state.random,
            "order": state.order.tolist(),
            "position": state.position,
        }


LOSS = nn.functional.cross_entropy


class TestTorchTrainable(TrainableSuite):
    """BatchNorm, dropout, momentum, a shuffled loader, two groups and accumulation."""

    def make(self) -> TorchTrainable:
        model = network()
        groups = [
            {"params": model[0].parameters(), "lr": 0.01},  # type: ignore[index]
            {"params": model[4].parameters(), "lr": 0.002},  # type: ignore[index]
            {"params": model[1].parameters()},  # type: ignore[index]
        ]
        optimizer = torch.optim.SGD(groups, lr=0.02, momentum=0.9, weight_decay=1e-4)
        return torch_trainable(model, optimizer, LOSS, loader(), **self.options())

    def options(self) -> dict[str, Any]:
        return {"accumulate": 2}

    def fingerprint(self, trainable: Any) -> object:
        return {
            **fingerprint(trainable._model, trainable._optimizer),
            "updates": trainable._updates,
            "position": trainable._batches.position,
        }

    def used_lr(self, trainable: Any) -> float:
        return float(trainable._optimizer.param_groups[0]["lr"])


class TestEvaluatedTorchTrainable(TestTorchTrainable):
    """A held-out loss, and lanes trained together whether that is faster or not."""

    def options(self) -> dict[str, Any]:
        return {"val_loader": loader(64), "vectorise": True}


def test_the_room_needs_nothing_but_numpy_and_is_loaded_only_when_asked_for() -> None:
    code = (
        "import sys, lrsearch\n"
        "print('lrsearch.testing' in sys.modules)\n"
        "import lrsearch.testing\n"
        "heavy = ('torch', 'pytest', 'hypothesis', 'matplotlib', 'rich')\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.splitlines() == ["False", "[]"]
