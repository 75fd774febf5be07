"""Fabric's own loop: what ``setup`` returns goes into ``find_lr`` as it is."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from lightning.fabric import Fabric
from torch import nn

import lrsearch
from tests.pytorch.fingerprint import fingerprint
from tests.pytorch.problems import loader, network

LOSS = nn.functional.cross_entropy
precisions = pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])


def prepared(precision: Any) -> tuple[Any, ...]:
    torch.manual_seed(1)
    fabric = Fabric(accelerator="cpu", devices=1, precision=precision)
    model = network()
    model, optimizer = fabric.setup(model, torch.optim.Adam(model.parameters(), lr=1e-3))
    return fabric, model, optimizer, fabric.setup_dataloaders(loader())


def trained(parts: tuple[Any, ...], epochs: int = 2) -> list[float]:
    fabric, model, optimizer, batches = parts
    found = []
    for _ in range(epochs):
        for x, y in batches:
            optimizer.zero_grad()
            loss = LOSS(model(x), y)
            fabric.backward(loss)
            optimizer.step()
            found.append(loss.item())
    return found


def search(parts: tuple[Any, ...], **options: Any) -> lrsearch.Result:
    _, model, optimizer, batches = parts
    given = {"method": lrsearch.Sweep([1e-3, 1e-2]), "train_steps": 20, "val_loader": batches}
    return lrsearch.find_lr(
        model, optimizer, LOSS, batches, **{**given, "progress": False, "throw": False, **options}
    )


@precisions
def test_training_after_a_search_is_training_without_one(precision: str) -> None:
    untouched = trained(prepared(precision))
    parts = prepared(precision)
    before = fingerprint(parts[1], parts[2])
    first, second = search(parts), search(parts)
    assert fingerprint(parts[1], parts[2]) == before
    assert [c.loss.tolist() for c in first.curves] == [c.loss.tolist() for c in second.curves]
    assert trained(parts) == untouched


@precisions
def test_train_step_is_given_what_setup_returned(precision: str) -> None:
    parts = prepared(precision)
    fabric, model, optimizer, _ = parts

    def step(given_model: Any, given_optimizer: Any, batch: Any) -> torch.Tensor:
        assert given_model is model
        assert given_optimizer is optimizer
        given_optimizer.zero_grad()
        loss = LOSS(given_model(batch[0]), batch[1])
        fabric.backward(loss)
        given_optimizer.step()
        return loss

    by_step = search(parts, train_step=step)
    assert [c.loss.tolist() for c in by_step.curves] == [
        c.loss.tolist() for c in search(parts).curves
    ]


def test_the_answer_is_applied_to_the_wrapped_optimizer() -> None:
    parts = prepared("32-true")
    result = search(parts)
    result.apply(parts[2])
    assert parts[2].optimizer.param_groups[0]["lr"] == result.lr


def test_the_passes_that_fabric_counts_are_as_before() -> None:
    parts = prepared("32-true")
    trained(parts, 1)
    batches: Any = parts[3]
    counted = vars(batches)["_num_iter_calls"]
    search(parts)
    assert vars(batches)["_num_iter_calls"] == counted
