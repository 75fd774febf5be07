"""What Ignite's own test suite asserts of `FastaiLRFinder`, asked of ours.

The PyTorch-Ignite team, https://github.com/pytorch/ignite,
`tests/ignite/handlers/test_lr_finder.py`.

Left out:

- `test_no_matplotlib`: matplotlib is a dependency of ours, so it is never missing; a search does
  not import it (`tests/report/test_console.py`).
- `test_distrib_gloo_*`: two processes are asked under Lightning and Transformers, whose launchers
  people use (`tests/integrations`); nccl and xla need machines that the suite has not got.
- The `output_transform`s of `test_engine_output_type`: there is no engine, so only what a loss may
  be is left of it.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import lrsearch
from tests.pytorch.fingerprint import fingerprint
from tests.pytorch.problems import loader, network, train

Parts = tuple[nn.Module, torch.optim.Optimizer, Any, Any]
RANGE = lrsearch.RangeTest(20, min_lr=1e-4, max_lr=1.0)


def parts(lrs: tuple[float, ...] = (0.1,)) -> Parts:
    """A network whose layers have these learning rates."""
    model = network()
    layers = [model[0], nn.ModuleList([model[1], model[4]])]  # type: ignore[index]
    owners = layers if len(lrs) == 2 else [model]
    groups = [
        {"params": list(owner.parameters()), "lr": lr}
        for owner, lr in zip(owners, lrs, strict=True)
    ]
    optimizer = torch.optim.SGD(groups, momentum=0.9)
    return model, optimizer, nn.functional.cross_entropy, loader()


def find(parts: Parts, **options: Any) -> lrsearch.Result:
    settings = {"method": RANGE, "progress": False, "throw": False}
    return lrsearch.find_lr(*parts, **{**settings, **options})


BAD: dict[str, dict[str, Any]] = {
    "model": {"model": None},
    "optimizer": {"optimizer": {"lr": 0.1}},
    "loader": {"train_loader": 123},
    "train_steps of the wrong type": {"train_steps": "abc"},
    "train_steps negative": {"train_steps": -5},
    "method": {"method": "abc"},
    "schedule": {"schedule": "abc"},
    "accumulate": {"accumulate": 0},
    "clip_grad_norm": {"clip_grad_norm": -1.0},
    "end below start": {"method": "range", "start_lr": 10.0, "end_lr": 1.0},
    "start of the wrong type": {"method": "range", "start_lr": "1e-3"},
    "end negative": {"method": "range", "end_lr": -1.0},
    "end not finite": {"method": "range", "end_lr": math.inf},
    "two names for one bound": {"method": "range", "start_lr": 0.1, "min_lr": 0.1},
    "bounds beside a settings object": {"min_lr": 0.1},
}


@pytest.mark.parametrize("case", BAD)
def test_attach_incorrect_input_args(case: str) -> None:
    names = ("model", "optimizer", "loss_fn", "train_loader")
    given = dict(zip(names, parts(), strict=True))
    before = fingerprint(given["model"], given["optimizer"])
    settings: dict[str, Any] = {"method": RANGE, "progress": False, **given, **BAD[case]}
    with pytest.raises(lrsearch.InvalidArgument):
        lrsearch.find_lr(**settings)
    assert fingerprint(given["model"], given["optimizer"]) == before


@pytest.mark.parametrize("start", [10.0, 1.0])
def test_start_must_lie_below_end(start: float) -> None:
    with pytest.raises(ValueError, match="max_lr"):
        lrsearch.RangeTest(min_lr=start, max_lr=1.0)


def test_attach_without_with_attaches_nothing() -> None:
    model, optimizer, *_ = parts()
    before = fingerprint(model, optimizer)
    lrsearch.RangeTest(steps=50)
    assert fingerprint(model, optimizer) == before


def hooks(model: nn.Module, optimizer: torch.optim.Optimizer) -> list[int]:
    held = [optimizer._optimizer_step_pre_hooks, optimizer._optimizer_step_post_hooks]
    for module in model.modules():
        held += [module._forward_hooks, module._forward_pre_hooks, module._backward_hooks]
    return [len(one) for one in held]


def test_with_attach_leaves_no_handler() -> None:
    model, optimizer, loss_fn, batches = parts()
    optimizer.register_step_post_hook(lambda *_: None)
    before = hooks(model, optimizer)
    assert len(find((model, optimizer, loss_fn, batches)).curves[0]) == 20
    assert hooks(model, optimizer) == before


def test_model_optimizer_reset() -> None:
    model, optimizer, loss_fn, batches = parts()
    train(model, optimizer, batches, 5)
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9)
    before = fingerprint(model, optimizer, scheduler)
    find((model, optimizer, loss_fn, batches))
    assert fingerprint(model, optimizer, scheduler) == before


@pytest.mark.parametrize("mode", ["exponential", "linear"])
def test_lr_policy_rises_strictly(mode: str) -> None:
    linear = lrsearch.Ladder([lrsearch.Segment(0.01, 0.01, 0.4)], zoom=0)
    curve = find(parts(), method=RANGE if mode == "exponential" else linear).curves[0]
    assert np.all(np.diff(curve.lr) > 0)
    steps = np.diff(curve.lr) if mode == "linear" else np.diff(np.log(curve.lr))
    assert steps == pytest.approx(np.full(len(steps), steps[0]))


def test_every_group_of_the_optimizer_moves_at_its_own_rate() -> None:
    seen: list[list[float]] = []
    model, optimizer, loss_fn, batches = parts((0.1, 0.01))
    optimizer.register_step_post_hook(
        lambda *_: seen.append([group["lr"] for group in optimizer.param_groups])
    )
    result = find((model, optimizer, loss_fn, batches))
    assert [first for first, _ in seen] == result.curves[0].lr.tolist()
    assert [second / first for first, second in seen] == pytest.approx([0.1] * len(seen))
    assert result.multipliers == pytest.approx((1.0, 0.1))


def short(batches: int) -> list[Any]:
    every = list(loader(batch_size=2))
    return every[:batches]


def test_num_iter_is_none() -> None:
    """Ignite takes the whole run; we take 100 updates, or all of a planned run that is told."""
    model, optimizer, loss_fn, _ = parts()
    method = lrsearch.RangeTest(min_lr=1e-6, max_lr=1e-5)
    result = find((model, optimizer, loss_fn, short(30)), method=method)
    assert result.cost.steps == 100
    sweep = lrsearch.Sweep([1e-3])
    result = find((model, optimizer, loss_fn, short(30)), method=sweep, train_steps=45)
    assert len(result.curves[0]) == 45


@pytest.mark.parametrize("asked", [50, 150], ids=["enough data", "not enough data"])
def test_num_iter_is_what_is_asked_whatever_the_data(asked: int) -> None:
    model, optimizer, loss_fn, _ = parts()
    method = lrsearch.RangeTest(asked, min_lr=1e-6, max_lr=1e-5)
    curve = find((model, optimizer, loss_fn, short(100)), method=method).curves[0]
    assert len(curve.lr) == len(curve.loss) == asked


def test_detach_leaves_a_model_that_trains() -> None:
    model, optimizer, loss_fn, batches = parts()
    find((model, optimizer, loss_fn, batches))
    losses = train(model, optimizer, batches, 3 * len(batches))
    assert np.mean(losses[-16:]) < np.mean(losses[:16])


def test_different_num_iters_agree() -> None:
    """Ignite only checks their lengths; the answers are asked to lie together as well."""
    lrs = {}
    for steps in (200, 1000):
        method = lrsearch.RangeTest(steps, min_lr=1e-5, max_lr=10.0)
        result = find(parts(), method=method)
        assert result.curves[0].lr[0] == 1e-5
        lrs[steps] = result.lr
    assert abs(math.log10(lrs[1000] / lrs[200])) < 1.0


@pytest.mark.parametrize("name", ["start_lr", "min_lr"])
def test_start_lr_is_not_the_optimizers(name: str) -> None:
    model, optimizer, loss_fn, batches = parts()
    end = {"start_lr": "end_lr", "min_lr": "max_lr"}[name]
    bounds = {name: 1e-5, end: 1e-4}
    result = find((model, optimizer, loss_fn, batches), method="range", **bounds)
    assert result.curves[0].lr[0] == 1e-5
    assert optimizer.param_groups[0]["lr"] == 0.1


def own_loss(shape: str) -> Any:
    def compute_loss(model: nn.Module, batch: Any) -> Any:
        loss = nn.functional.cross_entropy(model(batch[0]), batch[1])
        shapes = {
            "list": [loss],
            "tuple": (loss, loss),
            "number": loss.item(),
            "two values": torch.stack([loss, loss]),
            "scalar": loss,
            "one element": loss.reshape(1),
            "one element in two dimensions": loss.reshape(1, 1),
        }
        return shapes[shape]

    return compute_loss


@pytest.mark.parametrize("shape", ["list", "tuple", "number", "two values"])
def test_output_type_that_is_no_loss(shape: str) -> None:
    model, optimizer, _, batches = parts()
    before = fingerprint(model, optimizer)
    with pytest.raises(lrsearch.InvalidArgument, match="loss"):
        find((model, optimizer, None, batches), compute_loss=own_loss(shape))
    assert fingerprint(model, optimizer) == before


@pytest.mark.parametrize("shape", ["scalar", "one element", "one element in two dimensions"])
def test_output_type_that_is_a_loss(shape: str) -> None:
    model, optimizer, _, batches = parts()
    result = find((model, optimizer, None, batches), compute_loss=own_loss(shape))
    assert np.isfinite(result.curves[0].loss).all()


@pytest.mark.parametrize("curve", ["flat", "rising"])
def test_suggestion_of_an_unexpected_curve(curve: str) -> None:
    lrs = np.geomspace(1e-4, 1.0, 50)
    losses = np.ones(50) if curve == "flat" else np.linspace(0.0, 10.0, 50) ** 2
    answer = lrsearch.suggest(lrsearch.Curve(lrs, losses))
    assert not answer.status.found
    assert math.isnan(answer.lr)


def test_a_search_without_an_answer_raises_and_carries_what_was_measured() -> None:
    model, optimizer, _, batches = parts()
    loss_of_nothing = lambda model, batch: 0.0 * model(batch[0]).sum() + 1.0  # noqa: E731
    with pytest.raises(lrsearch.NoLearningRateFound) as caught:
        find((model, optimizer, None, batches), compute_loss=loss_of_nothing, throw=True)
    assert caught.value.result.status is lrsearch.Status.NO_SIGNAL
    assert len(caught.value.result.curves[0]) == 20


def line(groups: int) -> Parts:
    """y = 2 x by gradient descent on all of the data: it diverges beyond 2 / mean(x^2) = 1.0."""
    x = torch.linspace(-1.0, 1.0, 65)[:, None]
    x = x * math.sqrt(1.0 / (x**2).mean().item())
    models = nn.ModuleList(nn.Linear(1, 1, bias=False) for _ in range(groups))
    for model in models:
        nn.init.constant_(model.weight, 0.0)  # type: ignore[arg-type]
    optimizer = torch.optim.SGD([{"params": [m.weight], "lr": 0.01} for m in models])
    return models, optimizer, None, [x] * 4


def line_loss(models: nn.Module, x: Tensor) -> Tensor:
    losses = [nn.functional.mse_loss(m(x), 2.0 * x) for m in models]  # type: ignore[attr-defined]
    return torch.stack(losses).sum()


@pytest.mark.parametrize("groups", [1, 2])
def test_suggestion_on_a_quadratic_lies_below_its_stability_limit(groups: int) -> None:
    """Ignite expects 0.1109 of its own curve; the limit of this one is known in closed form."""
    result = find(line(groups), compute_loss=line_loss, method="range", throw=True)
    assert 1e-3 < result.lr < 1.0
    assert result.group_lrs == (result.lr,) * groups


def test_suggestion_on_images_of_digits() -> None:
    """Ignite trains on MNIST, which would have to be downloaded; the bounds are its own."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    inputs = torch.tensor(images, dtype=torch.float32) / 16.0
    data = TensorDataset(inputs, torch.tensor(labels))
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4, momentum=0.0)
    batches = DataLoader(data, 32, shuffle=True)
    result = find((model, optimizer, nn.CrossEntropyLoss(), batches), method="range", throw=True)
    assert 1e-4 <= result.lr <= 2.0


@pytest.mark.parametrize("lrs", [(0.1,), (0.1, 0.01)], ids=["single", "multiple"])
def test_apply_suggested_lr(lrs: tuple[float, ...]) -> None:
    searched = parts(lrs)
    result = find(searched, method="range", throw=True)
    optimizer = searched[1]
    assert [group["lr"] for group in optimizer.param_groups] == list(lrs)
    result.apply(optimizer)
    expected = [result.lr * lr / lrs[0] for lr in lrs]
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx(expected)


def test_apply_suggested_lr_to_an_optimizer_with_other_groups() -> None:
    result = find(parts((0.1, 0.01)), method="range", throw=True)
    with pytest.raises(lrsearch.InvalidArgument, match="groups"):
        result.apply(parts()[1])


@pytest.mark.parametrize("lrs", [(0.1,), (0.1, 0.01)], ids=["single", "multiple"])
def test_plot(lrs: tuple[float, ...], tmp_path: Any) -> None:
    result = find(parts(lrs))
    axes = result.plot(tmp_path / "plot.png").axes[0]
    assert (tmp_path / "plot.png").stat().st_size > 0
    assert axes.get_xscale() == "log"
    assert "learning rate" in axes.get_xlabel()
    assert "loss" in axes.get_ylabel()
    figure = Figure()
    FigureCanvasAgg(figure)
    own = figure.add_subplot()
    assert result.plot(ax=own) is figure
    assert own.get_xscale() == "log"
