"""Nonsense in any argument: accepted or refused by our own error, and before any training."""

from __future__ import annotations

import contextlib
import decimal
import itertools
import math
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

import lrsearch
from lrsearch import Curve, InvalidArgument, Ladder, Race, RangeTest, Segment, Sweep
from lrsearch.core.curve import Stop
from tests.core.toys import Quadratic

LOSS = nn.functional.cross_entropy


class Hostile:
    def __getattr__(self, name: str) -> Any:
        raise AttributeError(name)

    def __repr__(self) -> str:
        raise RuntimeError("no words")

    def __float__(self) -> float:
        raise KeyError("no number")

    def __bool__(self) -> bool:
        raise RuntimeError("neither")


NONSENSE: list[Any] = [
    None, True, False, 0, -1, 1.5, 2**64, 10**400, -(2**70), math.nan, math.inf, -math.inf, 1e308,
    5e-324, 1j, "", "1", "yes", "\ud800", "\x1b[2J", b"1", bytearray(b"1"), [], [1], [None], (),
    (1, 2), {}, {"a": 1}, set(), frozenset({1}), range(0), object(), Hostile(), Ellipsis,
    NotImplemented, int, dict, Hostile, nn.CrossEntropyLoss, torch.amp.GradScaler, torch.int8,
    np.float64("nan"), np.int64(-3), np.True_, np.array(3), np.array([1.0, 2.0]), np.array("a"),
    np.datetime64(3, "s"), np.timedelta64(3), np.complex128(1), torch.tensor(0.5),
    torch.tensor([1, 2]), torch.tensor(True), torch.tensor(1j), torch.empty((), device="meta"),
    decimal.Decimal("NaN"), decimal.Decimal(2), decimal.Decimal("sNaN"), slice(3),
    iter([1]), itertools.repeat(1), contextlib.nullcontext(), TensorDataset(torch.zeros(3)),
    lrsearch, RangeTest, RangeTest(steps=10), Segment(0.1, 0.1), Stop.DIVERGED, ValueError("x"),
]  # fmt: skip


def batches() -> list[Any]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(32, 4, generator=generator)
    return list(zip(x.split(8), x.argmax(1).split(8), strict=True))


def find(**given: Any) -> None:
    torch.manual_seed(0)
    model = nn.Linear(4, 4)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    made: list[int] = []
    optimizer.register_step_pre_hook(lambda *_: made.append(1))
    arguments = {
        "model": model, "optimizer": optimizer, "loss_fn": LOSS, "train_loader": batches(),
        "progress": False, "throw": False, **given,
    }  # fmt: skip
    if "min_lr" not in given and "max_lr" not in given and "start_lr" not in given:
        arguments.setdefault("method", RangeTest(steps=10))
    try:
        lrsearch.find_lr(**arguments)
    except InvalidArgument as error:
        if made:
            raise AssertionError("refused after training") from error
        raise


def search(**given: Any) -> None:
    arguments = {"trainable": Quadratic(), "method": RangeTest(steps=10), "progress": False}
    lrsearch.search(**{**arguments, "throw": False, **given})


def suggest(**given: Any) -> None:
    lrsearch.suggest(**{"curve": Curve([0.1, 1.0], [1.0, 2.0]), **given})


def curve(**given: Any) -> None:
    Curve(**{"lr": [0.1, 1.0], "loss": [1.0, 2.0], **given})


def segment(**given: Any) -> None:
    Segment(**{"start": 0.1, "step": 0.1, **given}).rungs()


def ladder(**given: Any) -> None:
    Ladder(**given).rungs(10)


def sweep(**given: Any) -> None:
    Sweep(**given).candidates()


PLACES: list[tuple[Callable[..., Any], str]] = [
    *((find, name) for name in (
        "model", "optimizer", "loss_fn", "train_loader", "compute_loss", "val_loader",
        "train_steps", "schedule", "method", "min_lr", "max_lr", "start_lr", "end_lr",
        "accumulate", "clip_grad_norm", "clip_grad_value", "autocast", "grad_scaler", "stateful",
        "snapshot_to", "seed", "progress", "throw",
    )),
    *((search, name) for name in (
        "trainable", "method", "train_steps", "schedule", "seed", "progress", "throw",
    )),
    *((RangeTest, name) for name in (
        "steps", "min_lr", "max_lr", "rule", "repeats", "zoom", "name",
    )),
    *((ladder, name) for name in ("segments", "zoom", "min_lr", "max_lr", "updates", "rule")),
    *((Race, name) for name in ("budget", "min_lr", "max_lr", "hand_over")),
    *((sweep, name) for name in ("lrs", "min_lr", "max_lr", "per_decade")),
    *((segment, name) for name in ("start", "step", "stop", "updates", "epochs")),
    *((curve, name) for name in ("lr", "loss", "stop", "lane", "evaluations")),
    *((suggest, name) for name in ("curve", "rule")),
]  # fmt: skip


# A refusal may name these instead: the same bound, or the two ends by what lies between.
ALSO = {"start_lr": "min_lr", "end_lr": "max_lr", "start": "Segment.step", "stop": "Segment.step"}


def tried(call: Callable[..., Any], name: str, value: Any) -> str:
    """What comes of a value: empty for what may be."""
    try:
        call(**{name: value})
    except InvalidArgument as error:
        names = (name, ALSO.get(name, name))
        named = name in ("model", "method") or any(word in str(error) for word in names)
        return "" if named else f"the refusal does not say what it is about: {error}"
    except lrsearch.NoLearningRateFound:
        return ""
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return ""


@pytest.mark.filterwarnings("default")  # NumPy and torch warn of some conversions
@pytest.mark.parametrize("seed", [15])
def test_nonsense_is_accepted_or_refused_by_name_before_any_training(seed: int) -> None:
    everything = [(call, name, n) for call, name in PLACES for n in range(len(NONSENSE))]
    chosen = random.Random(seed).sample(everything, 200)
    wrong = []
    for call, name, number in chosen:
        said = tried(call, name, NONSENSE[number])
        if said:
            wrong.append(f"{call.__name__}({name}=NONSENSE[{number}]): {said[:150]}")
    assert wrong == []
