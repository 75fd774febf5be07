"""What holds for every schedule, curve, suggestion and file, whatever the numbers are."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from lrsearch.core.curve import Curve, Stop, final_loss, noise, smooth
from lrsearch.core.outcome import Cost, Outcome, Status
from lrsearch.core.schedule import SHAPES, multipliers, shape
from lrsearch.core.search import Plan, Probe, drive
from lrsearch.core.serialize import from_json, to_json
from lrsearch.core.stopping import StopRule, Watch
from lrsearch.core.suggest import suggest
from lrsearch.errors import InvalidArgument, InvalidResultFile
from lrsearch.methods.race import Race

any_float = st.floats(allow_nan=True, allow_infinity=True)
finite = st.floats(-1e6, 1e6)
rates = st.floats(1e-9, 1e3)


@st.composite
def curves(draw: st.DrawFn, losses: st.SearchStrategy[float] = any_float) -> Curve:
    points = draw(st.lists(st.tuples(rates, losses), max_size=30))
    stop = draw(st.sampled_from(Stop))
    return Curve([lr for lr, _ in points], [loss for _, loss in points], stop)  # type: ignore[arg-type]


# ---------------------------------------------------------------------------------- schedules


@given(name=st.text(max_size=12))
def test_any_word_is_a_schedule_or_an_error_of_ours(name: str) -> None:
    if name in SHAPES:
        assert shape(name) is SHAPES[name]
    else:
        with pytest.raises(InvalidArgument, match="'constant', 'linear'"):
            shape(name)


@given(values=st.lists(st.one_of(any_float, st.none(), st.text(max_size=2)), min_size=1))
def test_any_callable_gives_multipliers_or_an_error_of_ours(values: list[Any]) -> None:
    try:
        found = multipliers(lambda step, total: values[step], len(values))
    except InvalidArgument as error:
        assert str(error).startswith("schedule: got")  # noqa: PT017
    else:
        assert found.tolist() == [float(value) for value in values]
        assert 0.0 <= found.min() <= found.max() <= 1.0 + 1e-9
        assert found.any()


@given(name=st.sampled_from(sorted(SHAPES)), total=st.integers(40, 400), factor=st.integers(2, 5))
def test_a_longer_run_has_the_same_shape(name: str, total: int, factor: int) -> None:
    short, long = multipliers(name, total), multipliers(name, factor * total)
    steepest = np.abs(np.diff(short)).max()
    np.testing.assert_allclose(long[::factor], short, atol=2.0 * steepest + 1e-9)


# ------------------------------------------------------------------------------------- curves


@given(curve=curves())
def test_a_curve_equals_its_copy_and_the_finite_part_is_finite(curve: Curve) -> None:
    copy = Curve(curve.lr.copy(), curve.loss.copy(), curve.stop, curve.lane)
    assert copy == curve
    assert hash(copy) == hash(curve)
    part = curve.finite()
    assert np.isfinite(part.loss).all()
    assert part.finite() == part
    if len(part) < len(curve):
        assert not math.isfinite(curve.loss[len(part)])


@given(curve=curves(losses=finite))
def test_rungs_ascend_and_keep_the_mean_loss(curve: Curve) -> None:
    assume(len(curve))
    rungs = curve.by_rung()
    assert (np.diff(rungs.lr) > 0.0).all()
    counts = [int((curve.lr == lr).sum()) for lr in rungs.lr]
    assert sum(counts) == len(curve)
    total = float(np.dot(counts, rungs.loss))
    assert total == pytest.approx(float(curve.loss.sum()), rel=1e-9, abs=1e-6)


@given(values=hnp.arrays(np.float64, st.integers(1, 60), elements=finite))
def test_smoothing_never_leaves_the_range_and_keeps_the_first_value(values: np.ndarray) -> None:
    smoothed = smooth(values)
    slack = 1e-12 * np.abs(values).max()
    assert smoothed[0] == values[0]
    assert (smoothed >= np.minimum.accumulate(values) - slack).all()
    assert (smoothed <= np.maximum.accumulate(values) + slack).all()


@given(
    values=hnp.arrays(np.float64, st.integers(3, 60), elements=st.floats(-100.0, 100.0)),
    shift=st.floats(-100.0, 100.0),
    scale=st.floats(1e-3, 1e3),
    slope=st.floats(-1.0, 1.0),
)
def test_noise_is_blind_to_level_and_slope_and_grows_with_the_scale(
    values: np.ndarray, shift: float, scale: float, slope: float
) -> None:
    moved = values + shift + slope * np.arange(len(values))
    assert noise(moved) == pytest.approx(noise(values), rel=1e-6, abs=1e-9)
    assert noise(scale * values) == pytest.approx(scale * noise(values), rel=1e-6, abs=1e-12)


@given(curve=curves())
def test_the_final_loss_is_a_number_that_was_nearly_measured_or_infinite(curve: Curve) -> None:
    assume(len(curve))
    found = final_loss(curve)
    if np.isfinite(curve.loss).all():
        with np.errstate(over="ignore"):
            assert curve.loss.min() - abs(found) * 1e-9 <= found
            assert found <= curve.loss.max() + abs(found) * 1e-9
    else:
        assert found == math.inf


# -------------------------------------------------------------------------- stops and suggestions


@given(losses=st.lists(any_float, max_size=60), patience=st.integers(1, 5))
def test_a_lane_is_never_stopped_at_its_lowest_loss_unless_it_broke(
    losses: list[float], patience: int
) -> None:
    rule, watch = StopRule(patience=patience), Watch()
    for made, loss in enumerate(losses, start=1):
        with np.errstate(all="ignore"):
            watch = rule.update(watch, loss)
        if watch.stop is not None:
            assert (watch.stop is Stop.NOT_FINITE) == (not math.isfinite(loss))
            assert watch.stop is Stop.NOT_FINITE or loss > min(losses[: made - 1])
            break
        assert math.isfinite(loss)


@settings(max_examples=50)
@given(
    seed=st.integers(0, 10_000),
    rule=st.sampled_from(["default", "steepest", "valley", "minimum", "turning"]),
    factor=st.floats(1e-3, 1e3),
)
def test_ten_times_the_rates_give_ten_times_the_suggestion(
    seed: int, rule: str, factor: float
) -> None:
    random = np.random.default_rng(seed)
    lrs = np.geomspace(1e-5, 1.0, 80)
    losses = 2.0 - 1.5 / (1.0 + (1e-3 / lrs) ** 2) + 0.02 * random.standard_normal(80)
    plain, moved = suggest(Curve(lrs, losses), rule), suggest(Curve(factor * lrs, losses), rule)
    assert plain.status is moved.status
    assert moved.lr == pytest.approx(factor * plain.lr, rel=1e-6)


@settings(max_examples=25)
@given(
    seed=st.integers(0, 10_000),
    budget=st.floats(0.05, 3.0),
    steps=st.integers(1, 400),
    schedule=st.sampled_from(sorted(SHAPES)),
    broken=st.floats(0.0, 1.0),
)
def test_a_race_on_any_losses_ends_with_a_rate_or_a_reason(
    seed: int, budget: float, steps: int, schedule: str, broken: float
) -> None:
    random = np.random.default_rng(seed)
    plan = Plan(steps, schedule, can_evaluate=bool(seed % 2))

    def measure(probe: Probe) -> Curve:
        assert probe.lane < 100
        assert all(lr >= 0.0 and math.isfinite(lr) for lr in probe.lrs)
        assert max(probe.lrs) > 0.0
        return _any_curve(probe, random, broken)

    answer = drive(Race(budget=budget), plan, measure)
    assert answer.why
    assert (0.0 < answer.lr < math.inf) is answer.status.found
    assert math.isnan(answer.lr) or answer.low <= answer.lr <= answer.high


def _any_curve(probe: Probe, random: np.random.Generator, broken: float) -> Curve:
    losses = np.cumsum(random.standard_normal(len(probe.lrs)))
    if random.random() < broken:
        cut = int(random.integers(len(losses)))
        ended = [*losses[:cut], random.choice([math.nan, math.inf])]
        return Curve(probe.lrs[: cut + 1], ended, Stop.NOT_FINITE, probe.lane)  # type: ignore[arg-type]
    measured = ((len(losses), float(random.standard_normal())),) if probe.evaluate else ()
    return Curve(probe.lrs, losses, lane=probe.lane, evaluations=measured)  # type: ignore[arg-type]


# --------------------------------------------------------------------------------------- JSON

GOOD = to_json(
    Outcome(
        lr=0.1,
        low=0.05,
        high=0.2,
        status=Status.FOUND,
        why="it fell",
        rule="default",
        curves=(Curve([0.1, 0.2], [2.0, math.nan], Stop.NOT_FINITE, evaluations=((2, 1.0),)),),  # type: ignore[arg-type]
        cost=Cost(2, 1, 0.5, 0.1),
        settings={"seed": 0},
    )
).encode()


@settings(max_examples=300)
@given(
    changes=st.lists(
        st.tuples(st.integers(0, len(GOOD) - 1), st.integers(0, 255)), min_size=1, max_size=4
    )
)
def test_a_file_with_any_bytes_changed_is_read_or_refused_by_our_error(
    changes: list[tuple[int, int]],
) -> None:
    content = bytearray(GOOD)
    for place, byte in changes:
        content[place] = byte
    try:
        outcome = from_json(bytes(content))
    except InvalidResultFile as error:
        assert str(error)  # noqa: PT017
    else:
        assert from_json(to_json(outcome)).curves == outcome.curves


@given(start=st.integers(0, len(GOOD)), piece=st.binary(max_size=20), cut=st.integers(0, 40))
def test_a_file_with_a_piece_replaced_is_read_or_refused_by_our_error(
    start: int, piece: bytes, cut: int
) -> None:
    content = GOOD[:start] + piece + GOOD[start + cut :]
    try:
        outcome = from_json(content)
    except InvalidResultFile as error:
        assert str(error)  # noqa: PT017
    else:
        assert json.loads(to_json(outcome))["format"] == "lrsearch-result"
