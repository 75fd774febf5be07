"""Any update: closures that may be None, zero_grad, graphs, several optimizers, train_step."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import lrsearch
from tests.pytorch.fingerprint import fingerprint
from tests.pytorch.problems import CLASSES, FEATURES, loader

LOSS = nn.functional.cross_entropy
BATCHES = list(loader(shuffle=False))
SWEEP: dict[str, Any] = {"method": lrsearch.Sweep([1e-3, 1e-2]), "train_steps": 12}
RACE: dict[str, Any] = {"train_steps": 60}


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(FEATURES, 16), nn.Tanh(), nn.Linear(16, CLASSES))


def find(model: nn.Module, optimizer: Any, **options: Any) -> lrsearch.Result:
    given = {"loss_fn": LOSS, "train_loader": BATCHES, "progress": False, "throw": False}
    given.update(options)
    loss_fn, batches = given.pop("loss_fn"), given.pop("train_loader")
    return lrsearch.find_lr(model, optimizer, loss_fn, batches, **given)


def losses(result: lrsearch.Result) -> list[list[float]]:
    return [curve.loss.tolist() for curve in result.curves]


# -------------------------------------------------------------- optimizers of other people's


class Sharpness(torch.optim.Optimizer):
    """Climb to the sharpest point nearby, take the gradient there, step from where it began."""

    def __init__(self, params: Any, lr: float = 0.1, rho: float = 0.05) -> None:
        super().__init__(params, {"lr": lr, "rho": rho})

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        if closure is None:
            raise RuntimeError("this optimizer wants a closure")
        return self._climb_and_step(closure)

    def _climb_and_step(self, closure: Any) -> Any:
        (group,) = self.param_groups
        size = torch.stack([p.grad.norm() for p in group["params"]]).norm() + 1e-12
        moved = [group["rho"] * p.grad / size for p in group["params"]]
        for p, move in zip(group["params"], moved, strict=True):
            p.add_(move)
        with torch.enable_grad():
            loss = closure()
        for p, move in zip(group["params"], moved, strict=True):
            p.sub_(move).sub_(p.grad, alpha=group["lr"])
        return loss


class StrictSharpness(Sharpness):
    """The same, with a closure that its signature demands."""

    def step(self, closure: Any) -> Any:
        with torch.no_grad():
            return self._climb_and_step(closure)


class AssertingSharpness(Sharpness):
    """The same, by an assertion."""

    def step(self, closure: Any = None) -> Any:
        assert closure is not None, "closure was not provided"
        with torch.no_grad():
            return self._climb_and_step(closure)


class Hessian(torch.optim.Optimizer):
    """Scale by the size of the Hessian's diagonal, as its gradient's gradient estimates it."""

    def __init__(self, params: Any, lr: float = 0.1) -> None:
        super().__init__(params, {"lr": lr})

    def step(self, closure: Any = None) -> None:
        (group,) = self.param_groups
        gradients = [p.grad for p in group["params"]]
        if any(g.grad_fn is None for g in gradients):
            raise RuntimeError("the gradient has no grad_fn: set create_graph=True in backward")
        signs = [torch.ones_like(g) for g in gradients]
        seconds = torch.autograd.grad(gradients, group["params"], grad_outputs=signs)
        with torch.no_grad():
            for p, g, h in zip(group["params"], gradients, seconds, strict=True):
                p.sub_(g / (h.abs() + 1.0), alpha=group["lr"])


def sharp_losses(lrs: list[float], first: bool = True) -> list[float]:
    """The plain loop with a sharpness-aware optimizer."""
    model = network()
    optimizer = Sharpness(model.parameters())
    found = []
    for lr, (x, y) in zip(lrs, itertools.cycle(BATCHES), strict=False):
        optimizer.param_groups[0]["lr"] = lr

        def closure(x: Tensor = x, y: Tensor = y) -> Tensor:
            optimizer.zero_grad()
            loss = LOSS(model(x), y)
            loss.backward()
            return loss

        found.append(closure().item())
        optimizer.step(closure)
    return found


@pytest.mark.parametrize("kind", [Sharpness, StrictSharpness, AssertingSharpness])
def test_an_optimizer_whose_closure_may_not_be_none_is_given_one(kind: Any) -> None:
    model = network()
    optimizer = kind(model.parameters())
    before = fingerprint(model, optimizer)
    result = find(model, optimizer, **SWEEP)
    assert [sharp_losses(curve.lr.tolist()) for curve in result.curves] == losses(result)
    assert fingerprint(model, optimizer) == before


def test_gradients_keep_their_graph_for_an_optimizer_that_differentiates_them() -> None:
    model = network()
    result = find(model, Hessian(model.parameters()), **SWEEP)
    reference = network()
    optimizer = Hessian(reference.parameters(), lr=1e-2)
    found = []
    for x, y in BATCHES[:12]:
        optimizer.zero_grad()
        loss = LOSS(reference(x), y)
        gradients = torch.autograd.grad(loss, list(reference.parameters()), create_graph=True)
        for p, gradient in zip(reference.parameters(), gradients, strict=True):
            p.grad = gradient
        optimizer.step()
        found.append(loss.item())
    assert losses(result)[1] == found


def test_a_step_that_fails_in_every_way_shows_its_own_error_and_the_way_out() -> None:
    class Broken(torch.optim.SGD):
        def step(self, closure: Any = None) -> None:
            raise ValueError("wants more than a closure" if closure is None else "not this one")

    model = network()
    with pytest.raises(ValueError, match="wants more") as caught:
        find(model, Broken(model.parameters(), lr=0.1), **SWEEP)
    assert any("train_step=" in note for note in caught.value.__notes__)


def test_an_error_of_a_step_hook_is_not_taken_for_a_wish_for_a_closure() -> None:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def hook(*_: Any) -> None:
        raise KeyError("mine")

    optimizer.register_step_pre_hook(hook)
    with pytest.raises(KeyError, match="mine"):
        find(model, optimizer, **SWEEP)


class Cleared(torch.optim.SGD):
    """Refuses a second step without ``zero_grad``, as an optimizer that spends privacy does."""

    cleared = True

    def zero_grad(self, set_to_none: bool = True) -> None:
        self.cleared = True
        super().zero_grad(set_to_none)

    def step(self, closure: Any = None) -> Any:
        if not self.cleared:
            raise ValueError("no zero_grad since the last step")
        self.cleared = False
        return super().step(closure)


class Zeroing(Cleared):
    """Writes zeros, and has no argument for anything else."""

    def zero_grad(self, set_to_none: bool = False) -> None:
        self.cleared = True
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    p.grad.zero_()


@pytest.mark.parametrize("kind", [Cleared, Zeroing])
def test_zero_grad_is_called_before_every_update(kind: Any) -> None:
    model = network()
    optimizer = kind(model.parameters(), lr=0.1)
    x, y = BATCHES[0]
    LOSS(model(x), y).backward()  # gradients of the user's, which nothing may write to
    before = fingerprint(model, optimizer)
    result = find(model, optimizer, **SWEEP)
    plain = network()
    assert losses(result) == losses(find(plain, torch.optim.SGD(plain.parameters(), 0.1), **SWEEP))
    assert fingerprint(model, optimizer) == before


# ---------------------------------------------------------------------- several optimizers


def parts(model: nn.Module) -> list[torch.optim.Optimizer]:
    matrices = [p for p in model.parameters() if p.ndim == 2]
    rest = [p for p in model.parameters() if p.ndim < 2]
    return [torch.optim.Muon(matrices, lr=0.02), torch.optim.AdamW(rest, lr=1e-3)]


def test_several_optimizers_share_one_multiplier_and_step_by_the_same_gradients() -> None:
    model = network()
    optimizers = parts(model)
    before = fingerprint(model, optimizers[0], optimizers[1])
    result = find(model, optimizers, val_loader=BATCHES[:2], **SWEEP)
    assert fingerprint(model, optimizers[0], optimizers[1]) == before
    assert result.multipliers == pytest.approx((1.0, 0.05))
    for curve in result.curves:
        plain = network()
        both = parts(plain)
        found = []
        for lr, (x, y) in zip(curve.lr.tolist(), BATCHES, strict=False):
            both[0].param_groups[0]["lr"] = lr
            both[1].param_groups[0]["lr"] = 0.05 * lr
            for optimizer in both:
                optimizer.zero_grad()
            loss = LOSS(plain(x), y)
            loss.backward()
            for optimizer in both:
                optimizer.step()
            found.append(loss.item())
        assert curve.loss.tolist() == pytest.approx(found, rel=1e-6)


def test_a_result_is_applied_to_all_of_them() -> None:
    model = network()
    optimizers = parts(model)
    result = find(model, optimizers, **RACE)
    assert result.status.found
    result.apply(optimizers)
    assert optimizers[0].param_groups[0]["lr"] == pytest.approx(result.lr)
    assert optimizers[1].param_groups[0]["lr"] == pytest.approx(0.05 * result.lr)
    with pytest.raises(lrsearch.InvalidArgument, match="1 parameter groups"):
        result.apply(optimizers[:1])


def test_one_that_needs_a_closure_may_be_among_them() -> None:
    model = network()
    first = Sharpness(model[0].parameters())  # type: ignore[index]
    last = torch.optim.SGD(model[-1].parameters(), lr=0.1)  # type: ignore[index]
    result = find(model, [last, first], **SWEEP)
    assert losses(result)[1][-1] < losses(result)[1][0]


def test_a_scaler_scales_for_all_of_them() -> None:
    model = network()
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    scaled = find(model, parts(model), grad_scaler=scaler, clip_grad_norm=0.1, **SWEEP)
    plain = network()
    assert losses(scaled) == losses(find(plain, parts(plain), clip_grad_norm=0.1, **SWEEP))


def test_optimizers_of_another_model_are_refused() -> None:
    with pytest.raises(lrsearch.InvalidArgument, match="Muon and AdamW that holds none"):
        find(network(), parts(network()), **SWEEP)
    with pytest.raises(lrsearch.InvalidArgument, match="optimizer: got"):
        find(network(), [], **SWEEP)


class Container(torch.optim.Optimizer):
    """Steps optimizers that it keeps; its own groups are for show."""

    def __init__(self, inner: Any, follow: bool = False) -> None:
        params = [p for o in inner for g in o.param_groups for p in g["params"]]
        super().__init__(params, {"lr": 1e-3})
        self.inner, self.follow = inner, follow

    def step(self, closure: Any = None) -> None:
        for one in self.inner:
            if self.follow:
                one.param_groups[0]["lr"] = self.param_groups[0]["lr"]
            one.step()


@pytest.mark.parametrize("holds", [list, tuple, lambda inner: dict(enumerate(inner))])
def test_a_container_whose_groups_are_not_what_it_steps_is_recognised(holds: Any) -> None:
    class Holding(Container):
        def __init__(self, inner: Any) -> None:
            super().__init__(inner)
            self.kept = holds(inner)

    model = network()
    optimizer = Holding(parts(model))
    before = fingerprint(model, optimizer, *optimizer.inner)
    with pytest.raises(lrsearch.InvalidArgument, match=r"optimizer=\[muon, adamw\]"):
        find(model, optimizer, **SWEEP)
    assert fingerprint(model, optimizer, *optimizer.inner) == before


def test_a_container_that_passes_its_rate_on_is_searched() -> None:
    model = network()
    inner = [torch.optim.SGD(model.parameters(), lr=0.5)]
    result = find(model, Container(inner, follow=True), **SWEEP)
    plain = network()
    assert losses(result) == losses(find(plain, torch.optim.SGD(plain.parameters(), 0.1), **SWEEP))


# ---------------------------------------------------------------------------- learning rates


def test_a_first_group_at_zero_stays_there_and_the_others_are_searched() -> None:
    model = network()
    first = {"params": model[0].parameters(), "lr": 0.0}  # type: ignore[index]
    weight, bias = model[2].parameters()  # type: ignore[index]
    others = [{"params": [weight], "lr": 0.1}, {"params": [bias], "lr": 0.01}]
    optimizer = torch.optim.SGD([first, *others])
    result = find(model, optimizer, **RACE)
    assert result.multipliers == pytest.approx((0.0, 1.0, 0.1))
    result.apply(optimizer)
    assert [g["lr"] for g in optimizer.param_groups] == pytest.approx(
        [0.0, result.lr, 0.1 * result.lr]
    )


def test_an_optimizer_without_a_rate_is_told_how_to_get_one() -> None:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    optimizer.param_groups[0]["lr"] = None
    with pytest.raises(lrsearch.InvalidArgument, match="relative_step=False"):
        find(model, optimizer, **SWEEP)


# -------------------------------------------------------------------------------- train_step


def plain_step(model: nn.Module, optimizer: Any, batch: Any) -> Tensor:
    optimizer.zero_grad()
    loss: Tensor = LOSS(model(batch[0]), batch[1])
    loss.backward()
    optimizer.step()
    return loss


def test_train_step_makes_the_update_that_a_search_would_make() -> None:
    model, plain = network(), network()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    LOSS(model(BATCHES[0][0]), BATCHES[0][1]).backward()
    before = fingerprint(model, optimizer)
    result = find(model, optimizer, train_step=plain_step, val_loader=BATCHES[:2], **SWEEP)
    assert fingerprint(model, optimizer) == before
    other = torch.optim.Adam(plain.parameters(), lr=1e-3)
    expected = find(plain, other, val_loader=BATCHES[:2], **SWEEP)
    assert losses(result) == losses(expected)
    assert "train_step" in str(result.settings["lanes"])


def test_train_step_may_return_a_number_and_pass_over_batches() -> None:
    broken = [BATCHES[0], None, *BATCHES[1:]]

    def step(model: nn.Module, optimizer: Any, batch: Any) -> float | None:
        return None if batch is None else plain_step(model, optimizer, batch).item()

    model, plain = network(), network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    result = find(model, optimizer, loss_fn=None, train_loader=broken, train_step=step, **SWEEP)
    expected = find(plain, torch.optim.SGD(plain.parameters(), lr=0.1), **SWEEP)
    assert losses(result) == losses(expected)


def test_two_players_are_searched_by_train_step_and_both_are_put_back() -> None:
    torch.manual_seed(0)
    generator, critic = nn.Linear(4, FEATURES), nn.Linear(FEATURES, 1)
    optimizer = torch.optim.Adam(generator.parameters(), lr=1e-3)
    other = torch.optim.Adam(critic.parameters(), lr=1e-3)
    bce = nn.functional.binary_cross_entropy_with_logits

    def step(generator: nn.Module, optimizer: Any, batch: Any) -> Tensor:
        real = batch[0]
        fake = generator(torch.randn(len(real), 4))
        other.zero_grad()
        one, zero = torch.ones(len(real), 1), torch.zeros(len(real), 1)
        (bce(critic(real), one) + bce(critic(fake.detach()), zero)).backward()
        other.step()
        optimizer.zero_grad()
        loss: Tensor = bce(critic(fake), one)
        loss.backward()
        optimizer.step()
        return loss

    before = fingerprint(generator, optimizer, critic, other)
    result = find(
        generator,
        optimizer,
        loss_fn=None,
        train_step=step,
        stateful=[critic, other],
        evaluate=lambda g: g(torch.ones(1, 4)).mean().square().item(),
        **SWEEP,
    )
    assert fingerprint(generator, optimizer, critic, other) == before
    assert [len(curve) for curve in result.curves] == [12, 12, 12]


def test_the_searched_list_is_what_train_step_is_given() -> None:
    model = network()
    optimizers = parts(model)
    seen: list[Any] = []

    def step(_model: nn.Module, given: Any, batch: Any) -> Tensor:
        seen.append(given)
        for one in given:
            one.zero_grad()
        loss: Tensor = LOSS(_model(batch[0]), batch[1])
        loss.backward()
        for one in given:
            one.step()
        return loss

    find(model, optimizers, loss_fn=None, train_step=step, **SWEEP)
    assert all(given is optimizers for given in seen)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"accumulate": 2}, "accumulate: got 2, expected 1 with train_step"),
        ({"clip_grad_norm": 1.0}, "clip_grad_norm: got 1.0"),
        ({"clip_grad_value": 1.0}, "clip_grad_value: got 1.0"),
        ({"autocast": torch.bfloat16}, "autocast: got torch.bfloat16"),
        ({"grad_scaler": torch.amp.GradScaler("cpu")}, "grad_scaler: got"),
        ({"train_step": 3}, "train_step: got 3, expected a function"),
        ({"train_step": lambda *_: "low"}, r"train_step\(...\): got str 'low', expected one num"),
        ({"train_step": lambda *_: torch.ones(2)}, r"got a tensor of shape \(2,\)"),
        ({"train_step": lambda *_: None}, "None for each of 16 batches in a row of train_loader"),
    ],
)
def test_what_does_not_go_with_train_step_is_refused(given: dict[str, Any], message: str) -> None:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(lrsearch.InvalidArgument, match=message):
        find(model, optimizer, **{"train_step": plain_step, **given}, **SWEEP)


def test_a_train_step_that_changes_the_learning_rate_is_refused() -> None:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)

    def step(model: nn.Module, optimizer: Any, batch: Any) -> Tensor:
        loss = plain_step(model, optimizer, batch)
        scheduler.step()
        return loss

    with pytest.raises(lrsearch.InvalidArgument, match=r"leave scheduler.step\(\) out"):
        find(model, optimizer, train_step=step, **SWEEP)


# ------------------------------------------------------------------- batches to be passed over


def none_for(bad: Callable[[Any], bool]) -> Callable[[nn.Module, Any], Tensor | None]:
    def compute_loss(model: nn.Module, batch: Any) -> Tensor | None:
        return None if bad(batch) else LOSS(model(batch[0]), batch[1])

    return compute_loss


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("kind", ["sgd", "closure"])
def test_a_batch_without_a_loss_is_passed_over(kind: str, accumulate: int) -> None:
    def optimizer(model: nn.Module) -> torch.optim.Optimizer:
        if kind == "sgd":
            return torch.optim.SGD(model.parameters(), lr=0.1)
        return torch.optim.LBFGS(model.parameters(), max_iter=2)

    broken: list[Any] = list(BATCHES)
    for place in (2, 2, 6, 6):  # whole groups of one and of two
        broken.insert(place, None)
    model, plain = network(), network()
    settings = {**SWEEP, "accumulate": accumulate, "train_steps": 16 // accumulate}
    result = find(
        model,
        optimizer(model),
        loss_fn=None,
        train_loader=broken,
        compute_loss=none_for(lambda batch: batch is None),
        **settings,
    )
    assert losses(result) == losses(find(plain, optimizer(plain), **settings))


def test_an_update_is_the_mean_of_the_micro_batches_that_have_a_loss() -> None:
    model, plain = network(), network()
    broken = [batch for pair in BATCHES[:6] for batch in (pair, None)]
    result = find(
        model,
        torch.optim.SGD(model.parameters(), lr=0.1),
        loss_fn=None,
        train_loader=broken,
        compute_loss=none_for(lambda batch: batch is None),
        accumulate=2,
        **SWEEP,
    )
    expected = find(
        plain,
        torch.optim.SGD(plain.parameters(), lr=0.1),
        train_loader=BATCHES[:6],
        **SWEEP,
    )
    for one, other in zip(losses(result), losses(expected), strict=True):
        assert one == pytest.approx(other, rel=1e-6)


@pytest.mark.parametrize("own_loss", [False, True])
def test_a_batch_that_is_none_is_passed_over_by_the_usual_losses_too(own_loss: bool) -> None:
    class OwnLoss(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = network()

        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            return LOSS(self.net(x), y)

    model, plain = OwnLoss() if own_loss else network(), network()
    result = find(
        model,
        torch.optim.SGD(model.parameters(), lr=0.1),
        loss_fn=None if own_loss else LOSS,
        train_loader=[None, *BATCHES, None],
        val_loader=[None, BATCHES[0]],
        **SWEEP,
    )
    assert losses(result) == losses(find(plain, torch.optim.SGD(plain.parameters(), 0.1), **SWEEP))


def test_lanes_leave_batches_that_are_passed_over_to_single_runs() -> None:
    model = network()
    broken = [*BATCHES[:3], None, *BATCHES[3:]]
    result = find(
        model,
        torch.optim.SGD(model.parameters(), lr=0.1),
        loss_fn=None,
        train_loader=broken,
        compute_loss=none_for(lambda batch: batch is None),
        method=lrsearch.Race(budget=3.0),
        train_steps=300,
    )
    assert result.status.found


@pytest.mark.parametrize("endless", [False, True])
def test_data_without_any_loss_are_an_error_that_says_so(endless: bool) -> None:
    def forever() -> Iterator[Any]:
        return itertools.cycle(BATCHES)

    model = network()
    count = 1000 if endless else len(BATCHES)
    with pytest.raises(lrsearch.InvalidArgument, match=f"None for each of {count} batches"):
        find(
            model,
            torch.optim.SGD(model.parameters(), lr=0.1),
            train_loader=forever if endless else BATCHES,
            loss_fn=lambda *_: None,
            **SWEEP,
        )


# ----------------------------------------------------------------------- divergence that raises


class Positive(nn.Module):
    """The scale of a distribution, which underflows to 0 where training diverges."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Linear(FEATURES, 2)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_scale = self.net(x).unbind(1)
        return mean, log_scale.exp()


def log_probability(model: nn.Module, batch: Any) -> Tensor:
    return -torch.distributions.Normal(*model(batch[0])).log_prob(batch[0][:, 0]).mean()


def gamma(model: nn.Module, batch: Any) -> Tensor:
    mean, scale = model(batch[0])
    return -torch.distributions.Gamma(scale, mean.exp()).log_prob(batch[0][:, 0].abs()).mean()


def probability(model: nn.Module, batch: Any) -> Tensor:
    (out, _), target = model(batch[0]), (batch[1] % 2).float()
    return nn.functional.binary_cross_entropy(out / (1.0 + out.abs()) * 0.5 + 0.5, target)


def guarded(model: nn.Module, batch: Any) -> Tensor:
    mean, _ = model(batch[0])
    if not mean.abs().max() < 1e6:
        raise FloatingPointError("the outputs exploded")
    return (mean - batch[0][:, 0]).square().mean()


@pytest.mark.parametrize("loss", [log_probability, gamma, probability, guarded])
@pytest.mark.parametrize("held_out", [False, True])
def test_a_loss_that_raises_where_training_diverged_ends_the_trial_only(
    loss: Any, held_out: bool
) -> None:
    model = Positive()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    before = fingerprint(model, optimizer)
    options: dict[str, Any] = {"val_loader": BATCHES} if held_out else {}
    rates = lrsearch.Sweep([1e-3, 1e-2, 1e8, 1e20])
    result = find(
        model, optimizer, loss_fn=None, compute_loss=loss, method=rates, train_steps=20, **options
    )
    assert result.status.found
    assert result.lr <= 1e-2
    assert fingerprint(model, optimizer) == before


def test_an_evaluation_that_raises_where_training_diverged_is_not_a_number() -> None:
    model = Positive()

    def measure(model: nn.Module) -> float:
        return log_probability(model, BATCHES[0]).item()

    result = find(
        model,
        torch.optim.SGD(model.parameters(), lr=0.1),
        loss_fn=None,
        compute_loss=lambda m, b: m.net(b[0]).mean(),  # falls for ever, and never breaks
        evaluate=measure,
        method=lrsearch.Sweep([1e-3, 1e-2, 1e3]),
        train_steps=20,
    )
    first, *_, last, _ = (curve.evaluations[-1][1] for curve in result.curves)
    assert math.isfinite(first)
    assert math.isnan(last)


@pytest.mark.parametrize("at", [0, 5, 30])
def test_an_error_of_the_users_is_passed_on(at: int) -> None:
    calls = itertools.count()

    def loss(out: Tensor, y: Tensor) -> Tensor:
        if next(calls) == at:
            raise ValueError("mine")
        return LOSS(out, y)

    model = network()
    with pytest.raises(ValueError, match="mine"):
        find(model, torch.optim.SGD(model.parameters(), lr=0.1), loss_fn=loss)


def test_an_error_that_a_batch_causes_at_any_weights_is_passed_on() -> None:
    bad = [*BATCHES[:4], (BATCHES[4][0], BATCHES[4][1] + 100), *BATCHES[5:]]
    model = network()
    with pytest.raises(IndexError, match="out of bounds") as caught:
        find(model, torch.optim.SGD(model.parameters(), lr=0.1), train_loader=bad)
    assert any("computing the loss" in note for note in caught.value.__notes__)
    assert any("train_step=" in note for note in caught.value.__notes__)
