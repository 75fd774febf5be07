"""Any held-out measure: its loss, its mode, its gradients, and what it may cost."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import lrsearch
from lrsearch.pytorch.held_out import Work
from lrsearch.pytorch.trainable import torch_trainable
from tests.pytorch.fingerprint import fingerprint
from tests.pytorch.problems import CLASSES, FEATURES, loader

LOSS = nn.functional.cross_entropy
BATCHES = list(loader(shuffle=False))
HELD_OUT = BATCHES[:2]
SWEEP: dict[str, Any] = {"method": lrsearch.Sweep([1e-3, 1e-2]), "train_steps": 12}


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(FEATURES, 16), nn.Tanh(), nn.Linear(16, CLASSES))


def find(model: nn.Module, loss_fn: Any = LOSS, **options: Any) -> lrsearch.Result:
    # Of this one there is no update for many trials at a time, which would count as one.
    optimizer = torch.optim.NAdam(model.parameters(), lr=0.1)
    given = {"train_loader": BATCHES, "progress": False, "throw": False, **SWEEP, **options}
    before = fingerprint(model, optimizer)
    result = lrsearch.find_lr(model, optimizer, loss_fn, given.pop("train_loader"), **given)
    assert fingerprint(model, optimizer) == before
    return result


def measured(result: lrsearch.Result) -> list[float]:
    return [curve.evaluations[-1][1] for curve in result.curves]


# ----------------------------------------------------------------------------- of another kind


def wrong(model: nn.Module, batch: Any) -> Tensor:
    return (model(batch[0]).argmax(1) != batch[1]).double().mean()


def test_val_loss_measures_the_held_out_batches() -> None:
    result = find(network(), val_loader=HELD_OUT, val_loss=wrong)
    assert all(0.0 <= share <= 1.0 for share in measured(result))
    assert "val_loss" in str(result.settings["lanes"])
    as_trained = find(network(), val_loader=HELD_OUT, val_loss=lambda m, b: LOSS(m(b[0]), b[1]))
    assert measured(as_trained) == pytest.approx(measured(find(network(), val_loader=HELD_OUT)))


@pytest.mark.parametrize("kind", [float, torch.tensor, lambda x: torch.tensor([x]).numpy()[0]])
def test_evaluate_returns_any_number(kind: Any) -> None:
    def metric(model: nn.Module) -> Any:
        assert not model.training
        return kind(wrong(model, BATCHES[0]).item())

    expected = find(network(), val_loader=BATCHES[:1], val_loss=wrong)
    assert measured(find(network(), evaluate=metric)) == pytest.approx(measured(expected))


def test_a_race_is_ranked_by_what_evaluate_returns() -> None:
    # The worse the training, the better this score: the race must follow it, not the loss.
    def score(model: nn.Module) -> float:
        return sum(p.square().sum().item() for p in model.parameters())

    followed = find(network(), evaluate=score, method="race", train_steps=100)
    assert followed.cost.evaluations > 5
    assert followed.cost.evaluation_seconds > 0.0


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (None, r"evaluate\(...\): got None, expected one number"),
        ("good", "got str 'good'"),
        (torch.ones(3), r"a tensor of shape \(3,\)"),
        (True, "got bool True"),
        ([1.0], "got list"),
    ],
)
def test_what_is_no_number_is_refused(value: Any, message: str) -> None:
    with pytest.raises(lrsearch.InvalidArgument, match=message):
        find(network(), evaluate=lambda _: value)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"val_loss": wrong}, "val_loss: give it with val_loader"),
        ({"val_batches": 2}, "val_batches: give it with val_loader"),
        ({"val_loader": HELD_OUT, "evaluate": len}, "give evaluate or val_loader, not both"),
        ({"val_loader": HELD_OUT, "val_loss": 3}, "val_loss: got 3, expected a function"),
        ({"evaluate": nn.Linear}, "evaluate: got <class"),
        ({"val_loader": HELD_OUT, "val_batches": 0}, "val_batches: got 0"),
        ({"val_loader": HELD_OUT, "val_batches": 1.5}, "val_batches: got 1.5"),
    ],
)
def test_arguments_that_do_not_go_together_are_refused(given: Any, message: str) -> None:
    with pytest.raises(lrsearch.InvalidArgument, match=message):
        find(network(), **given)


def test_a_held_out_batch_without_a_loss_is_passed_over() -> None:
    def loss(model: nn.Module, batch: Any) -> Tensor | None:
        return None if batch is None else LOSS(model(batch[0]), batch[1])

    result = find(network(), None, compute_loss=loss, val_loader=[None, *HELD_OUT, None])
    assert measured(result) == pytest.approx(measured(find(network(), val_loader=HELD_OUT)))
    with pytest.raises(lrsearch.InvalidArgument, match="val_loader: got 2 batches whose loss is"):
        find(network(), None, compute_loss=loss, val_loader=[None, None])


# -------------------------------------------------------------------------------- gradients


class Energy(nn.Module):
    """Forces are minus the slope of the energy."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Linear(FEATURES, 8), nn.SiLU(), nn.Linear(8, 1))

    def forward(self, x: Tensor) -> Tensor:
        x = x.detach().requires_grad_()
        (slope,) = torch.autograd.grad(self.net(x).sum(), x, create_graph=self.training)
        return -slope


def force_loss(model: nn.Module, batch: Any) -> Tensor:
    return (model(batch[0]) - batch[0]).square().mean()


@pytest.mark.parametrize("by", ["loss of training", "val_loss", "evaluate"])
def test_a_measure_that_needs_gradients_has_them_and_leaves_none(by: str) -> None:
    given: dict[str, Any] = {
        "loss of training": {"val_loader": HELD_OUT},
        "val_loss": {"val_loader": HELD_OUT, "val_loss": force_loss},
        "evaluate": {"evaluate": lambda m: force_loss(m, HELD_OUT[0]).item()},
    }[by]
    result = find(Energy(), None, compute_loss=force_loss, **given)
    assert measured(result)[1] < measured(result)[0]


def test_an_evaluation_that_goes_backward_adds_nothing_to_anybodys_gradients() -> None:
    def sharpness(model: nn.Module) -> float:
        loss = LOSS(model(BATCHES[0][0]), BATCHES[0][1])
        loss.backward()
        return sum(p.grad.square().sum().item() for p in model.parameters() if p.grad is not None)

    model = network()
    LOSS(model(BATCHES[1][0]), BATCHES[1][1]).backward()  # the user's own gradients
    first = find(model, evaluate=sharpness)
    assert measured(first) == measured(find(network(), evaluate=sharpness))


def test_a_loss_without_gradients_is_measured_without_keeping_a_graph() -> None:
    seen: list[bool] = []

    def loss(model: nn.Module, batch: Any) -> Tensor:
        if not model.training:
            seen.append(torch.is_grad_enabled())
        return LOSS(model(batch[0]), batch[1])

    find(network(), None, compute_loss=loss, val_loader=HELD_OUT)
    assert seen
    assert not any(seen)


# ------------------------------------------------------- models that are others in eval mode


class Detector(nn.Module):
    """Losses in training mode, detections in eval mode."""

    def __init__(self) -> None:
        super().__init__()
        self.net = network()

    def forward(self, x: Tensor, y: Tensor) -> Any:
        if self.training:
            return {"classes": LOSS(self.net(x), y), "boxes": self.net(x).square().mean()}
        return [{"labels": label} for label in self.net(x).argmax(1)]


class WithAuxiliaryHead(Detector):
    """A pair of outputs in training mode, one output in eval mode."""

    def forward(self, x: Tensor, y: Tensor) -> Any:
        out = self.net(x)
        return (out, out) if self.training else out


@dataclasses.dataclass
class Output:
    loss: Tensor


class LossInTraining(Detector):
    """Its output carries the loss in training mode only."""

    def forward(self, x: Tensor, y: Tensor) -> Any:
        out = self.net(x)
        return Output(LOSS(out, y)) if self.training else out


class PerExample(Detector):
    """One loss in training mode, one per example in eval mode."""

    def forward(self, x: Tensor, y: Tensor) -> Any:
        return LOSS(self.net(x), y, reduction="mean" if self.training else "none")


MODES: dict[str, tuple[type[nn.Module], Any]] = {
    "detector": (Detector, lambda m, b: sum(m(*b).values())),
    "auxiliary head": (
        WithAuxiliaryHead,
        lambda m, b: (lambda out, aux: LOSS(out, b[1]) + 0.4 * LOSS(aux, b[1]))(*m(*b)),
    ),
    "loss in the output": (LossInTraining, None),
    "per example": (PerExample, None),
}


@pytest.mark.parametrize("kind", MODES)
def test_a_loss_that_exists_in_training_mode_only_is_told_to_give_val_loss(kind: str) -> None:
    make, loss = MODES[kind]
    with pytest.raises(lrsearch.InvalidArgument, match="val_loss: the loss of the training"):
        find(make(), None, compute_loss=loss, val_loader=HELD_OUT)
    right = find(
        make(),
        None,
        compute_loss=loss,
        val_loader=HELD_OUT,
        val_loss=lambda m, b: LOSS(m.net(b[0]), b[1]),
    )
    assert measured(right)[1] < measured(right)[0]


def test_an_error_of_the_validation_that_training_has_too_is_passed_on() -> None:
    held_out = [(x, y + 100) for x, y in HELD_OUT]
    with pytest.raises(IndexError, match="out of bounds") as caught:
        find(network(), val_loader=held_out)
    assert any("val_loss=" in note for note in caught.value.__notes__)


# ------------------------------------------------------------------------------ what it costs


class Counted:
    """Held-out batches that note which of them are read, where no search takes it back."""

    def __init__(self, batches: list[Any], read: list[int], length: bool = True) -> None:
        self._batches, self._known = batches, length
        self._note = lambda place: read.append(place)

    def __iter__(self) -> Iterator[Any]:
        for place, batch in enumerate(self._batches):
            self._note(place)
            yield batch

    def __len__(self) -> int:
        if not self._known:
            raise TypeError("not known")
        return len(self._batches)


MANY = [BATCHES[place % len(BATCHES)] for place in range(160)]
LARGE = list(loader(64, shuffle=False))


@pytest.mark.parametrize("method", ["race", "range"])
def test_evaluations_take_about_a_quarter_of_the_work_at_most(method: str) -> None:
    seen = {"train": 0, "held out": 0}

    def loss(model: nn.Module, batch: Any) -> Tensor:
        seen["train" if model.training else "held out"] += len(batch[0])
        return LOSS(model(batch[0]), batch[1])

    steps = {"race": {"train_steps": 400}, "range": {"method": lrsearch.RangeTest(400)}}[method]
    data = {"train_loader": LARGE, "val_loader": LARGE * 20}
    result = find(network(), None, compute_loss=loss, **data, **{"method": "auto", **steps})
    assert result.cost.evaluations >= 4
    share = seen["held out"] / 3 / (seen["train"] + seen["held out"] / 3)
    assert share <= 0.3


def places_read(batches: list[Any]) -> set[int]:
    read: list[int] = []
    find(network(), val_loader=Counted(batches, read), method=lrsearch.RangeTest(20))
    return set(read)


def test_few_examples_are_all_read_whatever_the_search_costs() -> None:
    assert places_read(MANY[:32]) == set(range(32))


def test_two_batches_are_always_read_however_large() -> None:
    whole = torch.utils.data.DataLoader(loader().dataset, batch_size=256)
    large = [*whole, *whole, *whole, *whole]
    assert places_read(large) == set(range(4))  # up to the last of two, spread over four
    assert places_read([*whole, *whole]) == {0, 1}


def test_the_batches_read_are_spread_over_the_loader() -> None:
    seen: list[Tensor] = []
    marked = [(torch.full_like(x, place), y) for place, (x, y) in enumerate(MANY[:100])]

    def loss(model: nn.Module, batch: Any) -> Tensor:
        if not model.training:
            seen.append(batch[0][0, 0])
        return LOSS(model(batch[0]), batch[1])

    result = find(network(), None, compute_loss=loss, val_loader=marked, val_batches=4)
    assert [int(place) for place in seen[:4]] == [12, 37, 62, 87]
    assert len(seen) == 4 * result.cost.evaluations > 0


def test_as_many_batches_as_there_are_is_all_of_them() -> None:
    everything = find(network(), val_loader=HELD_OUT, val_batches=2)
    assert measured(everything) == measured(find(network(), val_loader=HELD_OUT))
    more = find(network(), val_loader=HELD_OUT, val_batches=50)
    assert measured(more) == measured(everything)


@pytest.mark.parametrize("kind", ["generator", "endless", "get_batch"])
def test_held_out_data_without_an_end_are_read_as_far_as_an_evaluation_may(kind: str) -> None:
    def get_batch() -> tuple[Tensor, Tensor]:
        x = torch.randn(16, FEATURES)
        return x, (x.sum(1) > 0).long()

    makers: dict[str, Any] = {
        "generator": lambda: iter(MANY),
        "endless": lambda: itertools.cycle(BATCHES),
        "get_batch": get_batch,
    }
    result = find(network(), val_loader=makers[kind])
    assert measured(result) == measured(find(network(), val_loader=makers[kind]))


def test_without_a_search_in_view_a_function_of_one_batch_needs_val_batches() -> None:
    def get_batch() -> tuple[Tensor, Tensor]:
        return BATCHES[0]

    def trainable(**options: Any) -> Any:
        model = network()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        return torch_trainable(model, optimizer, LOSS, BATCHES, val_loader=get_batch, **options)

    with pytest.raises(lrsearch.InvalidArgument, match="val_batches: got None, expected a number"):
        trainable().evaluate()
    two, one = (trainable(val_batches=count).evaluate() for count in (2, 1))
    assert two.loss == one.loss


def test_the_examples_of_an_evaluation_grow_with_the_search() -> None:
    assert Work(steps=100, evaluations=40).examples(16) == 512
    assert Work(steps=10_000, evaluations=40).examples(64) == 16_000


def test_the_seconds_of_the_evaluations_are_in_the_cost_and_in_the_file() -> None:
    result = find(network(), val_loader=HELD_OUT)
    assert 0.0 < result.cost.evaluation_seconds <= result.cost.seconds
    assert '"evaluation_seconds"' in result.to_json()
    assert find(network()).cost.evaluation_seconds == 0.0
