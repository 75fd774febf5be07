"""Repetitions train on the data in other orders, and leave no trace either."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import lrsearch
from lrsearch.pytorch.trainable import TorchTrainable
from tests.pytorch.fingerprint import fingerprint
from tests.pytorch.problems import loader, network

LOSS = nn.functional.cross_entropy


def numbered(shuffle: bool = True) -> DataLoader[tuple[torch.Tensor, ...]]:
    """Twelve batches of one number each; the loss of a model that ignores it is the number."""
    data = torch.arange(12.0).reshape(-1, 1)
    return DataLoader(TensorDataset(data, data), batch_size=1, shuffle=shuffle)


def seen(number: int, steps: int = 24) -> list[float]:
    model = nn.Linear(1, 1)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)

    def label(model: nn.Module, batch: list[torch.Tensor]) -> torch.Tensor:
        loss: torch.Tensor = batch[1].mean() + 0.0 * model(batch[0]).sum()
        return loss

    trainable = TorchTrainable(model, optimizer, None, numbered(), compute_loss=label)
    if number:
        trainable.reshuffle(number)
    return [trainable.step(0.1) for _ in range(steps)]


def test_every_order_is_made_of_whole_passes_and_is_another_one() -> None:
    orders = [seen(number) for number in range(3)]
    for order in orders:
        assert sorted(order[:12]) == sorted(order[12:]) == list(range(12))
        assert order[:12] != order[12:]
    assert len({tuple(order) for order in orders}) == 3
    assert seen(1) == orders[1]


@pytest.mark.parametrize("repeats", [1, 3])
def test_repetitions_leave_no_trace(repeats: int) -> None:
    model = network()
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    batches = loader(shuffle=True)
    before = fingerprint(model, optimizer)
    method = lrsearch.RangeTest(30, repeats=repeats)
    result = lrsearch.find_lr(
        model, optimizer, LOSS, batches, method=method, progress=False, throw=False
    )
    assert fingerprint(model, optimizer) == before
    climbs = [curve.loss.tolist()[:5] for curve in result.curves if curve.role == "climb"]
    assert len(climbs) == repeats
    assert len({tuple(losses) for losses in climbs}) == repeats
