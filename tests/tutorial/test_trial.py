from __future__ import annotations

import math

import pytest

from lrsearch.methods.sweep import Sweep
from lrsearch.tutorial import seeds, trial
from lrsearch.tutorial.problem import problem
from lrsearch.tutorial.trial import Trial, Trials


def trials(suggestion: float, loss: float) -> Trials:
    sweep = (Trial(0.1, 0.5), Trial(0.4, 0.1), Trial(1.6, math.inf))
    near = (Trial(suggestion - 0.1, 0.6), Trial(suggestion, loss), Trial(suggestion + 0.1, 0.7))
    return Trials(suggestion, near, sweep, before=1.1, updates=100)


@pytest.mark.parametrize(("suggestion", "factor"), [(0.4, 1.0), (0.8, 2.0), (0.2, 2.0)])
def test_the_factor_is_the_distance_from_the_best_on_either_side(
    suggestion: float, factor: float
) -> None:
    assert trials(suggestion, 0.1).factor == pytest.approx(factor)


@pytest.mark.parametrize(
    ("loss", "regret"), [(0.1, 0.0), (0.2, 0.1), (1.1, 1.0), (math.inf, 1.0), (0.05, -0.05)]
)
def test_regret_is_the_part_of_what_could_be_won_that_is_lost(loss: float, regret: float) -> None:
    result = trials(0.8, loss)
    assert result.best == Trial(0.4, 0.1)
    assert result.suggested == Trial(0.8, loss)
    assert result.regret == pytest.approx(regret)


def test_the_suggestion_and_a_tenth_on_either_side_are_trained_in_full() -> None:
    result = trial.compute(0.5, seed=2, sweep=Sweep(lrs=(0.25, 0.5)), epochs=3)
    assert [run.lr for run in result.near] == pytest.approx([0.4, 0.5, 0.6])
    assert result.updates == 60
    net = problem(2)
    assert result.before == net.evaluate()
    for _ in range(60):
        net.step(0.5)
    assert result.suggested.loss == net.evaluate()
    assert [run for run in result.sweep if run.lr == 0.5] == [result.suggested]


def test_a_small_suggestion_has_nothing_below_it() -> None:
    result = trial.compute(0.05, sweep=Sweep(lrs=(0.1,)), epochs=1)
    assert [run.lr for run in result.near] == pytest.approx([0.05, 0.15])


def test_text_and_table_name_the_suggestion_and_the_best() -> None:
    result = trials(0.8, 0.2)
    assert [row[1] for row in trial.table(result).rows] == [
        "beside it", "the suggestion", "beside it", "best of the sweep",
    ]  # fmt: skip
    text = trial.tell(result)
    assert "a factor of 2 and loses 10 % of what could be won" in text
    assert "4 full runs" in text


def test_runs_that_broke_are_marked_in_the_figure() -> None:
    (ax,) = trial.draw(trials(0.8, 0.2)).axes
    (crosses,) = [line for line in ax.lines if line.get_marker() == "x"]
    assert list(crosses.get_xdata()) == [1.6]


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10))
def test_the_suggestion_is_within_a_factor_of_two_of_the_best_of_the_sweep(seed: int) -> None:
    """Both that of the textbook's second ladder and that of the ladder that zooms by itself."""
    result = seeds.agreement(seed)
    best = result.chosen.best.lr
    assert min(seeds.SWEEP.candidates()) < best < max(seeds.SWEEP.candidates())
    for suggestion in (result.chosen, result.own):
        assert best / 2.0 <= suggestion.suggestion <= best * 2.0
        assert suggestion.regret < 0.1


def test_the_table_of_many_nets_has_two_suggestions_in_a_row() -> None:
    row = seeds.Agreement(7, trials(0.8, 0.2), trials(0.4, 0.09999), turned=True)
    assert seeds.agreement_table([row]).rows == (
        ("7", "0.4", "0.8", "2", "10.0 %", "0.4", "1", "0.0 %"),
    )


def test_the_best_rate_is_found_for_every_length_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seeds, "LONG_SWEEP", Sweep(lrs=(0.001, 0.3, 50.0)))
    best = seeds.best_by_length(seeds=(0, 1), epochs=(10, 30))
    assert {length: values.tolist() for length, values in best.items()} == {
        10: [0.3, 0.3],
        30: [0.3, 0.3],
    }
    assert seeds.lengths_table(best).rows[0] == ("10", "0.3", "0.3", "0.3")
