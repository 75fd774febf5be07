"""Tapes: what was recorded once is computed again on other numbers, bit for bit."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.func import vmap
from torch.nn import functional as F

from lrsearch.pytorch.lanes.compiled import compiled
from lrsearch.pytorch.lanes.lowering import Lowering
from lrsearch.pytorch.lanes.simplify import simplified
from lrsearch.pytorch.lanes.tape import NotRecordable, Program, record

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


def taped(
    computation: Computation, inputs: Sequence[Tensor], constants: Sequence[Tensor] = ()
) -> tuple[Program, Callable[..., tuple[Tensor, ...]]]:
    with torch.no_grad():
        _, program = record(lambda: list(computation(*inputs)), inputs, constants)
        short = simplified(program)
        return short, compiled(short)


def names(program: Program) -> list[str]:
    return [call.name for call in program.calls]


def assert_replays(computation: Computation, *inputs: Tensor) -> Program:
    """Record on the inputs, replay on others, and compare with the computation itself."""
    program, replay = taped(computation, inputs)
    for seed in (1, 2):
        others = [numbers(*tensor.shape, seed=seed) for tensor in inputs]
        given = [tensor.clone() for tensor in others]
        for ours, expected in zip(replay(*given), computation(*others), strict=True):
            assert torch.equal(ours, expected)
    return program


# ------------------------------------------------------------------------------- recording


def test_a_number_read_out_of_a_tensor_ends_the_recording() -> None:
    for computation in (
        lambda x: [x * x.sum().item()],
        lambda x: [x if x.sum() > 0 else -x],
        lambda x: [x[: int(x.abs().sum())]],
    ):
        with pytest.raises(NotRecordable, match="turns a tensor into a number"):
            taped(computation, [numbers(3)])


def test_what_was_captured_is_met_again_as_it_then_is() -> None:
    weight = numbers(3)
    _, replay = taped(lambda x: [x * weight], [numbers(3)])
    weight.fill_(2.0)
    assert torch.equal(replay(torch.ones(3))[0], torch.full((3,), 2.0))


def test_views_of_what_was_captured_see_its_new_contents() -> None:
    weight = numbers(3, 2)
    program, replay = taped(lambda x: [x @ weight.t(), weight.t()[0]], [numbers(4, 2)])
    assert names(program) == ["mm"]
    weight.fill_(1.0)
    product, view = replay(torch.ones(4, 2))
    assert torch.equal(product, torch.full((4, 3), 2.0))
    assert torch.equal(view, torch.ones(3))


def test_what_a_step_writes_is_written_again_at_every_replay() -> None:
    total = torch.zeros(3)
    _, replay = taped(lambda x: [total.add_(x).mul(2.0)], [torch.ones(3)])
    replay(torch.ones(3))
    assert torch.equal(replay(torch.ones(3))[0], torch.full((3,), 6.0))
    assert torch.equal(total, torch.full((3,), 3.0))


def test_running_statistics_are_updated_although_no_schema_says_so() -> None:
    mean, variance = torch.zeros(4), torch.ones(4)

    def computation(x: Tensor) -> list[Tensor]:
        return [F.batch_norm(x, mean, variance, training=True, momentum=0.5)]

    _, replay = taped(computation, [numbers(8, 4)])
    mean.zero_()
    variance.fill_(1.0)
    replay(numbers(8, 4, seed=3))
    assert torch.allclose(mean, 0.5 * numbers(8, 4, seed=3).mean(0))


def test_random_draws_follow_the_random_state() -> None:
    def computation(x: Tensor) -> list[Tensor]:
        torch.rand(3)  # nobody reads it, but it moves the state
        return [x * torch.rand(3) + torch.rand(3)]

    _, replay = taped(computation, [numbers(3)])
    torch.manual_seed(5)
    expected = computation(torch.ones(3))[0]
    torch.manual_seed(5)
    assert torch.equal(replay(torch.ones(3))[0], expected)


def test_an_argument_may_be_infinite_or_a_word() -> None:
    assert_replays(lambda x: [x.clamp(max=float("inf")), F.gelu(x, approximate="tanh")], numbers(5))


# ------------------------------------------------------------------------------ simplifying


def test_multiplying_by_one_and_raising_to_one_is_left_out() -> None:
    program = assert_replays(lambda x: [(x * 1).pow(1.0).div(1).exp()], numbers(4))
    assert names(program) == ["exp"]


def test_multiplying_by_a_tensor_of_ones_is_left_out_if_it_stays_one() -> None:
    ones, weight = torch.ones(4), torch.ones(4)
    program, replay = taped(lambda x: [x * ones * weight], [numbers(4)], constants=[ones])
    assert names(program) == ["mul"]
    weight.fill_(3.0)
    assert torch.equal(replay(torch.ones(4))[0], torch.full((4,), 3.0))


def test_what_is_left_out_is_not_mistaken_for_a_copy() -> None:
    def written_after(x: Tensor) -> list[Tensor]:
        double = x + x
        kept = double * 1  # a copy, which the next line must not reach
        double.add_(1.0)
        return [kept, double]

    def written_itself(x: Tensor) -> list[Tensor]:
        double = x + x
        copy = (double * 1).add_(1.0)
        return [copy, double]

    assert_replays(written_after, numbers(4))
    assert_replays(written_itself, numbers(4))


def test_views_of_what_was_left_out_see_the_original() -> None:
    weight = numbers(1, 4)
    program, replay = taped(lambda x: [x + (weight * 1).view(4)], [numbers(4)])
    assert names(program) == ["add"]
    weight.fill_(7.0)
    assert torch.equal(replay(torch.zeros(4))[0], torch.full((4,), 7.0))


def test_captured_memory_is_never_used_for_results() -> None:
    weight = numbers(64, 64)

    def computation(x: Tensor) -> list[Tensor]:
        return [((weight * 1).view(4096).exp() + x).relu()]

    before = weight.clone()
    _, replay = taped(computation, [numbers(4096)])
    replay(numbers(4096, seed=1))
    assert torch.equal(weight, before)


def test_inputs_are_never_written_to() -> None:
    x = numbers(64, 64)
    _, replay = taped(lambda x: [(x * 1).view(4096).exp(), x.relu().add(1.0)], [numbers(64, 64)])
    before = x.clone()
    replay(x)
    assert torch.equal(x, before)


def test_a_result_does_not_overwrite_what_the_same_call_reads_turned() -> None:
    def computation(x: Tensor) -> list[Tensor]:
        y = x.exp()
        return [y + y.t(), (x + 1.0).mul(x + 1.0)]

    assert_replays(computation, numbers(64, 64))


def test_the_same_call_twice_is_made_once() -> None:
    program = assert_replays(lambda x: [x.exp() + x.exp().t().t()], numbers(3, 3))
    assert names(program) == ["exp", "add"]


def test_equal_calls_that_fill_their_own_memory_are_both_made() -> None:
    def computation(x: Tensor) -> list[Tensor]:
        one, other = torch.zeros(3), torch.zeros(3)
        one.add_(x)
        other.sub_(x)
        return [one, other]

    program = assert_replays(computation, numbers(3))
    assert names(program).count("zeros") == 2


def test_constants_are_made_once_and_for_all() -> None:
    program = assert_replays(
        lambda x: [x + torch.arange(3).float().add(1.0).exp().unsqueeze(0)], numbers(2, 3)
    )
    assert names(program) == ["add"]


def test_results_that_nobody_reads_are_not_computed() -> None:
    def computation(x: Tensor) -> list[Tensor]:
        x.exp().log()
        return [x.neg()]

    assert names(assert_replays(computation, numbers(3))) == ["neg"]


def test_a_chain_of_views_becomes_one() -> None:
    program = assert_replays(
        lambda x: [x.t().unsqueeze(0).expand(2, 3, 4).transpose(1, 2)], numbers(4, 3)
    )
    assert names(program) == ["as_strided"]


def test_a_view_with_an_offset_keeps_it() -> None:
    base = numbers(10)
    _, replay = taped(lambda x: [x[2:].view(2, 2).t() * 2], [base[:6]])
    assert torch.equal(replay(base[4:])[0], (base[4:][2:].view(2, 2).t() * 2))


def test_two_inputs_that_share_memory_once_are_two_inputs() -> None:
    same = numbers(4)
    _, replay = taped(lambda x, y: [x.view(2, 2), y.view(2, 2), x + y], [same, same.view(4)])
    one, other, both = replay(torch.ones(4), torch.zeros(4))
    assert torch.equal(one, torch.ones(2, 2))
    assert torch.equal(other, torch.zeros(2, 2))
    assert torch.equal(both, torch.ones(4))


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


@pytest.mark.parametrize("seed", range(60))
def test_random_programs_replay_bit_for_bit(seed: int) -> None:
    assert_replays(random_computation(seed), numbers(SIZE, SIZE), numbers(SIZE, SIZE, seed=9))


@pytest.mark.parametrize("seed", range(20))
def test_random_programs_and_their_gradients_replay_over_lanes(seed: int) -> None:
    computation = random_computation(seed, in_place=False)
    weights = numbers(3, SIZE, SIZE, seed=5).requires_grad_()
    ones = torch.ones(3)

    def step(x: Tensor) -> list[Tensor]:
        def loss(weight: Tensor) -> Tensor:
            parts = [weight * x, *computation(x + weight, weight * x)]
            return torch.stack([part.square().mean() for part in parts]).sum()

        with torch.enable_grad():
            losses = vmap(loss)(weights)
            (gradient,) = torch.autograd.grad(losses, [weights], ones)
        return [losses.detach(), gradient]

    _, replay = taped(step, [numbers(SIZE, SIZE)], [ones])
    other = numbers(SIZE, SIZE, seed=1)
    for scale in (1.0, 0.5):
        with torch.no_grad():
            weights.mul_(scale)
        for ours, expected in zip(replay(other), step(other), strict=True):
            assert torch.equal(ours, expected)


# --------------------------------------------------------------------------------- lowering


@pytest.mark.parametrize("bias", [True, False])
def test_a_turned_dense_layer_is_the_same_layer(bias: bool) -> None:
    x, weight = numbers(5, 7), numbers(4, 3, 7)
    offset = numbers(4, 3) if bias else torch.zeros(4, 3)

    def layer(w: Tensor, b: Tensor) -> Tensor:
        return F.linear(x, w, b if bias else None)

    expected = vmap(layer)(weight, offset)
    with Lowering():
        found = vmap(layer)(weight, offset)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("shape", [(7,), (2, 5, 7)])
def test_inputs_that_are_no_matrices_go_through_the_layer_as_it_is(shape: tuple[int, ...]) -> None:
    x, weight = numbers(*shape), numbers(3, 7)
    with Lowering():
        assert torch.equal(F.linear(x, weight), x @ weight.t())


@pytest.mark.parametrize("classes", [2, 10, 100])
def test_turned_cross_entropy_and_its_gradient_are_those_of_torch(classes: int) -> None:
    logits = numbers(6, classes).requires_grad_()
    target = torch.arange(6) % classes
    target[2] = -100
    expected = F.cross_entropy(logits, target)
    (slope,) = torch.autograd.grad(expected, logits)
    with Lowering():
        found = F.cross_entropy(logits, target)
    (ours,) = torch.autograd.grad(found, logits)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(ours, slope)


def test_without_a_single_counted_example_the_mean_is_nan_as_in_torch() -> None:
    logits, target = numbers(2, 3), torch.full((2,), -100)
    with Lowering():
        assert F.cross_entropy(logits, target).isnan()


def test_noise_over_a_turned_layout_is_the_noise_of_one_net() -> None:
    turned = numbers(4, 3).t()
    options: dict[str, Any] = {"memory_format": torch.contiguous_format}
    for draw in (torch.rand_like, torch.randn_like):
        torch.manual_seed(0)
        expected = draw(turned, **options)
        torch.manual_seed(0)
        with Lowering():
            assert torch.equal(draw(turned), expected)


def test_one_hot_reads_no_numbers_out_of_its_labels() -> None:
    labels = torch.tensor([[0, 2], [1, 1]])
    with Lowering():
        _, replay = taped(lambda y: [F.one_hot(y, 3)], [labels])
    assert torch.equal(replay(labels)[0], F.one_hot(labels, 3))
    assert torch.equal(replay(2 - labels)[0], F.one_hot(2 - labels, 3))
    with Lowering(), pytest.raises(RuntimeError, match="out of bounds"):
        F.one_hot(labels, 2)
