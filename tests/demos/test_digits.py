from __future__ import annotations

import sys

import pytest
import torch

import lrsearch
from lrsearch.demos.digits import digits
from lrsearch.demos.trial import run_trial


def test_the_same_seed_gives_the_same_network_and_batches() -> None:
    one, two, other = digits(3), digits(3), digits(4)
    for key, value in one["model"].state_dict().items():
        assert torch.equal(value, two["model"].state_dict()[key])
    first, again, different = (next(iter(demo["train_loader"])) for demo in (one, two, other))
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])
    assert not torch.equal(first[1], different[1])
    assert not torch.equal(one["model"][0].weight, other["model"][0].weight)


def test_images_are_in_the_unit_interval_and_labels_are_digits() -> None:
    for images, labels in digits()["train_loader"]:
        assert images.shape == (64, 1, 8, 8)
        assert 0.0 <= float(images.min()) <= float(images.max()) == 1.0
        assert set(labels.tolist()) <= set(range(10))


def test_a_fifth_is_held_out_and_never_trained_on() -> None:
    demo, other = digits(0), digits(1)
    train, held_out = demo["train_loader"].dataset, demo["val_loader"].dataset
    assert (len(train), len(held_out)) == (1437, 360)
    assert torch.equal(held_out.tensors[0], other["val_loader"].dataset.tensors[0])
    everything = torch.cat([train.tensors[0], held_out.tensors[0]]).flatten(1)
    assert len(everything.unique(dim=0)) == 1797  # no image is in both


def test_the_callers_random_state_is_left_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    digits()
    assert torch.equal(torch.rand(3), expected)


def test_without_scikit_learn_the_error_names_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn", None)
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(lrsearch.MissingDependency, match=r"pip install 'lrsearch\[demo\]'"):
        digits()


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_lr_found_beats_a_tenth_and_ten_times_of_it(seed: int) -> None:
    result = lrsearch.find_lr(**digits(seed), method="range", seed=seed, progress=False)
    assert result.status is lrsearch.Status.FOUND
    low, found, high = (
        run_trial(lambda: digits(seed), result.lr * factor, updates=200).loss
        for factor in (0.1, 1.0, 10.0)
    )
    assert found < low
    assert found < high
