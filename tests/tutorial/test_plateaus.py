from __future__ import annotations

import numpy as np
import pytest

from lrsearch.core.curve import Curve
from lrsearch.core.regime import Regime, regime
from lrsearch.demos.two_layer_net import Curvature, loss
from lrsearch.tutorial import plateaus
from lrsearch.tutorial.problem import problem

UPDATES = 50_000


@pytest.fixture(scope="module")
def result() -> plateaus.Plateaus:
    """The run of the tutorial, ended while the net is sliding off its first plateau."""
    return plateaus.compute(seed=1, updates=UPDATES)


pytestmark = pytest.mark.slow


def test_the_first_plateau_is_a_saddle_because_it_was_measured(result: plateaus.Plateaus) -> None:
    first = result.stretches[0]
    assert first.kind == "saddle"
    assert first.last - first.first > 15_000
    assert first.curvature.lowest < 0.0 < first.curvature.highest
    assert first.curvature.gradient_norm < 0.01 * result.curvatures[0].gradient_norm
    assert first.growth == pytest.approx(0.1 * UPDATES * -first.curvature.lowest)


def test_the_loss_hardly_moves_on_a_plateau_and_falls_after_it(result: plateaus.Plateaus) -> None:
    first = result.stretches[0]
    history = result.losses["full-batch"]
    on_it = history[first.first // plateaus.EVERY : first.last // plateaus.EVERY + 1]
    assert np.ptp(on_it) < 0.1 * first.level
    assert history[-1] < 0.8 * first.level


def test_all_three_forms_stand_on_the_same_plateau(result: plateaus.Plateaus) -> None:
    assert list(result.losses) == ["single-sample", "mini-batch", "full-batch"]
    middle = len(result.updates) // 4
    levels = [np.median(history[middle : middle + 50]) for history in result.losses.values()]
    assert max(levels) < 1.2 * min(levels)


def test_the_history_is_the_loss_on_all_training_data(result: plateaus.Plateaus) -> None:
    assert result.updates[:3].tolist() == [0.0, 100.0, 200.0]
    for form, batch in plateaus.FORMS.items():
        net = problem(1, batch)
        assert result.losses[form][0] == loss(net.weights, net.train)
        for _ in range(100):
            net.step(0.1)
        assert result.losses[form][1] == loss(net.weights, net.train)
    assert len(result.curvatures) == len(result.updates)


def test_to_the_classifier_a_plateau_looks_like_convergence(result: plateaus.Plateaus) -> None:
    """As the page says: nobody can tell from the curve alone."""
    first = result.stretches[0]
    history = result.losses["full-batch"][: first.last // plateaus.EVERY]
    assert regime(Curve(np.full(len(history), 0.1), history)) is Regime.CONVERGES


@pytest.mark.parametrize(
    ("lowest", "growth", "kind"),
    [(-1e-3, 3.0, "saddle"), (-1e-3, 1.0, "saddle"), (-1e-6, 0.1, "flat"), (1e-6, 0.0, "minimum")],
)
def test_a_plateau_is_named_by_what_was_measured(lowest: float, growth: float, kind: str) -> None:
    assert plateaus.kind(Curvature(1e-4, lowest, 2.0, int(lowest < 0.0)), growth) == kind


def test_text_table_and_figure_show_every_plateau(result: plateaus.Plateaus) -> None:
    table, text = plateaus.table(result), plateaus.tell(result)
    assert [row[-1] for row in table.rows] == [stretch.kind for stretch in result.stretches]
    assert "**saddle**" in text
    above, below = plateaus.draw(result).axes
    assert {note.get_text() for note in above.texts} == {s.kind for s in result.stretches}
    assert len(above.lines) == 3
    assert below.get_xlabel() == "update (thousands)"
