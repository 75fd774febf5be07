from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrsearch.core.schedule import SHAPES, multipliers, shape
from lrsearch.errors import InvalidArgument


@given(name=st.sampled_from(sorted(SHAPES)), total=st.integers(1, 500))
def test_every_multiplier_of_every_shape_is_positive_and_at_most_one(name: str, total: int) -> None:
    values = multipliers(name, total)
    assert values.shape == (total,)
    assert (values > 0).all()
    assert (values <= 1).all()


@pytest.mark.parametrize("name", ["linear", "cosine"])
@pytest.mark.parametrize("total", [1, 2, 7, 100])
def test_a_decay_begins_at_the_peak_and_falls_at_every_update(name: str, total: int) -> None:
    values = multipliers(name, total)
    assert values[0] == 1.0
    assert (np.diff(values) < 0).all()


def test_a_decay_ends_near_zero_without_wasting_its_last_update() -> None:
    assert multipliers("linear", 1000)[-1] == pytest.approx(1e-3)
    assert 0 < multipliers("cosine", 1000)[-1] < 1e-5


def test_the_constant_shape_is_one_throughout() -> None:
    assert multipliers("constant", 5).tolist() == [1.0] * 5


def test_wsd_warms_up_stays_and_falls_over_the_last_fifth() -> None:
    values = multipliers("wsd", 200)
    assert values[:10].tolist() == pytest.approx(np.arange(1, 11) / 10)
    assert values[10:161].tolist() == [1.0] * 151
    assert values[160:].tolist() == pytest.approx(np.arange(40, 0, -1) / 40)


def test_one_cycle_rises_over_the_first_third_and_then_falls() -> None:
    values = multipliers("one-cycle", 1000)
    peak = int(np.argmax(values))
    assert peak == 299
    assert (np.diff(values[: peak + 1]) > 0).all()
    assert (np.diff(values[peak:]) < 0).all()


def _torch_multipliers(total: int, make) -> list[float]:
    torch = pytest.importorskip("torch")
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    scheduler = make(torch.optim.lr_scheduler, optimizer)
    values = []
    for _ in range(total):
        values.append(float(optimizer.param_groups[0]["lr"]))
        optimizer.step()
        if len(values) < total:
            scheduler.step()
    return values


@pytest.mark.parametrize("total", [1, 2, 3, 4, 5, 10, 33, 100, 1001])
def test_one_cycle_is_torchs_with_its_defaults(total: int) -> None:
    theirs = _torch_multipliers(
        total, lambda torch, optimizer: torch.OneCycleLR(optimizer, 1.0, total_steps=total)
    )
    assert multipliers("one-cycle", total).tolist() == pytest.approx(theirs, rel=1e-9)


@pytest.mark.parametrize("total", [1, 2, 10, 97])
def test_linear_is_torchs_lambda_lr_and_cosine_its_cosine_annealing(total: int) -> None:
    line = _torch_multipliers(
        total, lambda torch, optimizer: torch.LambdaLR(optimizer, lambda step: 1 - step / total)
    )
    curve = _torch_multipliers(
        total, lambda torch, optimizer: torch.CosineAnnealingLR(optimizer, T_max=total)
    )
    assert multipliers("linear", total).tolist() == pytest.approx(line, rel=1e-12)
    assert multipliers("cosine", total).tolist() == pytest.approx(curve, rel=1e-9)


def test_a_callable_is_a_schedule_and_is_told_the_step_and_the_total() -> None:
    assert multipliers(lambda step, total: (step + 1) / total, 4).tolist() == [0.25, 0.5, 0.75, 1.0]


def test_a_multiplier_of_zero_at_some_updates_is_allowed() -> None:
    assert multipliers(lambda step, total: float(step % 2), 4).tolist() == [0.0, 1.0, 0.0, 1.0]


@pytest.mark.parametrize("name", ["cosin", "", None, 3, ["linear"]])
def test_an_unknown_schedule_is_refused_with_the_names_there_are(name: object) -> None:
    with pytest.raises(InvalidArgument, match=r"schedule: got .* one of 'constant', 'linear'"):
        shape(name)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "function",
    [
        lambda step, total: 2.0,
        lambda step, total: -0.1,
        lambda step, total: math.nan,
        lambda step, total: math.inf,
        lambda step, total: 0.0,
        lambda step, total: None,
        lambda step, total: "half",
        lambda step: 1.0,
        lambda: 1.0,
    ],
    ids=["two", "negative", "nan", "inf", "zero", "none", "text", "one argument", "no argument"],
)
def test_a_callable_that_gives_no_multipliers_is_refused(function) -> None:
    with pytest.raises(InvalidArgument, match=r"^schedule: got"):
        multipliers(function, 10)


def test_the_first_bad_update_of_a_callable_is_named() -> None:
    with pytest.raises(InvalidArgument, match=r"got 1\.5, .* at update 7 of 10"):
        multipliers(lambda step, total: 1.5 if step >= 7 else 1.0, 10)


@pytest.mark.parametrize("total", [0, -1, 2.5])
def test_a_run_without_updates_has_no_multipliers(total) -> None:
    with pytest.raises(InvalidArgument, match=r"^total: got"):
        multipliers("linear", total)
