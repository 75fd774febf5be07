from __future__ import annotations

import pytest

from lrsearch.core.regime import Regime
from lrsearch.tutorial import regimes


@pytest.fixture(scope="module")
def result() -> regimes.Regimes:
    return regimes.compute(seed=1)


@pytest.mark.parametrize("seed", [0, 2, 3])
def test_the_four_rates_show_the_four_regimes_for_other_nets_too(seed: int) -> None:
    runs = regimes.compute(seed).runs
    expected = [Regime.DIVERGES, Regime.HOVERS, Regime.CONVERGES, Regime.CRAWLS]
    assert [run.regime for run in runs] == expected


def test_the_runs_go_from_the_largest_rate_to_the_smallest(result: regimes.Regimes) -> None:
    assert [run.lr for run in result.runs] == sorted(regimes.LRS, reverse=True)
    assert [run.regime.name for run in result.runs] == ["DIVERGES", "HOVERS", "CONVERGES", "CRAWLS"]
    assert len({run.curve.evaluations[0] for run in result.runs}) == 1  # one start for all


def test_each_run_is_what_its_name_says(result: regimes.Regimes) -> None:
    diverges, hovers, converges, crawls = (
        [value for _, value in run.curve.evaluations] for run in result.runs
    )
    assert diverges[-1] > 10.0 * diverges[0]
    late = hovers[len(hovers) // 2 :]
    assert max(late) > 5.0 * min(late)
    assert converges[-1] < 0.05 * converges[0]
    assert max(converges[-20:]) < 0.05 * converges[0]
    assert crawls == sorted(crawls, reverse=True)
    assert crawls[-1] > 0.2 * crawls[0]


def test_the_names_in_text_table_and_figure_are_the_classifiers(result: regimes.Regimes) -> None:
    names = [run.regime.name.lower() for run in result.runs]
    assert [row[-1] for row in regimes.table(result).rows] == names
    (ax,) = regimes.draw(result).axes
    assert [text.get_text().split("\n")[0] for text in ax.texts] == names
    for run in result.runs:
        assert run.regime.value in regimes.tell(result)


def test_a_run_that_broke_is_not_given_a_final_loss(result: regimes.Regimes) -> None:
    assert regimes.table(result).rows[0][3] == "not finite"
