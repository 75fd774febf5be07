"""Feature-major layouts: the same layers and losses, up to rounding."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.func import vmap
from torch.nn import functional as F

from lrsearch.pytorch.vectorized.layouts import Layouts


def numbers(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("bias", [True, False])
def test_a_turned_dense_layer_is_the_same_layer(bias: bool) -> None:
    x, weight = numbers(5, 7), numbers(4, 3, 7)
    offset = numbers(4, 3) if bias else torch.zeros(4, 3)

    def layer(w: Tensor, b: Tensor) -> Tensor:
        return F.linear(x, w, b if bias else None)

    expected = vmap(layer)(weight, offset)
    with Layouts():
        found = vmap(layer)(weight, offset)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("shape", [(7,), (2, 5, 7)])
def test_inputs_that_are_no_matrices_go_through_the_layer_as_it_is(shape: tuple[int, ...]) -> None:
    x, weight = numbers(*shape), numbers(3, 7)
    with Layouts():
        assert torch.equal(F.linear(x, weight), x @ weight.t())


@pytest.mark.parametrize("classes", [2, 10, 100])
def test_turned_cross_entropy_and_its_gradient_are_those_of_torch(classes: int) -> None:
    logits = numbers(6, classes).requires_grad_()
    target = torch.arange(6) % classes
    target[2] = -100
    expected = F.cross_entropy(logits, target)
    (slope,) = torch.autograd.grad(expected, logits)
    with Layouts():
        found = F.cross_entropy(logits, target)
    (ours,) = torch.autograd.grad(found, logits)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(ours, slope)


def test_without_a_single_counted_example_the_mean_is_nan_as_in_torch() -> None:
    logits, target = numbers(2, 3), torch.full((2,), -100)
    with Layouts():
        assert F.cross_entropy(logits, target).isnan()


def test_noise_over_a_turned_layout_is_the_noise_of_one_net() -> None:
    turned = numbers(4, 3).t()
    options: dict[str, Any] = {"memory_format": torch.contiguous_format}
    for draw in (torch.rand_like, torch.randn_like):
        torch.manual_seed(0)
        expected = draw(turned, **options)
        torch.manual_seed(0)
        with Layouts():
            assert torch.equal(draw(turned), expected)


def test_one_hot_reads_no_numbers_out_of_its_labels() -> None:
    labels = torch.tensor([[0, 2], [1, 1]])
    with Layouts():
        assert torch.equal(F.one_hot(labels, 3), torch.eye(3, dtype=torch.int64)[labels])
        batched = vmap(lambda y: F.one_hot(y, 3))(labels)
        with pytest.raises(RuntimeError, match="out of bounds"):
            F.one_hot(labels, 2)
    assert torch.equal(batched, F.one_hot(labels, 3))
