"""A Trainer on two processes: one answer, nothing left, no hang. Real processes, real gloo."""

from __future__ import annotations

from functools import partial

import pytest

from tests.integrations import transformers_on_rank as on_rank
from tests.pytorch.processes import Group, run

SCENARIOS = {
    "found": on_rank.found,
    "searched": partial(on_rank.afterwards, searched=True),
    "untouched": partial(on_rank.afterwards, searched=False),
    "inside": on_rank.inside,
    "updates": on_rank.updates,
    "failing": on_rank.failing,
}


@pytest.fixture(scope="module")
def group(tmp_path_factory: pytest.TempPathFactory) -> Group:
    return run(2, SCENARIOS, tmp_path_factory.mktemp("two"))


def test_all_ranks_find_the_same_and_leave_nothing(group: Group) -> None:
    (lr, curves, lanes, same), other = group.values("found")
    assert other == (lr, curves, lanes, same)
    assert lr > 0.0
    assert "processes" in lanes
    assert same


def test_training_after_a_search_is_training_without_one(group: Group) -> None:
    assert group.values("searched") == group.values("untouched")


def test_the_callback_gives_all_ranks_one_rate(group: Group) -> None:
    (lr, rate), other = group.values("inside")
    assert lr == rate
    assert other == (lr, rate)


def test_the_losses_are_those_that_the_trainer_logs(group: Group) -> None:
    (curve, logged), (other, _) = group.values("updates")
    assert curve == other
    assert curve == pytest.approx(logged, rel=1e-6)


def test_an_error_on_one_rank_ends_the_search_on_all(group: Group) -> None:
    there, here = group.values("failing")
    assert here == ("RuntimeError", True)
    assert there == ("RankFailed", True)
