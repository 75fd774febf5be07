from __future__ import annotations

import math

import pytest
import torch

import lrsearch
from lrsearch.demos.char_lm import CharTransformer, char_lm, next_character_loss
from lrsearch.demos.trial import run_trial


def test_the_same_seed_gives_the_same_network_and_batches() -> None:
    one, two, other = char_lm(3), char_lm(3), char_lm(4)
    for key, value in one["model"].state_dict().items():
        assert torch.equal(value, two["model"].state_dict()[key])
    first, again, different = (next(iter(demo["train_loader"])) for demo in (one, two, other))
    assert torch.equal(first[0], again[0])
    assert not torch.equal(first[0], different[0])
    assert not torch.equal(one["model"].token.weight, other["model"].token.weight)


def test_targets_are_the_characters_that_follow() -> None:
    demo = char_lm()
    for loader in (demo["train_loader"], demo["val_loader"]):
        now, following = next(iter(loader))
        assert now.dtype == following.dtype == torch.int64
        assert now.shape[1] == following.shape[1] == 64
        assert torch.equal(now[:, 1:], following[:, :-1])


def test_held_out_windows_do_not_overlap_and_are_not_trained_on() -> None:
    demo = char_lm()
    train, held_out = demo["train_loader"].dataset, demo["val_loader"].dataset
    windows = torch.cat([held_out[index][0] for index in range(len(held_out))])
    assert torch.equal(windows, held_out._text[: len(windows)])
    assert len(windows) > 30_000
    assert torch.equal(train[len(train) - 1][1][-1], train._text[-1])  # to its last character
    assert len(train._text) == pytest.approx(9 * len(held_out._text), abs=10)


def test_every_output_depends_on_its_past_alone() -> None:
    model = char_lm()["model"].eval()
    tokens = torch.arange(64).unsqueeze(0)
    changed = tokens.clone()
    changed[0, 40] = 99
    with torch.no_grad():
        before, after = model(tokens), model(changed)
    assert torch.allclose(before[0, :40], after[0, :40], atol=1e-5)
    assert not torch.allclose(before[0, 40:], after[0, 40:], atol=1e-3)


def test_it_has_the_size_of_a_small_transformer_and_begins_knowing_nothing() -> None:
    demo = char_lm()
    model = demo["model"]
    assert isinstance(model, CharTransformer)
    assert 100_000 < sum(parameter.numel() for parameter in model.parameters()) < 500_000
    inputs, targets = next(iter(demo["train_loader"]))
    logits = model(inputs)
    assert logits.shape == (16, 64, model.token.num_embeddings)
    uniform = math.log(model.token.num_embeddings)
    assert next_character_loss(logits, targets).item() == pytest.approx(uniform, abs=0.2)


def test_the_loss_is_the_mean_over_every_character() -> None:
    logits = torch.randn(2, 3, 5, generator=torch.Generator().manual_seed(0))
    targets = torch.tensor([[0, 1, 2], [3, 4, 0]])
    by_hand = [
        -math.log(float(torch.softmax(logits[n, t], 0)[targets[n, t]]))
        for n in range(2)
        for t in range(3)
    ]
    assert float(next_character_loss(logits, targets)) == pytest.approx(sum(by_hand) / 6)


def test_the_callers_random_state_is_left_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    char_lm()
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.slow
def test_the_lr_found_beats_a_tenth_and_ten_times_of_it() -> None:
    # As many steps as `lrsearch demo char-lm` takes: after 100 it is above the best by a factor 5.
    method = lrsearch.RangeTest(steps=300)
    result = lrsearch.find_lr(**char_lm(), method=method, progress=False)
    assert result.status is lrsearch.Status.FOUND
    low, found, high = (
        run_trial(char_lm, result.lr * factor, updates=150).loss for factor in (0.1, 1.0, 10.0)
    )
    assert found < low
    assert found < high
