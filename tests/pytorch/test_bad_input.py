"""Bad input is refused before any training: the argument, what came, what was expected."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import lrsearch
from tests.pytorch.fingerprint import fingerprint
from tests.pytorch.problems import loader, network

LOSS = nn.functional.cross_entropy


def sgd(model: nn.Module) -> torch.optim.SGD:
    return torch.optim.SGD(model.parameters(), lr=0.1)


def frozen() -> nn.Module:
    return network().requires_grad_(False)


def few() -> DataLoader[Any]:
    return DataLoader(TensorDataset(torch.ones(3, 8), torch.zeros(3)), 4, drop_last=True)


def lazy() -> nn.Module:
    return nn.Sequential(nn.LazyLinear(4))


CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "negative min_lr": (r"min_lr: got -1", {"min_lr": -1}),
    "zero max_lr": (r"max_lr: got 0", {"max_lr": 0}),
    "NaN bound": (r"min_lr: got nan", {"min_lr": float("nan")}),
    "text bound": (r"min_lr: got '1e-3'", {"min_lr": "1e-3"}),
    "bounds in the wrong order": (r"max_lr: got 0.1, expected more", {"min_lr": 1, "max_lr": 0.1}),
    "equal bounds": (r"max_lr: got 1.0, expected more", {"min_lr": 1, "max_lr": 1}),
    "bound and its alias": (r"start_lr means min_lr", {"min_lr": 1e-3, "start_lr": 1e-3}),
    "bounds beside settings": (
        r"inside the settings object",
        {"min_lr": 1e-3, "method": lrsearch.RangeTest()},
    ),
    "no batches": (r"train_loader: got no batches", {"train_loader": []}),
    "no batches after drop_last": (
        r"train_loader: got no batches.*drop_last",
        {"train_loader": few},
    ),
    "an iterator": (r"iterated more than once", {"train_loader": lambda: iter([(1, 2)])}),
    "a number as loader": (r"train_loader: got 3, expected an iterable", {"train_loader": 3}),
    "an empty generator": (r"got no batches", {"train_loader": lambda: lambda: iter(())}),
    "no trainable parameter": (r"model: got Sequential without trainable", {"model": frozen}),
    "lazy modules": (r"model: got uninitialised", {"model": lazy}),
    "no module": (r"model: got <function", {"model": lambda: LOSS, "optimizer": None}),
    "no optimizer": (r"optimizer: got 'adam'", {"optimizer": lambda _: "adam"}),
    "the optimizer of another model": (
        r"optimizer: got SGD that holds none",
        {"optimizer": lambda _: sgd(network())},
    ),
    "lr zero": (
        r"param_groups\[0\]\['lr'\]: got 0.0",
        {"optimizer": lambda model: torch.optim.SGD(model.parameters(), lr=0.0)},
    ),
    "loss per example": (
        r"loss: got a tensor of shape \(16,\), expected a scalar",
        {"loss_fn": lambda out, y: LOSS(out, y, reduction="none")},
    ),
    "detached loss": (
        r"loss: got a tensor that needs no gr",
        {"loss_fn": lambda out, y: LOSS(out, y).detach()},
    ),
    "a float as loss": (r"loss: got 1.0, expected a scalar torch", {"loss_fn": lambda *_: 1.0}),
    "no loss_fn and no own loss": (
        r"loss_fn: got None.*compute_loss",
        {"loss_fn": None, "train_loader": lambda: [x for x, _ in loader()]},
    ),
    "three inputs with loss_fn": (
        r"train_loader: got a list of 3.*compute_loss",
        {"train_loader": lambda: [[x, y, y] for x, y in loader()]},
    ),
    "a mapping with loss_fn": (
        r"train_loader: got a dict with keys \['x', 'y'\]",
        {"train_loader": lambda: [{"x": x, "y": y} for x, y in loader()]},
    ),
    "unknown method": (r"method: got 'fast', expected one of 'auto'", {"method": "fast"}),
    "a class as method": (r"method: got .*settings object", {"method": lrsearch.RangeTest}),
    "unknown schedule": (r"schedule: got 'cosin'", {"schedule": "cosin"}),
    "train_steps zero": (r"train_steps: got 0", {"train_steps": 0}),
    "half a train step": (r"train_steps: got 1.5", {"train_steps": 1.5}),
    "sweep without a length": (r"train_steps: got None", {"method": "sweep"}),
    "accumulate zero": (r"accumulate: got 0", {"accumulate": 0}),
    "negative clipping": (r"clip_grad_norm: got -1", {"clip_grad_norm": -1}),
    "clipping at zero": (r"clip_grad_value: got 0", {"clip_grad_value": 0}),
    "an unknown place": (r"snapshot_to: got 'gpu', expected 'device'", {"snapshot_to": "gpu"}),
    "a number to put back": (r"stateful: got 3, expected modules, or", {"stateful": [3]}),
    "a number for a list": (r"stateful: got 3, expected a list", {"stateful": 3}),
    "autocast by name": (r"autocast: got 'bf16'", {"autocast": "bf16"}),
    "empty val_loader": (r"val_loader: got no batches", {"val_loader": []}),
}


@pytest.mark.parametrize("case", CASES)
def test_it_is_refused_and_nothing_has_changed(case: str) -> None:
    message, given = CASES[case]
    made = dict(given)
    build: Callable[[], nn.Module] = made.pop("model", network)
    model = build()
    build_optimizer = made.pop("optimizer", sgd)
    optimizer = sgd(network()) if build_optimizer is None else None
    if optimizer is None:
        trainable = case not in ("no trainable parameter", "lazy modules")
        optimizer = build_optimizer(model if trainable else network())
    batches = made.pop("train_loader", loader)
    batches = batches() if callable(batches) else batches
    loss_fn = made.pop("loss_fn", LOSS)
    steps: list[int] = []
    watched = isinstance(optimizer, torch.optim.Optimizer) and isinstance(model, nn.Module)
    checked = watched and case != "lazy modules"
    if watched:
        optimizer.register_step_pre_hook(lambda *_: steps.append(1))
    before = fingerprint(model, optimizer) if checked else None
    with pytest.raises(lrsearch.InvalidArgument, match=f"(?s){message}"):
        lrsearch.find_lr(model, optimizer, loss_fn, batches, progress=False, **made)
    assert steps == []
    if checked:
        assert fingerprint(model, optimizer) == before


def test_every_error_is_of_one_tree() -> None:
    with pytest.raises(lrsearch.LRSearchError):
        lrsearch.find_lr(network(), sgd(network()), LOSS, loader(), progress=False)
    assert issubclass(lrsearch.InvalidArgument, ValueError)


# ------------------------------------------------------------------ one thing taken for another


def refused(**given: Any) -> str:
    model = given.pop("model", None) or network()
    arguments = {"loss_fn": LOSS, "train_loader": loader(), "progress": False, **given}
    optimizer = arguments.pop("optimizer", None) or sgd(model)
    with pytest.raises(lrsearch.InvalidArgument) as caught:
        lrsearch.find_lr(model, optimizer, **arguments)
    return str(caught.value)


def test_a_data_set_in_the_place_of_a_loader_is_told_to_go_into_one() -> None:
    data = loader().dataset
    for kind in (data, torch.utils.data.Subset(data, range(4)), data + data):
        for name in ("train_loader", "val_loader"):
            said = refused(**{name: kind})
            assert said.startswith(f"{name}: got a {type(kind).__name__}, which gives single")
            assert "DataLoader(data_set, batch_size=..." in said


def test_loss_and_loader_in_each_others_place_are_named() -> None:
    for loss in (LOSS, nn.CrossEntropyLoss()):
        said = refused(loss_fn=loader(), train_loader=loss)
        assert said.startswith("loss_fn: got a DataLoader")
        assert "changed places" in said
    assert refused(train_loader=LOSS).startswith("train_loader: got <function")
    assert refused(train_loader=nn.CrossEntropyLoss()).startswith("train_loader: got CrossEntropy")


def test_a_class_in_the_place_of_an_object_is_named() -> None:
    assert "got the class CrossEntropyLoss" in refused(loss_fn=nn.CrossEntropyLoss)
    assert "grad_scaler: got <class" in refused(grad_scaler=torch.amp.GradScaler)
    assert "stateful: got <class" in refused(stateful=[nn.Linear])
    assert "autocast: got <class" in refused(autocast=torch.autocast)
    assert "train_loader: got <class" in refused(train_loader=DataLoader)
    assert "optimizer: got <class" in refused(optimizer=torch.optim.SGD)


def test_a_context_that_is_used_already_is_no_autocast() -> None:
    assert refused(autocast=torch.autocast("cpu")).startswith("autocast: got <torch")


def test_a_model_that_does_not_take_the_batch_is_told_what_no_loss_fn_means() -> None:
    assert "loss_fn: got None, and a list of 2 that the model does not take" in refused(
        loss_fn=None
    )
    named = [{"x": x, "y": y} for x, y in loader()]
    assert "and a dict with keys ['x', 'y']" in refused(loss_fn=None, train_loader=named)


def test_a_type_error_inside_the_model_is_the_users_own() -> None:
    class Broken(nn.Linear):
        def forward(self, x: Any, y: Any) -> Any:
            return super().forward(x) + "one"

    model = Broken(8, 4)
    with pytest.raises(TypeError, match="str"):
        lrsearch.find_lr(model, sgd(model), None, [(torch.ones(2, 8), 1)], progress=False)


def test_held_out_batches_are_named_as_such_before_any_training() -> None:
    triples = [(x, y, y) for x, y in loader()]
    for method in ("range", "race", "sweep"):
        said = refused(val_loader=triples, method=method, train_steps=20)
        assert said.startswith("val_loader: got a tuple of 3")
        said = refused(val_loader=lambda: iter(()), method=method, train_steps=20)
        assert said.startswith("val_loader: got no batches")


def test_inference_mode_is_named() -> None:
    with torch.inference_mode():
        assert refused().startswith("torch.inference_mode() is on")
        inside = network()
    assert "made in torch.inference_mode()" in refused(model=inside)
    with torch.device("meta"):
        nowhere = network()
    assert "on the meta device" in refused(model=nowhere)


class NoLength:
    def __init__(self, error: Exception) -> None:
        self.error = error

    def __iter__(self) -> Any:
        return iter(loader())

    def __len__(self) -> int:
        raise self.error


@pytest.mark.parametrize("error", [TypeError(), NotImplementedError(), AttributeError(), OSError()])
def test_a_loader_may_say_in_any_way_that_it_has_no_length(error: Exception) -> None:
    model, method = network(), lrsearch.RangeTest(steps=10)
    found = lrsearch.find_lr(
        model, sgd(model), LOSS, NoLength(error), method=method, progress=False, throw=False
    )
    assert found.cost.steps > 0
