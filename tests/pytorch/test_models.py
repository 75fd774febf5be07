"""Models with something special about them are searched like any other, and are as before."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import torch._dynamo
from torch import Tensor, nn
from torch._dynamo.utils import counters
from torch.nn.utils import parametrizations
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

import lrsearch
from tests.pytorch.fingerprint import fingerprint
from tests.pytorch.problems import CLASSES, FEATURES, OPTIMIZERS, loader, network, train

LOSS = nn.functional.cross_entropy
METHODS: dict[str, dict[str, Any]] = {
    "range": {"method": lrsearch.RangeTest(20)},
    "race": {"train_steps": 24},
}
both = pytest.mark.parametrize("method", METHODS)


def find(
    model: nn.Module, optimizer: torch.optim.Optimizer, by: str, loss_fn: Any = LOSS, **more: Any
) -> lrsearch.Result:
    options = {**METHODS[by], "progress": False, "throw": False, **more}
    return lrsearch.find_lr(model, optimizer, loss_fn, loader(), **options)


# ------------------------------------------------------------------------------ kinds of models


class Remembering(nn.Module):
    """Keeps a hidden state, a counter and a history as plain attributes, and a bare buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.cell, self.last = nn.GRUCell(FEATURES, 6), nn.Linear(6, CLASSES)
        self.register_buffer("mean", torch.zeros(FEATURES), persistent=False)
        self.hidden: Tensor | None = None
        self.pair = (torch.zeros(2), 0)
        self.calls = 0
        self.history: list[float] = []

    def forward(self, x: Tensor) -> Tensor:
        self.mean.mul_(0.9).add_(x.mean(0), alpha=0.1)
        hidden: Tensor = self.cell(x - self.mean, None if self.hidden is None else self.hidden)
        self.hidden = hidden.detach()
        self.pair = (self.pair[0] + 1, self.pair[1] + 1)
        self.calls += 1
        self.history.append(float(self.calls))
        self.newly = self.calls
        out: Tensor = self.last(hidden)
        return out


class Averaging(nn.Module):
    """An average of the weights that is part of the model itself."""

    def __init__(self) -> None:
        super().__init__()
        self.net = network()
        self.average = AveragedModel(self.net, multi_avg_fn=get_ema_multi_avg_fn(0.9))

    def forward(self, x: Tensor) -> Tensor:
        self.average.update_parameters(self.net)
        out: Tensor = self.net(x)
        return out


def parametrised(how: Callable[[nn.Module], Any]) -> Callable[[], nn.Module]:
    def make() -> nn.Module:
        torch.manual_seed(0)
        return nn.Sequential(how(nn.Linear(FEATURES, 6)), nn.Tanh(), nn.Linear(6, CLASSES))

    return make


def tied() -> nn.Module:
    model = nn.Sequential(nn.Linear(FEATURES, FEATURES), nn.Tanh(), nn.Linear(FEATURES, FEATURES))
    model[2].weight = model[0].weight
    return model


def lazy() -> nn.Module:
    model = nn.Sequential(nn.LazyLinear(6), nn.LazyBatchNorm1d(), nn.ReLU(), nn.LazyLinear(CLASSES))
    model(torch.zeros(4, FEATURES))
    return model


def frozen() -> nn.Module:
    model = network()
    model[0].requires_grad_(False)  # type: ignore[index,operator]
    return model


def used() -> nn.Module:
    model = Remembering()
    model(torch.ones(16, FEATURES))
    return model


MODELS: dict[str, Callable[[], nn.Module]] = {
    "plain attributes, fresh": Remembering,
    "plain attributes, used": used,
    "an average of the weights inside": Averaging,
    "weight norm": parametrised(parametrizations.weight_norm),
    "spectral norm": parametrised(parametrizations.spectral_norm),
    "orthogonal": parametrised(parametrizations.orthogonal),
    "spectral norm by hooks": parametrised(nn.utils.spectral_norm),
    "tied weights": tied,
    "lazy modules, initialised": lazy,
    "frozen parameters": frozen,
}


def attributes(model: nn.Module) -> list[Any]:
    """What the modules keep besides parameters and buffers, and the very objects."""
    return [
        (name, key, id(value), value.tolist() if isinstance(value, Tensor) else repr(value))
        for name, module in model.named_modules()
        for key, value in vars(module).items()
        if not key.startswith("_") and not isinstance(value, nn.Module) and key != "newly"
    ] + [hasattr(module, "newly") for module in model.modules()]


@both
@pytest.mark.parametrize("name", MODELS)
def test_it_is_searched_and_is_as_before(name: str, method: str) -> None:
    model = MODELS[name]()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    before, kept = fingerprint(model, optimizer), attributes(model)
    result = find(model, optimizer, method)
    assert len(result.curves) > 0
    assert fingerprint(model, optimizer) == before
    assert attributes(model) == kept


@pytest.mark.parametrize("name", MODELS)
def test_training_after_a_search_is_training_without(name: str) -> None:
    def losses(search: bool) -> list[float]:
        torch.manual_seed(1)
        model = MODELS[name]()
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
        first = train(model, optimizer, loader(), 3)
        if search:
            find(model, optimizer, "range")
        return first + train(model, optimizer, loader(), 10)

    assert losses(search=True) == losses(search=False)


@both
def test_a_sharing_of_weights_outlives_the_search(method: str) -> None:
    model = tied()
    find(model, torch.optim.Adam(model.parameters()), method)
    assert model[0].weight is model[2].weight  # type: ignore[index]


# ------------------------------------------------------------------------ averages of the weights


@both
@pytest.mark.parametrize("by_hook", [False, True], ids=["by the loop", "by a hook"])
def test_an_average_of_the_weights_is_that_without_a_search(by_hook: bool, method: str) -> None:
    def average(search: bool) -> dict[str, Any]:
        model = network()
        optimizer = OPTIMIZERS["momentum"](model.parameters())
        ema = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.9), use_buffers=True)
        if by_hook:
            optimizer.register_step_post_hook(lambda *_: ema.update_parameters(model))
        for _ in range(2):
            if search:
                find(model, optimizer, method, stateful=[ema] if by_hook else ())
            train(model, optimizer, loader(), 3)
            if not by_hook:
                ema.update_parameters(model)
        return fingerprint(ema, optimizer)["tensors"]  # type: ignore[no-any-return]

    assert average(search=True) == average(search=False)


def test_any_object_with_a_state_that_hooks_change_can_be_put_back() -> None:
    class Counter:
        def __init__(self) -> None:
            self.counts = {"steps": 0}

        def state_dict(self) -> dict[str, Any]:
            return self.counts

        def load_state_dict(self, state: dict[str, Any]) -> None:
            self.counts = state

        def count(self, *_: Any) -> None:
            self.counts["steps"] += 1

    model, counter = network(), Counter()
    optimizer = OPTIMIZERS["sgd"](model.parameters())
    optimizer.register_step_post_hook(counter.count)
    for _ in range(2):
        find(model, optimizer, "race", stateful=[counter])
        assert counter.counts == {"steps": 0}


def test_what_has_no_state_to_put_back_is_refused() -> None:
    model = network()
    with pytest.raises(lrsearch.InvalidArgument, match=r"stateful.*3.*state_dict"):
        find(model, OPTIMIZERS["sgd"](model.parameters()), "range", stateful=[3])


# ------------------------------------------------------------------------------------- hooks


@both
def test_hooks_are_called_and_stay(method: str) -> None:
    model = network()
    optimizer = OPTIMIZERS["sgd"](model.parameters())
    called: list[str] = []
    handles = [
        model.register_forward_hook(lambda *_: called.append("forward")),
        model[4].register_full_backward_hook(lambda *_: called.append("backward")),  # type: ignore[index,union-attr]
        model[0].weight.register_post_accumulate_grad_hook(lambda _: called.append("gradient")),  # type: ignore[index,union-attr,operator]
        optimizer.register_step_post_hook(lambda *_: called.append("step")),
    ]
    before = fingerprint(model, optimizer)
    result = find(model, optimizer, method)
    for kind in ("forward", "backward", "gradient", "step"):
        assert called.count(kind) == result.cost.steps
    assert fingerprint(model, optimizer) == before
    for handle in handles:
        handle.remove()


# -------------------------------------------------------------------------------- schedulers


@both
def test_a_scheduler_may_be_attached_and_goes_on_as_without_a_search(method: str) -> None:
    def lrs(search: bool) -> list[float]:
        model = network()
        optimizer = OPTIMIZERS["momentum"](model.parameters())
        scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.1, total_steps=20)
        seen = []
        for step in range(10):
            if search and step in (0, 5):
                find(model, optimizer, method)
            optimizer.step()
            scheduler.step()
            seen.append((optimizer.param_groups[0]["lr"], optimizer.param_groups[0]["momentum"]))
        return seen

    assert lrs(search=True) == lrs(search=False)


# ---------------------------------------------------------------------------------- compiled

pytestmark = pytest.mark.filterwarnings("ignore:.*:DeprecationWarning:torch")


class Inside(nn.Module):
    """torch compiles no module of its own in place."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.net(x)
        return out


@pytest.fixture
def _fresh_compiler() -> Iterator[None]:
    torch._dynamo.reset()
    counters.clear()
    yield
    torch._dynamo.reset()
    counters.clear()


@both
@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
@pytest.mark.parametrize("how", ["wrapped", "in place", "loss"])
@pytest.mark.usefixtures("_fresh_compiler")
def test_a_compiled_model_is_compiled_again_twice_at_most(
    how: str, backend: str, method: str
) -> None:
    plain = network()
    optimizer = OPTIMIZERS["adam"](plain.parameters())
    expected = find(plain, optimizer, method, val_loader=loader(64, shuffle=False))
    model: Any = network()
    optimizer = OPTIMIZERS["adam"](model.parameters())
    options: dict[str, Any] = {"val_loader": loader(64, shuffle=False)}
    if how == "wrapped":
        model = torch.compile(model, backend=backend)
    elif how == "in place":
        model = Inside(model)
        model.compile(backend=backend)
    else:
        compiled = torch.compile(lambda net, batch: LOSS(net(batch[0]), batch[1]), backend=backend)
        options["compute_loss"] = compiled
    before = fingerprint(model, optimizer)
    result = find(model, optimizer, method, **options)
    assert fingerprint(model, optimizer) == before
    assert 1 <= counters["stats"]["unique_graphs"] <= 3
    # Compiled code draws its dropout in the same order, and rounds a little differently.
    assert [len(curve) for curve in result.curves] == [len(curve) for curve in expected.curves]
    assert result.curves[0].loss[0] == pytest.approx(expected.curves[0].loss[0], rel=1e-4)


@both
@pytest.mark.parametrize("name", ["sgd", "momentum", "adam", "tensor-lr"])
@pytest.mark.usefixtures("_fresh_compiler")
def test_a_compiled_step_is_not_compiled_for_every_learning_rate(name: str, method: str) -> None:
    model = network()
    expected = find(model, OPTIMIZERS[name](model.parameters()), method)
    optimizer = OPTIMIZERS[name](model.parameters())
    optimizer.step = torch.compile(optimizer.step, backend="eager")  # type: ignore[method-assign]
    theirs = optimizer.step
    before = fingerprint(model, optimizer)
    result = find(model, optimizer, method)
    assert counters["stats"]["unique_graphs"] <= 3
    assert optimizer.step is theirs
    assert fingerprint(model, optimizer) == before
    assert result.curves == expected.curves


@pytest.mark.usefixtures("_fresh_compiler")
def test_compiled_models_are_searched_in_turn_and_the_result_says_why() -> None:
    model = network()
    model.compile(backend="eager")
    optimizer = OPTIMIZERS["adam"](model.parameters())
    result = find(model, optimizer, "race", train_steps=400, method=lrsearch.Race(budget=0.1))
    assert "compiled" in str(result.settings["lanes"])
