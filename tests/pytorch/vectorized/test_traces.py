"""Traces: what was written down once is computed again on other numbers, bit for bit."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.func import vmap
from torch.nn import functional as F

from lrsearch.pytorch.vectorized.gradients import traced

Computation = Callable[..., Sequence[Tensor]]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Tiny kernels on more threads than idle cores wait for each other most of the time."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def numbers(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def replay(computation: Computation, *inputs: Tensor, own: int = 0) -> Callable[..., Any]:
    """Trace a computation; the first ``own`` inputs are the same tensors at every call."""
    with torch.no_grad():
        run = traced(computation, inputs, own)

    def call(*others: Tensor) -> Any:
        with torch.inference_mode():
            return run(*inputs[:own], *others)

    return call


def assert_replays(computation: Computation, *inputs: Tensor) -> None:
    """Trace on the inputs, call on others, and compare with the computation itself."""
    run = replay(computation, *inputs)
    for seed in (1, 2):
        others = [numbers(*tensor.shape, seed=seed) for tensor in inputs]
        given = [tensor.clone() for tensor in others]
        for ours, expected in zip(run(*given), computation(*others), strict=True):
            assert torch.equal(ours, expected)


def test_a_number_read_out_of_a_tensor_ends_the_trace() -> None:
    for computation in (
        lambda x: [x * x.sum().item()],
        lambda x: [x if x.sum() > 0 else -x],
        lambda x: [x[: int(x.abs().sum())]],
    ):
        with pytest.raises(Exception, match=r"(?i)data-dependent|tracing tensor|control flow"):
            replay(computation, numbers(3))


def test_own_tensors_are_met_again_as_they_then_are() -> None:
    weight = numbers(3, 2)
    run = replay(lambda w, x: [x @ w.t(), w.t()[0] * 1.0, w.exp()], weight, numbers(4, 2), own=1)
    weight.fill_(1.0)
    product, view, power = run(torch.ones(4, 2))
    assert torch.equal(product, torch.full((4, 3), 2.0))
    assert torch.equal(view, torch.ones(3))
    assert torch.equal(power, torch.ones(3, 2).exp())


def test_captured_tensors_are_met_again_as_they_then_are() -> None:
    weight = numbers(3, 2)
    run = replay(lambda x: [x @ weight.t(), weight.t().exp()], numbers(4, 2))
    weight.fill_(1.0)
    product, power = run(torch.ones(4, 2))
    assert torch.equal(product, torch.full((4, 3), 2.0))
    assert torch.equal(power, torch.ones(2, 3).exp())


def test_what_a_step_writes_is_written_again_at_every_call() -> None:
    total = torch.zeros(3)
    run = replay(lambda t, x: [t.add_(x).mul(2.0)], total, torch.ones(3), own=1)
    total.zero_()
    run(torch.ones(3))
    assert torch.equal(run(torch.ones(3))[0], torch.full((3,), 4.0))


def test_memory_that_is_written_to_is_no_constant() -> None:
    def computation(x: Tensor) -> list[Tensor]:
        one, other = torch.zeros(3), torch.zeros(3)
        one.add_(x)
        other[1:].sub_(x[1:])
        return [one, other, torch.arange(3.0) * x]

    assert_replays(computation, numbers(3))


def test_running_statistics_are_updated_although_no_schema_says_so() -> None:
    mean, variance = torch.zeros(4), torch.ones(4)

    def computation(mean: Tensor, variance: Tensor, x: Tensor) -> list[Tensor]:
        return [F.batch_norm(x, mean, variance, training=True, momentum=0.5)]

    run = replay(computation, mean, variance, numbers(8, 4), own=2)
    mean.zero_()
    run(numbers(8, 4, seed=3))
    assert torch.allclose(mean, 0.5 * numbers(8, 4, seed=3).mean(0))


def test_random_draws_follow_the_random_state() -> None:
    def computation(x: Tensor) -> list[Tensor]:
        return [x * torch.rand(3) + F.dropout(torch.ones(3))]

    run = replay(computation, numbers(3))
    torch.manual_seed(5)
    expected = computation(torch.ones(3))[0]
    torch.manual_seed(5)
    assert torch.equal(run(torch.ones(3))[0], expected)


def test_two_inputs_that_share_memory_once_are_two_inputs() -> None:
    same = numbers(4)
    run = replay(lambda x, y: [x.view(2, 2), y.view(2, 2), x + y], same, same.view(4))
    one, other, both = run(torch.ones(4), torch.zeros(4))
    assert torch.equal(one, torch.ones(2, 2))
    assert torch.equal(other, torch.zeros(2, 2))
    assert torch.equal(both, torch.ones(4))


def test_views_there_and_back_are_the_tensor_itself() -> None:
    def computation(x: Tensor) -> list[Tensor]:
        y = x.exp()
        return [y.t().t().detach() + 1.0, y.t().unsqueeze(0)[0].t(), y[1:].view(-1), x.t()]

    assert_replays(computation, numbers(3, 4))


# ------------------------------------------------------------------------- programs at random

SIZE = 48  # times itself: large enough for memory to be used again


def unary(rng: random.Random) -> Callable[[Tensor], Tensor]:
    return rng.choice(
        (
            lambda x: x * 1,
            lambda x: x.pow(1.0),
            torch.relu,
            torch.sigmoid,
            lambda x: x.t(),
            lambda x: x.t().contiguous(),
            lambda x: x.clone(),
            lambda x: x.view(-1).view(SIZE, SIZE) if x.is_contiguous() else x.detach(),
            lambda x: x.sum(1, keepdim=True).expand(SIZE, SIZE),
            lambda x: x[:1].expand(SIZE, SIZE),
            lambda x: torch.cat([x[1:], x[:1]]),
            lambda x: x.chunk(2)[1].repeat(2, 1),
            lambda x: torch.log_softmax(x, 0),
            lambda x: x / (1.0 + x.norm()),
        )
    )


def binary(rng: random.Random) -> Callable[[Tensor, Tensor], Tensor]:
    return rng.choice(
        (
            torch.add,
            torch.mul,
            torch.maximum,
            lambda x, y: (x @ y) / SIZE,
            lambda x, y: torch.where(x > 0, x, y),
            lambda x, y: torch.addcmul(x, y, y, value=0.1),
        )
    )


def random_computation(seed: int, in_place: bool = True) -> Computation:
    """A program of thirty random steps on what earlier steps left, some of them in place."""

    def computation(*inputs: Tensor) -> list[Tensor]:
        rng = random.Random(seed)
        pool = [*inputs, torch.ones(SIZE, SIZE), torch.zeros(SIZE, SIZE)]
        owned: list[Tensor] = []
        for _ in range(30):
            kind = rng.random()
            if kind < 0.5:
                pool.append(unary(rng)(rng.choice(pool)))
            elif kind < 0.85:
                pool.append(binary(rng)(rng.choice(pool), rng.choice(pool)))
            elif owned and in_place:
                rng.choice(owned).add_(rng.choice(pool).mean())
            if kind >= 0.4:
                owned.append(pool[-1].clone())
                pool.append(owned[-1])
        return [rng.choice(pool) for _ in range(4)] + [pool[-1]]

    return computation


@pytest.mark.parametrize("seed", range(20))
def test_random_programs_replay_bit_for_bit(seed: int) -> None:
    assert_replays(random_computation(seed), numbers(SIZE, SIZE), numbers(SIZE, SIZE, seed=9))


@pytest.mark.parametrize("seed", range(8))
def test_random_programs_and_their_gradients_replay_over_trials(seed: int) -> None:
    computation = random_computation(seed, in_place=False)
    weights = numbers(3, SIZE, SIZE, seed=5).requires_grad_()

    def step(weights: Tensor, x: Tensor) -> list[Tensor]:
        def loss(weight: Tensor) -> Tensor:
            parts = [weight * x, *computation(x + weight, weight * x)]
            return torch.stack([part.square().mean() for part in parts]).sum()

        with torch.enable_grad():
            losses = vmap(loss)(weights)
            (gradient,) = torch.autograd.grad(losses, [weights], torch.ones(3))
        return [losses.detach(), gradient]

    run = replay(step, weights, numbers(SIZE, SIZE), own=1)
    other = numbers(SIZE, SIZE, seed=1)
    for scale in (1.0, 0.5):
        with torch.inference_mode():
            weights.mul_(scale)
        for ours, expected in zip(run(other), step(weights, other), strict=True):
            assert torch.equal(ours, expected)
