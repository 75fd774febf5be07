"""Lanes can train on a part of the data, again and again, and leave no trace either."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import lrsearch
from lrsearch.errors import InvalidArgument
from lrsearch.pytorch.trainable import TorchTrainable
from tests.pytorch.fingerprint import fingerprint
from tests.pytorch.problems import loader, network

LOSS = nn.functional.cross_entropy


def label(model: nn.Module, batch: list[torch.Tensor]) -> torch.Tensor:
    """The number in the batch, whatever the model."""
    loss: torch.Tensor = batch[1].mean() + 0.0 * model(batch[0]).sum()
    return loss


def numbered(accumulate: int = 1, workers: int = 0) -> TorchTrainable:
    """Twelve batches of one number each, shuffled."""
    data = torch.arange(12.0).reshape(-1, 1)
    batches = DataLoader(TensorDataset(data, data), 1, shuffle=True, num_workers=workers)
    model = nn.Linear(1, 1)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    return TorchTrainable(
        model, optimizer, None, batches, compute_loss=label, accumulate=accumulate
    )


def seen(trainable: TorchTrainable, steps: int) -> list[float]:
    return [trainable.step(0.1) for _ in range(steps)]


@pytest.mark.parametrize("workers", [0, 2])
def test_the_first_batches_come_again_and_again(workers: int) -> None:
    whole = seen(numbered(), 12)
    trainable = numbered(workers=workers)
    trainable.shorten_epochs(5)
    assert seen(trainable, 12) == [*whole[:5], *whole[:5], *whole[:2]]


def test_an_epoch_as_long_as_the_data_repeats_its_order() -> None:
    trainable = numbered()
    trainable.shorten_epochs(12)
    losses = seen(trainable, 24)
    assert losses[:12] == losses[12:]
    assert sorted(losses[:12]) == list(range(12))


def test_an_epoch_is_counted_in_updates_not_in_batches() -> None:
    whole = seen(numbered(accumulate=2), 6)
    trainable = numbered(accumulate=2)
    trainable.shorten_epochs(2)
    assert seen(trainable, 5) == [*whole[:2], *whole[:2], *whole[:1]]


@pytest.mark.parametrize("updates", [0, -1, 1.5])
def test_an_epoch_without_updates_is_refused(updates: float) -> None:
    trainable = numbered()
    with pytest.raises(InvalidArgument, match="updates"):
        trainable.shorten_epochs(updates)  # type: ignore[arg-type]
    assert seen(trainable, 12) == seen(numbered(), 12)


def test_restoring_brings_all_data_back() -> None:
    whole = seen(numbered(), 24)
    trainable = numbered()
    before = trainable.snapshot()
    trainable.shorten_epochs(2)
    seen(trainable, 5)
    inside = trainable.snapshot()
    following = seen(trainable, 5)
    trainable.restore(before)
    assert seen(trainable, 24) == whole
    trainable.restore(inside)
    assert seen(trainable, 5) == following


def test_another_order_begins_with_other_batches() -> None:
    trainable = numbered()
    trainable.reshuffle(1)
    whole = seen(trainable, 4)
    trainable = numbered()
    trainable.reshuffle(1)
    trainable.shorten_epochs(2)
    assert seen(trainable, 4) == [*whole[:2], *whole[:2]]
    assert seen(numbered(), 2) != whole[:2]


def test_lanes_together_see_the_same_part_as_lanes_in_turn() -> None:
    losses = []
    for vectorise in (False, True):
        model = network()
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        trainable = TorchTrainable(
            model, optimizer, LOSS, loader(shuffle=True), vectorise=vectorise
        )
        before = trainable.snapshot()
        trainable.shorten_epochs(2)
        if vectorise:
            lanes = trainable.lanes(2, 7)
            assert lanes is not None
            losses.append([lanes.step([0.05, 0.05])[1] for _ in range(7)])
            lanes.close()
        else:
            losses.append([trainable.step(0.05) for _ in range(7)])
        trainable.restore(before)
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)


def test_a_race_on_parts_of_the_data_leaves_no_trace() -> None:
    model = network()
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    batches = loader(shuffle=True)
    before = fingerprint(model, optimizer)
    result = lrsearch.find_lr(
        model, optimizer, LOSS, batches, train_steps=20 * len(batches), progress=False, throw=False
    )
    assert fingerprint(model, optimizer) == before
    assert result.cost.steps > 0
