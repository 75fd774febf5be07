from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrsearch.core.curve import Stop
from lrsearch.core.outcome import Status
from lrsearch.core.search import Plan, Probe, Script, Update, run_search
from lrsearch.core.stopping import StopRule
from lrsearch.core.suggest import Suggestion
from lrsearch.errors import InvalidArgument
from lrsearch.methods.range_test import RangeTest
from tests.core.toys import Judged, Quadratic, Scripted

FREE = StopRule(divergence=False)


@dataclass(frozen=True)
class Rounds:
    """A method that asks for given rounds of probes and concludes nothing from them."""

    rounds: tuple[tuple[Probe, ...], ...]
    name: str = "rounds"

    def search(self, plan: Plan) -> Script:
        for probes in self.rounds:  # noqa: UP028  (a tuple's iterator takes no curves)
            yield probes
        return Suggestion(0.1, 0.05, 0.2, Status.FOUND, "because", self.name)


def probe(lr: float, steps: int, **options: Any) -> Probe:
    return Probe((lr,) * steps, **{"stop": FREE, **options})


def run(trainable: Any, *rounds: Any, **options: Any) -> Any:
    rounds = tuple(probes if isinstance(probes, tuple) else (probes,) for probes in rounds)
    return run_search(trainable, Rounds(rounds), Plan(), **options)


def state(trainable: Any) -> str:
    return repr(trainable.snapshot())


# ----------------------------------------------------------------------------- what comes out


@given(lr=st.floats(0.001, 0.15), steps=st.integers(1, 40), start=st.floats(0.1, 3.0))
def test_a_lane_at_a_constant_lr_measures_the_closed_form(lr, steps, start) -> None:
    problem = Quadratic((1.0, 10.0), start)
    (curve,) = run(problem, probe(lr, steps)).curves
    # The loss of an update is the one before it.
    expected = [float(problem.closed_form(lr, done)) for done in range(steps)]
    assert curve.loss.tolist() == pytest.approx(expected, rel=1e-9)


def test_the_recorded_lr_is_the_lr_used_at_every_update() -> None:
    # Fault 10: a peer records lrs that are not the lrs used, or that run past the end.
    lrs = tuple(np.geomspace(1e-4, 0.1, 37).tolist())
    problem = Quadratic(noise=0.1)
    outcome = run(problem, (Probe(lrs, stop=FREE), Probe(lrs[::-1], stop=FREE)))
    assert [curve.lr.tolist() for curve in outcome.curves] == [list(lrs), list(lrs[::-1])]
    assert problem.lrs == [*lrs, *lrs[::-1]]


def test_losses_are_kept_raw() -> None:
    losses = [3.0, -7.5, 1e9, 0.0, 2.25]
    (curve,) = run(Scripted(losses), probe(0.1, 5)).curves
    assert curve.loss.tolist() == losses


def test_the_outcome_carries_what_the_method_said_and_what_it_cost() -> None:
    plan = Plan(train_steps=10, schedule="cosine", seed=7)
    rounds = (probe(0.1, 12, evaluate=True), probe(0.2, 13, evaluate=True))
    outcome = run_search(Judged(), Rounds((rounds,)), plan)
    assert (outcome.lr, outcome.low, outcome.high) == (0.1, 0.05, 0.2)
    assert (outcome.status, outcome.why, outcome.rule) == (Status.FOUND, "because", "rounds")
    assert (outcome.cost.steps, outcome.cost.evaluations) == (25, 2)
    assert outcome.cost.runs == 2.5
    assert outcome.cost.seconds > 0
    assert outcome.settings["method"] == "rounds"
    assert outcome.settings["train_steps"] == 10
    assert outcome.settings["schedule"] == "cosine"
    assert outcome.settings["seed"] == 7


def test_without_a_planned_run_the_cost_in_runs_is_unknown() -> None:
    assert run(Quadratic(), probe(0.1, 3)).cost.runs is None


def test_the_observer_sees_every_update_in_order() -> None:
    seen: list[Update] = []
    outcome = run(Quadratic(), (probe(0.1, 2), probe(0.2, 3)), observer=seen.append)
    assert [(update.lane, update.done, update.asked) for update in seen] == [
        (0, 1, 2), (0, 2, 2), (1, 1, 3), (1, 2, 3), (1, 3, 3)
    ]  # fmt: skip
    assert [curve.lane for curve in outcome.curves] == [0, 1]
    assert [update.loss for update in seen[2:]] == outcome.curves[1].loss.tolist()


# ------------------------------------------------------------------------------ ending early


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("at", [0, 1, 5])
def test_a_loss_that_is_not_finite_ends_the_lane_at_once_and_is_kept(bad, at) -> None:
    losses = [2.0] * at + [bad] + [2.0] * 20
    trainable = Scripted(losses)
    (curve,) = run(trainable, probe(0.1, 20)).curves
    assert len(curve) == at + 1
    assert repr(curve.loss[-1]) == repr(np.float64(bad))
    assert curve.stop is Stop.NOT_FINITE


def test_the_other_lanes_go_on_after_one_diverged() -> None:
    outcome = run(Quadratic(), (Probe((0.9,) * 50), Probe((0.1,) * 50)))
    assert outcome.curves[0].stop is Stop.DIVERGED
    assert len(outcome.curves[0]) < 50
    assert outcome.curves[1].stop is Stop.COMPLETED
    assert len(outcome.curves[1]) == 50


def test_the_held_out_loss_is_measured_after_the_last_update() -> None:
    problem = Judged((1.0, 10.0))
    (curve,) = run(problem, probe(0.05, 10, evaluate=True, checkpoints=(7,))).curves
    assert [made for made, _ in curve.evaluations] == [7, 10]
    expected = [float(problem.closed_form(0.05, made)) for made in (7, 10)]
    assert [loss for _, loss in curve.evaluations] == pytest.approx(expected)


def test_there_is_no_held_out_loss_of_a_broken_lane_or_without_the_means() -> None:
    broken = run(Judged(), probe(1e200, 50, evaluate=True)).curves[0]
    assert broken.stop is Stop.NOT_FINITE
    assert broken.evaluations == ()
    assert run(Quadratic(), probe(0.1, 5, evaluate=True)).curves[0].evaluations == ()


@pytest.mark.parametrize(("problem", "can"), [(Quadratic, False), (Judged, True)])
def test_the_method_is_told_whether_there_is_a_held_out_loss(problem, can: bool) -> None:
    told = []

    class Curious(Rounds):
        def search(self, plan: Plan) -> Script:
            told.append(plan.can_evaluate)
            return super().search(plan)

    run_search(problem(), Curious(()), Plan())
    assert told == [can]


# ------------------------------------------------------------------------------------- lanes


def test_every_lane_starts_from_the_same_state_and_sees_the_same_batches() -> None:
    problem = Quadratic(noise=0.5, momentum=0.9, seed=3)
    for _ in range(11):  # not a fresh trainable: it has velocity and a place in its data
        problem.step(0.01)
    problem.batches.clear()
    outcome = run(problem, tuple(probe(0.01 * 2**lane, 20) for lane in range(4)))
    batches = np.array(problem.batches).reshape(4, 20)
    assert (batches == batches[0]).all()
    assert len({float(curve.loss[0]) for curve in outcome.curves}) == 1
    assert len({float(curve.loss[-1]) for curve in outcome.curves}) == 4


class Shuffled(Quadratic):
    """A noisy quadratic that can draw other noise."""

    def reshuffle(self, number: int) -> None:
        self.random = np.random.default_rng([self.seed, number])


def test_a_lane_sees_the_data_in_the_order_it_asks_for() -> None:
    problem = Shuffled(noise=0.3)
    before = state(problem)
    orders = (0, 1, 0, 2, 1)
    outcome = run(
        problem, tuple(probe(0.05, 9, shuffle=order) for lane, order in enumerate(orders))
    )
    seen = [curve.loss.tolist() for curve in outcome.curves]
    assert seen[0] == seen[2]
    assert seen[1] == seen[4]
    assert len({tuple(losses) for losses in seen}) == 3
    assert state(problem) == before


def test_another_order_is_refused_where_there_is_none() -> None:
    problem = Quadratic()
    before = state(problem)
    with pytest.raises(InvalidArgument, match=r"Probe\.shuffle: got 1, expected 0"):
        run(problem, probe(0.05, 3), probe(0.05, 3, shuffle=1))
    assert state(problem) == before


class Short(Judged):
    """Tells how long the epochs of each update were."""

    epoch: int | None = None
    epochs: tuple[int | None, ...] = ()

    def shorten_epochs(self, updates: int) -> None:
        self.epoch = updates

    def step(self, lr: float) -> float:
        self.epochs += (self.epoch,)
        return super().step(lr)

    def restore(self, snapshot: Any, /) -> None:
        self.epoch = None
        super().restore(snapshot)


def test_a_lane_sees_as_much_of_the_data_as_it_asks_for() -> None:
    problem = Short()
    run(
        problem,
        (probe(0.1, 2, updates_per_epoch=3), probe(0.1, 2)),
        probe(0.1, 1, updates_per_epoch=4),
    )
    assert problem.epochs == (3, 3, None, None, 4)
    assert problem.epoch is None


def test_a_part_of_the_data_is_refused_where_there_is_none() -> None:
    problem = Quadratic()
    with pytest.raises(InvalidArgument, match=r"Probe\.updates_per_epoch: got 2, expected None"):
        run(problem, probe(0.05, 3, updates_per_epoch=2))


def test_the_plan_knows_whether_a_part_of_the_data_can_be_trained_on() -> None:
    plans: list[Plan] = []

    class Asking(Rounds):
        def search(self, plan: Plan) -> Script:
            plans.append(plan)
            return super().search(plan)

    for problem in (Short(), Quadratic()):
        run_search(problem, Asking(((probe(0.1, 1),),)), Plan())
    assert [plan.can_shorten_epochs for plan in plans] == [True, False]


def test_one_lane_costs_one_snapshot_and_one_restore() -> None:
    taken = []

    class Counting(Quadratic):
        def snapshot(self) -> Any:
            taken.append(super().snapshot())
            return taken[-1]

    problem = Counting()
    run(problem, probe(0.1, 5))
    assert len(taken) == 1
    assert len(problem.restored) == 1
    assert problem.restored[0] is taken[0]


# -------------------------------------------------------------------- nothing is left behind


class Failing(Judged):
    """Raises in the middle of its ``at``-th step, after its weights have moved."""

    def __init__(self, at: int, error: BaseException, where: str = "step") -> None:
        super().__init__((1.0, 10.0), noise=0.3, momentum=0.9)
        self.at, self.error, self.where = at, error, where
        for _ in range(3):
            Judged.step(self, 0.01)
        self.count = 0

    def step(self, lr: float) -> float:
        loss = super().step(lr)
        self.count += 1
        if self.where == "step" and self.count == self.at:
            raise self.error
        return loss

    def evaluate(self) -> float:
        if self.where == "evaluate":
            raise self.error
        return super().evaluate()


ERRORS = [ValueError("mine"), KeyboardInterrupt(), SystemExit(3), MemoryError()]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("at", [1, 2, 20, 21, 35, 60])
def test_an_error_in_any_step_restores_once_and_passes_on_as_it_is(error, at: int) -> None:
    trainable = Failing(at, error)
    before = state(trainable)
    lanes = tuple(probe(0.01 * (lane + 1), 20) for lane in range(3))
    with pytest.raises(type(error)) as caught:
        run(trainable, lanes)
    assert caught.value is error
    assert state(trainable) == before
    # One restore to begin every lane but the first, and one in the end.
    origins = [snapshot for snapshot in trainable.restored if repr(snapshot) == before]
    assert len(origins) == (at - 1) // 20 + 1
    assert trainable.restored[-1] is origins[-1]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_an_error_in_the_held_out_loss_restores(error: BaseException) -> None:
    trainable = Failing(0, error, where="evaluate")
    before = state(trainable)
    with pytest.raises(type(error)):
        run(trainable, probe(0.05, 5, evaluate=True))
    assert state(trainable) == before


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_an_error_in_the_observer_restores(error: BaseException) -> None:
    trainable = Quadratic(noise=0.3)
    before = state(trainable)

    def observer(update: Update) -> None:
        if update.done == 4:
            raise error

    with pytest.raises(type(error)):
        run(trainable, probe(0.05, 10), observer=observer)
    assert state(trainable) == before
    assert len(trainable.restored) == 1


def test_an_error_in_the_method_restores() -> None:
    class Confused(Rounds):
        def search(self, plan: Plan) -> Script:
            yield (probe(0.1, 5),)
            raise RuntimeError("confused")

    trainable = Quadratic()
    before = state(trainable)
    with pytest.raises(RuntimeError, match="confused"):
        run_search(trainable, Confused(()), Plan())
    assert state(trainable) == before


@pytest.mark.parametrize("error", [KeyboardInterrupt("again"), RuntimeError("a worker died")])
@pytest.mark.parametrize("times", [1, 2])
def test_an_error_in_the_middle_of_the_restore_does_not_leave_half_a_state(
    times: int, error: BaseException
) -> None:
    class Interrupted(Judged):
        left = times

        def restore(self, snapshot: Any, /) -> None:
            self.weights = snapshot[0].copy()
            if self.left:
                self.left -= 1
                raise error
            super().restore(snapshot)

    problem = Interrupted(noise=0.1, momentum=0.9)
    before = state(problem)
    with pytest.raises(type(error)) as caught:
        run(problem, Probe((0.1,) * 5))
    assert state(problem) == before
    assert getattr(caught.value, "__notes__", []) == []


def test_a_restore_that_cannot_be_done_says_that_the_state_is_not_back() -> None:
    class Unrestorable(Judged):
        def restore(self, snapshot: Any, /) -> None:
            raise OSError("the snapshot is gone")

    with pytest.raises(OSError, match="gone") as caught:
        run(Unrestorable(), Probe((0.1,) * 5))
    assert "it is not back" in caught.value.__notes__[0]


@pytest.mark.parametrize(
    ("place", "note"),
    [
        ("step", "lrsearch: in update 3 of 5, lane 0, lr 0.3"),
        ("observer", "lrsearch: in the progress display after update 3 of 5, lane 0, lr 0.3"),
        ("evaluate", "lrsearch: in the evaluation after update 5 of 5, lane 0, lr 0.5"),
    ],
)
def test_an_error_says_where_in_the_search_it_came_up(place: str, note: str) -> None:
    class Broken(Judged):
        def step(self, lr: float) -> float:
            if place == "step" and lr == 0.3:
                raise OSError
            return super().step(lr)

        def evaluate(self) -> float:
            if place == "evaluate":
                raise OSError
            return super().evaluate()

    def observer(update: Update) -> None:
        if place == "observer" and update.lr == 0.3:
            raise OSError

    probe = Probe((0.1, 0.2, 0.3, 0.4, 0.5), stop=FREE, evaluate=True)
    with pytest.raises(OSError) as caught:
        run_search(Broken(curvature=(1.0,)), Rounds(((probe,),)), Plan(), observer)
    assert caught.value.__notes__ == [note]


def test_success_restores_weights_velocity_and_the_place_in_the_data() -> None:
    trainable = Quadratic(np.geomspace(0.1, 10.0, 5), noise=0.3, momentum=0.9)
    for _ in range(5):
        trainable.step(0.01)
    before = state(trainable)
    twin = Quadratic(np.geomspace(0.1, 10.0, 5), noise=0.3, momentum=0.9)
    for _ in range(5):
        twin.step(0.01)
    outcome = run_search(trainable, RangeTest(steps=60), Plan())
    assert outcome.cost.steps > 30
    assert state(trainable) == before
    assert [trainable.step(0.02) for _ in range(20)] == [twin.step(0.02) for _ in range(20)]


# -------------------------------------------------------------------------------- the plan


@pytest.mark.parametrize("bad", [0, -5, 2.5, math.nan, "100", True])
def test_a_planned_length_that_is_none_is_refused(bad: object) -> None:
    with pytest.raises(InvalidArgument, match=r"train_steps: got .* a whole number from 1"):
        Plan(train_steps=bad)  # type: ignore[arg-type]


def test_a_planned_length_of_any_integer_type_is_an_int() -> None:
    assert type(Plan(train_steps=np.int64(5)).train_steps) is int  # type: ignore[arg-type]


def test_an_unknown_schedule_is_refused_before_any_training() -> None:
    with pytest.raises(InvalidArgument, match="schedule: got 'cosin'"):
        Plan(schedule="cosin")
