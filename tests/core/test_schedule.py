from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrsearch.core.schedule import SHAPES, Table, multipliers, settled, shape
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


# ------------------------------------------------------------------------------ as people have it


@given(
    name=st.sampled_from(sorted(SHAPES)),
    total=st.integers(2, 300),
    share=st.floats(0.01, 0.99),
)
def test_a_warmup_composes_with_every_name(name: str, total: int, share: float) -> None:
    warm = min(round(share * total), total - 1)
    values = multipliers(settled(name, total, warmup_steps=share), total)
    assert (values > 0).all()
    assert (np.diff(values[: warm + 1]) > 0).all() or name in ("one-cycle", "wsd")
    assert values[warm:].tolist() == multipliers(name, total - warm).tolist()


@pytest.mark.parametrize("name", sorted(SHAPES))
def test_a_warmup_in_updates_is_its_share_of_shorter_runs(name: str) -> None:
    planned = settled(name, 200, warmup_steps=50)
    assert multipliers(planned, 200)[:50].tolist() == pytest.approx(np.arange(1, 51) / 51)
    assert multipliers(planned, 40)[:10].tolist() == pytest.approx(np.arange(1, 11) / 11)
    assert multipliers(planned, 1).shape == (1,)


@pytest.mark.parametrize("none", [None, 0])
def test_no_warmup_is_the_schedule_itself(none: int | None) -> None:
    assert settled("cosine", 100, none) == "cosine"


@pytest.mark.parametrize(
    ("warmup", "steps", "words"),
    [
        (100, 100, "fewer than the 100 updates"),
        (-1, 100, "warmup_steps: got -1"),
        (2.5, 100, "warmup_steps: got 2.5"),
        (math.nan, 100, "warmup_steps: got nan"),
        ("ten", 100, "warmup_steps: got 'ten'"),
        (True, 100, "warmup_steps: got True"),
        (10, None, "train_steps beside it"),
    ],
)
def test_a_warmup_that_is_none_is_refused(warmup: object, steps: int, words: str) -> None:
    with pytest.raises(InvalidArgument, match=words):
        settled("linear", steps, warmup)  # type: ignore[arg-type]


def test_a_warmup_before_a_schedule_that_tells_every_update_is_refused() -> None:
    with pytest.raises(InvalidArgument, match=r"warmup_steps.*tells every update"):
        settled([1.0, 0.5], 2, 1)


@pytest.mark.parametrize(
    "values",
    [[0.5, 1.0, 0.25, 0.0], (0.5, 1.0, 0.25, 0.0), np.array([0.5, 1.0, 0.25, 0.0]), [1, 2, 0.5, 0]],
    ids=["list", "tuple", "array", "above one"],
)
def test_a_sequence_of_multipliers_is_a_schedule(values: object) -> None:
    planned = settled(values, 4)  # type: ignore[arg-type]
    assert multipliers(planned, 4).tolist() == [0.5, 1.0, 0.25, 0.0]
    assert multipliers(planned, 8).tolist() == [0.5, 0.75, 1.0, 0.625, 0.25, 0.125, 0.0, 0.0]
    assert repr(planned) == "a sequence over 4 updates"


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ([], "at least one multiplier"),
        ([1.0, -0.5], "got -0.5, .* at update 1"),
        ([1.0, math.nan], "got nan"),
        ([0.0, 0.0], "above 0 at some update"),
        (["a"], "a sequence of multipliers"),
        ([[1.0, 0.5]], "a sequence of multipliers"),
        ([1e-3, 5e-4], r"0\.001 as the largest.*If these are learning rates"),
    ],
)
def test_a_sequence_that_is_none_is_refused(values: list[object], words: str) -> None:
    with pytest.raises(InvalidArgument, match=words):
        settled(values, 10)  # type: ignore[arg-type]


@pytest.mark.parametrize("top", [2.0, 25.0, 0.5])
def test_a_callable_is_scaled_to_its_own_peak(top: float) -> None:
    planned = settled(lambda step, total: top * (1 - step / total), 100)
    assert multipliers(planned, 100).tolist() == pytest.approx(multipliers("linear", 100).tolist())


@pytest.mark.parametrize("peak", [0.1, 3e-4, 1e-9])
def test_a_callable_in_learning_rates_is_refused(peak: float) -> None:
    with pytest.raises(InvalidArgument, match=r"schedule: .*as the largest.*divide them by"):
        settled(lambda step, total: peak * (1 - step / total), 100)


@pytest.mark.parametrize(
    "function",
    [
        lambda step, total: min(1.0, (step + 1) / 20),
        lambda step, total: 0.97**step,
        lambda step, total=100: 1 - step / 100 if step < 100 else 0.0,
    ],
    ids=["warmup", "decay", "a length of its own"],
)
def test_a_callable_that_does_not_look_at_total_is_told_and_compressed(function) -> None:
    with pytest.warns(UserWarning, match=r"does not look at total"):
        planned = settled(function, 100)
    whole, short = multipliers(planned, 100), multipliers(planned, 20)
    assert whole.tolist() == pytest.approx([function(step, 100) for step in range(100)])
    assert short.tolist() == pytest.approx(whole[::5].tolist())


def test_looking_at_a_callable_once_is_enough() -> None:
    with pytest.warns(UserWarning, match="total"):
        planned = settled(lambda step, total: 0.9**step, 50)
    assert isinstance(planned, Table)
    assert settled(planned, 50) is planned


def test_a_callable_that_looks_at_total_or_is_constant_is_left_as_it_is() -> None:
    for function in (
        lambda step, total: 1 - step / total,
        lambda step, total: 1 - (step + 1) / (total + 1),
        lambda step, total: 1.0,
    ):
        assert settled(function, 100) is function


@pytest.mark.parametrize(
    "function",
    [lambda step, total: [1.0, 0.5][step], lambda step, total: 1 / 0, lambda step: 1.0],
    ids=["too short a list", "division", "one argument"],
)
def test_a_callable_that_raises_is_refused_with_what_it_raised(function) -> None:
    with pytest.raises(InvalidArgument, match=r"schedule: got .*For a run of 10 updates it raised"):
        settled(function, 10)


@pytest.mark.parametrize("thing", [None, 3, 1.5, object()])
def test_what_is_no_schedule_is_refused_with_what_is_one(thing: object) -> None:
    with pytest.raises(InvalidArgument, match=r"one of 'constant'.*a sequence.*a scheduler"):
        settled(thing, 10)  # type: ignore[arg-type]
