"""Searches on recorded losses: what is replayed is what was recorded."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import lrsearch
from lrsearch.core.curve import final_loss
from lrsearch.core.search import Plan, run_search
from lrsearch.testing import (
    EvaluatedReplayTrainable,
    RecordedRun,
    Recording,
    ReplayTrainable,
    TrainableSuite,
    replay,
)
from tests.core.toys import Judged, Quadratic, SineNet

LRS = np.geomspace(1e-4, 1.0, 17)


def recorded(steps: int = 64, lrs: Any = LRS) -> Recording:
    """A quadratic at constant learning rates, by its closed form; 1.0 diverges."""
    bowl = Quadratic((1.0, 10.0))
    with np.errstate(over="ignore"):
        losses = [bowl.closed_form(lrs, step) for step in range(steps + 1)]  # (steps + 1, lrs)
    runs = [
        RecordedRun(length, np.transpose(losses[:length]), losses[length])
        for length in (steps // 4, steps)
    ]
    return Recording(lrs, tuple(runs), initial=float(losses[0][0]))


class TestReplay(TrainableSuite):
    lr = 0.1

    def make(self) -> ReplayTrainable:
        return ReplayTrainable(recorded())

    def fingerprint(self, trainable: Any) -> object:
        return trainable.snapshot()


class TestEvaluatedReplay(TestReplay):
    def make(self) -> ReplayTrainable:
        return replay(recorded())


# -------------------------------------------------------------------------------- the losses


@pytest.mark.parametrize("lr", LRS.tolist())
def test_at_a_recorded_rate_the_losses_are_the_recorded_ones(lr: float) -> None:
    bowl, trainable = Judged((1.0, 10.0)), replay(recorded())
    for _ in range(64):
        assert trainable.step(lr) == pytest.approx(bowl.step(lr))
    assert trainable.evaluate() == pytest.approx(bowl.evaluate())  # type: ignore[attr-defined]


@pytest.mark.parametrize("length", [16, 64])
def test_a_recorded_length_ends_at_its_recorded_held_out_loss(length: int) -> None:
    recording = recorded()
    run = next(run for run in recording.runs if run.steps == length)
    trainable = replay(recording)
    for _ in range(length):
        trainable.step(float(LRS[5]))
    assert trainable.evaluate() == run.held_out[5]  # type: ignore[attr-defined,index]


def test_between_lengths_it_is_linear_in_the_logarithm_of_the_length() -> None:
    runs = (RecordedRun(4, held_out=[2.0]), RecordedRun(16, held_out=[1.0]))
    trainable = EvaluatedReplayTrainable(Recording([0.1], runs, initial=3.0))
    losses = []
    for _ in range(16):
        losses.append(trainable.evaluate())
        trainable.step(0.1)
    assert losses[0] == 3.0
    assert losses[2] == 2.5  # half way to the shortest, linear in its updates
    assert losses[8] == pytest.approx(1.5)
    assert trainable.evaluate() == 1.0


def test_between_rates_it_is_linear_in_the_logarithm_of_the_rate() -> None:
    run = RecordedRun(2, losses=[[5.0, 4.0], [5.0, 2.0]])
    trainable = ReplayTrainable(Recording([0.01, 1.0], [run]))
    assert [trainable.step(0.1), trainable.step(0.1)] == pytest.approx([5.0, 3.0])


def test_below_the_lowest_rate_training_losses_are_linear_in_it_with_their_noise() -> None:
    def batches(lr: float) -> list[float]:
        bowl = Quadratic((1.0, 10.0), noise=0.5)
        return [bowl.step(lr) for _ in range(20)]

    losses = np.array([batches(1e-5), batches(2e-5)])
    trainable = ReplayTrainable(Recording([1e-5, 2e-5], (RecordedRun(20, losses),)))
    replayed = [trainable.step(1e-6) for _ in range(20)]
    assert replayed == pytest.approx(batches(1e-6), rel=1e-4)


def test_below_the_lowest_rate_held_out_progress_is_in_proportion() -> None:
    runs = (RecordedRun(2, held_out=[4.0, 2.0]),)
    trainable = EvaluatedReplayTrainable(Recording([0.01, 1.0], runs, initial=5.0))
    trainable.step(0.001)
    trainable.step(0.001)
    assert trainable.evaluate() == pytest.approx(4.9)


def test_of_a_single_rate_lower_ones_are_as_that_one() -> None:
    trainable = ReplayTrainable(Recording([0.1], (RecordedRun(2, losses=[[2.0, 1.0]]),)))
    assert [trainable.step(0.01), trainable.step(0.01)] == [2.0, 1.0]


@pytest.mark.parametrize("lr", [1.1, 0.02])
def test_above_the_highest_rate_and_beside_a_diverged_one_the_loss_is_not_finite(
    lr: float,
) -> None:
    run = RecordedRun(2, losses=[[5.0, 4.0], [5.0], [5.0, 3.0]])
    trainable = ReplayTrainable(Recording([0.01, 0.1, 1.0], [run]))
    trainable.step(lr)
    assert math.isnan(trainable.step(lr))


def test_a_length_that_no_lane_reached_costs_no_memory_and_its_losses_are_not_finite() -> None:
    run = RecordedRun(10**15, losses=[[5.0, 4.0], [5.0]])
    trainable = ReplayTrainable(Recording([0.01, 0.1], (run,)))
    losses = [trainable.step(0.01) for _ in range(3)]
    assert losses[:2] == [5.0, 4.0]
    assert math.isnan(losses[2])


def test_a_rate_that_is_off_by_rounding_is_the_recorded_one() -> None:
    run = RecordedRun(2, losses=[[5.0, 4.0], [5.0, 3.0], [5.0]])
    recording = Recording([0.01, 0.1, 1.0], [run])
    for lr in (math.nextafter(0.1, 1.0), math.nextafter(0.1, 0.0), 10 ** math.log10(0.1)):
        trainable = ReplayTrainable(recording)
        trainable.step(lr)
        assert trainable.step(lr) == 3.0


def test_under_a_schedule_the_peak_tells_the_run() -> None:
    recording = recorded()
    trainable = replay(recording)
    losses = [trainable.step(lr) for lr in 0.1 * np.linspace(1.0, 0.0, 64)]
    other = replay(recording)
    assert losses == [other.step(0.1) for _ in range(64)]


def test_without_training_losses_the_held_out_ones_stand_in() -> None:
    runs = (RecordedRun(2, held_out=[2.0]), RecordedRun(4, held_out=[1.0]))
    trainable = replay(Recording([0.1], runs, initial=3.0))
    losses = [trainable.step(0.1) for _ in range(4)]
    assert losses[:3] == [3.0, 2.5, 2.0]
    assert 1.0 < losses[3] < 2.0


def test_more_updates_than_were_recorded_are_refused() -> None:
    trainable = ReplayTrainable(Recording([0.1], [RecordedRun(2, losses=[[2.0, 1.0]])]))
    trainable.step(0.1)
    trainable.step(0.1)
    with pytest.raises(lrsearch.InvalidArgument, match=r"update 3.*at most the 2 recorded"):
        trainable.step(0.1)


# ------------------------------------------------------------------------------- whole searches


def test_a_sweep_on_the_recording_is_the_sweep_that_was_recorded() -> None:
    plan, sweep = Plan(40), lrsearch.Sweep(LRS.tolist())
    real = run_search(Judged((1.0, 10.0), noise=0.3), sweep, plan)
    again = run_search(replay(Recording.of(real, initial=5.5)), sweep, plan)
    for one, other in zip(real.curves[:-1], again.curves[:-1], strict=True):
        assert other.loss.tolist() == one.loss.tolist()
        assert final_loss(other) == final_loss(one)
    assert again.lr == real.lr


@pytest.mark.parametrize("schedule", ["constant", "cosine"])
@pytest.mark.parametrize("kind", ["noisy quadratic", "sine net"])
def test_a_race_on_recorded_lengths_finds_a_rate_whose_recorded_loss_is_near_the_best(
    kind: str, schedule: str
) -> None:
    def make() -> Any:
        return SineNet() if kind == "sine net" else Judged((1.0, 10.0), noise=0.3)

    lrs = np.geomspace(1e-4, 10.0, 26).tolist()
    race, plan = lrsearch.Race(budget=1.0), Plan(256, schedule)
    sweeps = [
        run_search(make(), lrsearch.Sweep(lrs), Plan(steps, schedule)) for steps in (16, 64, 256)
    ]
    initial = make().evaluate() if kind != "sine net" else None
    answer = run_search(replay(Recording.of(*sweeps, initial=initial)), race, plan)
    losses = [final_loss(curve) for curve in sweeps[-1].curves if curve.role == "candidate"]
    best, start = min(losses), sweeps[-1].curves[0].loss[0]
    reached = float(np.interp(math.log(answer.lr), np.log(lrs), losses))
    assert (reached - best) / (start - best) < 0.05  # regret


def test_a_range_test_reads_at_every_rung_the_run_that_had_its_rate_from_the_start() -> None:
    bowl, lrs = Quadratic((1.0, 10.0)), np.geomspace(1e-5, 1.0, 201)
    trainable = replay(recorded(100, lrs))
    range_test = lrsearch.RangeTest(steps=40, min_lr=1e-3, max_lr=0.1)
    (curve,) = run_search(trainable, range_test, Plan()).curves
    diagonal = [bowl.closed_form(lr, step + 1) for step, lr in enumerate(curve.lr[:-1].tolist())]
    assert curve.loss[0] == pytest.approx(5.5)
    assert curve.loss[1:] == pytest.approx(np.array(diagonal), rel=0.01)


@pytest.mark.parametrize("method", ["range", "ladder"])
def test_range_test_and_ladder_find_something_on_a_recording(method: str) -> None:
    recording = recorded(160, np.geomspace(1e-4, 10.0, 26))
    result = lrsearch.search(replay(recording), method=method, progress=False)
    # Updates at 0.2 or more do not shrink the steep direction of curvature 10 any further.
    assert 5e-4 < result.lr < 0.2


# --------------------------------------------------------------------------------------- files


numbers = st.one_of(st.none(), st.floats(-1e6, 1e6))


@given(
    lrs=st.lists(st.floats(1e-9, 1e3), min_size=1, max_size=4, unique=True).map(sorted),
    data=st.data(),
)
def test_what_is_written_is_read_again(
    lrs: list[float], data: st.DataObject, tmp_path_factory: Any
) -> None:
    lengths = data.draw(st.lists(st.integers(1, 4), min_size=1, max_size=3, unique=True))
    held_out, losses = data.draw(st.sampled_from([(True, False), (False, True), (True, True)]))

    def row(size: int) -> Any:
        return data.draw(st.lists(numbers, min_size=size, max_size=size))

    runs = [
        RecordedRun(
            steps,
            [row(steps) for _ in lrs] if losses else None,  # type: ignore[arg-type]
            row(len(lrs)) if held_out else None,
        )
        for steps in lengths
    ]
    recording = Recording(lrs, tuple(runs), initial=1.0)  # type: ignore[arg-type]
    path = tmp_path_factory.mktemp("recording") / "r.json"
    recording.to_json(path)
    again = Recording.from_json(path)
    assert again.lrs.tolist() == recording.lrs.tolist()
    assert again.initial == recording.initial
    assert [run.steps for run in again.runs] == sorted(lengths)
    for one, other in zip(recording.runs, again.runs, strict=True):
        for name in ("losses", "held_out"):
            before, after = getattr(one, name), getattr(other, name)
            assert (before is None) == (after is None)
            assert before is None or np.array_equal(before, after, equal_nan=True)


def test_a_file_tells_whether_the_trainable_can_evaluate(tmp_path: Path) -> None:
    recorded().to_json(tmp_path / "both.json")
    run = RecordedRun(2, losses=[[2.0, 1.0]])
    Recording([0.1], (run,)).to_json(tmp_path / "losses.json")
    assert isinstance(ReplayTrainable.from_json(tmp_path / "both.json"), EvaluatedReplayTrainable)
    assert type(ReplayTrainable.from_json(tmp_path / "losses.json")) is ReplayTrainable


GOOD = {
    "format": "lrsearch-recording",
    "version": 1,
    "lrs": [0.01, 0.1],
    "initial": 2.5,
    "runs": [{"steps": 2, "losses": [[2.4, 2.3], [2.4]], "held_out": [2.2, None]}],
}


def test_the_documented_format_is_read(tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    path.write_text(json.dumps(GOOD))
    (run,) = Recording.from_json(path).runs
    assert run.losses is not None
    assert np.array_equal(run.losses, [[2.4, 2.3], [2.4, np.nan]], equal_nan=True)
    assert np.array_equal(run.held_out, [2.2, np.nan], equal_nan=True)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"format": "lrsearch-result"}, "lrsearch-recording"),
        ({"version": 2}, "version: got 2"),
        ({"lrs": [0.1, 0.01]}, "ascending"),
        ({"lrs": [0.0, 0.1]}, "positive"),
        ({"lrs": "abc"}, "r.json"),
        ({"initial": None}, "before training"),
        ({"runs": []}, "different lengths"),
        ({"runs": [{"steps": 2}]}, "losses, held_out or both"),
        ({"runs": [{"steps": 0, "held_out": [1, 2]}]}, "whole number from 1"),
        ({"runs": [{"steps": 2, "held_out": [1]}]}, "one for every lr"),
        ({"runs": [{"steps": 1, "losses": [[1, 2], [1]]}]}, "2 rows of up to 2 losses"),
        ({"runs": [{"steps": 2, "losses": [["a"], [1]]}]}, "r.json"),
        ({"runs": [{"stepz": 2}]}, "stepz"),
        ({"runs": GOOD["runs"] * 2}, "different lengths"),  # type: ignore[operator]
    ],
)
def test_a_damaged_file_is_refused_and_the_error_names_what_is_wrong(
    change: dict[str, Any], words: str, tmp_path: Path
) -> None:
    path = tmp_path / "r.json"
    path.write_text(json.dumps({**GOOD, **change}))
    with pytest.raises(lrsearch.InvalidResultFile, match=words):
        Recording.from_json(path)


@given(content=st.binary(max_size=100))
def test_any_bytes_are_a_recording_or_an_error_of_ours(
    content: bytes, tmp_path_factory: Any
) -> None:
    path = tmp_path_factory.mktemp("bytes") / "r.json"
    path.write_bytes(content)
    with pytest.raises(lrsearch.InvalidResultFile, match=r"r\.json"):
        Recording.from_json(path)


@pytest.mark.parametrize("place", ["lrs", "initial", "runs", "steps", "losses", "held_out"])
@given(value=st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=6,
))  # fmt: skip
def test_any_value_anywhere_is_a_recording_or_an_error_of_ours(
    place: str, value: object, tmp_path_factory: Any
) -> None:
    content = json.loads(json.dumps(GOOD))
    (content if place in content else content["runs"][0])[place] = value
    path = tmp_path_factory.mktemp("value") / "r.json"
    path.write_text(json.dumps(content))
    try:
        recording = Recording.from_json(path)
    except lrsearch.InvalidResultFile as error:
        assert "r.json" in str(error)  # noqa: PT017
    else:
        assert recording.steps >= 1
