from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from lrsearch.core.curve import Curve, Stop
from lrsearch.core.outcome import Status
from lrsearch.core.suggest import RULES, _longest_decrease, suggest
from lrsearch.errors import InvalidArgument
from tests.core.known_curves import FALLING, flat, known, sigmoid_drop

NOISES = (0.0, 0.01, 0.1, 0.5)
POINTS = (50, 100, 300, 1000)
SEEDS = range(20)


def error(curve: Curve, truth: float, rule: str = "default") -> float:
    """How far a suggestion is from the truth, in decades; infinite without a suggestion."""
    suggestion = suggest(curve, rule)
    return abs(math.log10(suggestion.lr) - truth) if suggestion.status.found else math.inf


def place(seed: int) -> float:
    """Where on the axis a seed's curve lies: never twice at the same place."""
    return float(np.random.default_rng(1000 + seed).uniform(-4.0, 4.0))


# ------------------------------------------------------------------------- the default rule


@pytest.mark.parametrize("points", POINTS)
@pytest.mark.parametrize("sd", NOISES)
@pytest.mark.parametrize("name", FALLING)
def test_default_is_within_half_a_decade_of_the_truth(name: str, sd: float, points: int) -> None:
    errors = [error(*known(FALLING[name], points, sd, seed, place(seed))) for seed in SEEDS]
    assert np.median(errors) < 0.25
    if sd <= 0.1:
        assert max(errors) < 0.3
    elif points == 50:
        # Fifty points with a noise of a quarter of the drop leave a standard error of 0.2
        # decade to any estimate, so that one of twenty may miss.
        assert np.sort(errors)[-2] < 0.5
        assert max(errors) < 0.7
    else:
        assert max(errors) < 0.5


@pytest.mark.parametrize("points", POINTS)
@pytest.mark.parametrize("sd", NOISES)
def test_a_flat_curve_has_no_signal(sd: float, points: int) -> None:
    for seed in SEEDS:
        suggestion = suggest(known(flat, points, sd, seed, place(seed))[0])
        assert suggestion.status is Status.NO_SIGNAL, seed
        assert math.isnan(suggestion.lr)


def test_the_answer_moves_with_the_curve_along_the_axis() -> None:
    at_home, _ = known(FALLING["two dips"], 200, 0.1)
    for move in (-7.0, -0.3, 5.0):
        moved, _ = known(FALLING["two dips"], 200, 0.1, move=move)
        ratio = suggest(moved).lr / suggest(at_home).lr
        assert math.log10(ratio) == pytest.approx(move, abs=1e-6)


def test_the_interval_holds_the_answer_and_the_sentence_names_the_rule() -> None:
    suggestion = suggest(known(FALLING["drop then rise"], 100, 0.05)[0])
    assert suggestion.low < suggestion.lr < suggestion.high
    assert "rule 'default'" in suggestion.why
    assert f"{suggestion.lr:.2g}" in suggestion.why


def test_ten_updates_on_every_rung_count_as_one_quieter_point() -> None:
    lrs = np.repeat(np.geomspace(1e-6, 10.0, 60), 10)
    noise = 0.5 * np.random.default_rng(0).standard_normal(600)
    found = error(Curve(lrs, sigmoid_drop(np.log10(lrs)) + noise), -3.0)
    assert found < 0.3


# ------------------------------------------------------------------------------- invariance


@given(
    seed=st.integers(0, 10_000),
    name=st.sampled_from(sorted(FALLING)),
    # "slide" has an absolute threshold, as in fastai, and depends on the scale.
    rule=st.sampled_from(["default", "steepest", "valley", "minimum", "turning"]),
    sd=st.floats(0.01, 0.3),
    shift=st.floats(-100.0, 100.0),
    scale=st.floats(1e-3, 1e3),
)
def test_the_suggestion_does_not_care_how_the_loss_is_shifted_or_scaled(
    seed: int, name: str, rule: str, sd: float, shift: float, scale: float
) -> None:
    curve, _ = known(FALLING[name], 80, sd, seed)
    plain = suggest(curve, rule)
    for losses in (curve.loss + shift, scale * curve.loss):
        other = suggest(Curve(curve.lr, losses), rule)
        assert other.status is plain.status
        assert other.lr == pytest.approx(plain.lr, rel=1e-6, nan_ok=True)


@pytest.mark.parametrize("rule", ["default", "steepest", "valley", "minimum"])
def test_the_loss_minus_100_and_1000_times_the_loss_give_the_same_lr(rule: str) -> None:
    curve, _ = known(FALLING["drop then rise"], 100, 0.1)
    lr = suggest(curve, rule).lr
    assert suggest(Curve(curve.lr, curve.loss - 100), rule).lr == pytest.approx(lr, rel=1e-9)
    assert suggest(Curve(curve.lr, 1000 * curve.loss), rule).lr == pytest.approx(lr, rel=1e-9)


# ------------------------------------------------------------------------------ the statuses


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize(
    ("first_bad", "status"),
    [(0, "NOT_FINITE"), (1, "TOO_FEW_POINTS"), (7, "TOO_FEW_POINTS"), (12, "DIVERGED")],
)
def test_a_curve_that_breaks_before_it_falls_has_no_answer(rule, bad, first_bad, status) -> None:
    losses = 2.3 + 0.01 * np.random.default_rng(0).standard_normal(50)
    losses[first_bad] = bad
    suggestion = suggest(Curve(np.geomspace(1e-6, 1.0, 50), losses), rule)
    assert suggestion.status.name == status
    assert math.isnan(suggestion.lr)
    assert suggestion.why == suggestion.status.value


@pytest.mark.parametrize("rule", RULES)
def test_a_curve_without_points_has_too_few(rule: str) -> None:
    assert suggest(Curve([], []), rule).status is Status.TOO_FEW_POINTS


def test_a_lane_that_diverged_within_a_few_updates_says_so() -> None:
    curve = Curve(np.geomspace(1.0, 10.0, 5), [3.0, 4.0, 9.0, 80.0, 1e4], Stop.DIVERGED)
    assert suggest(curve).status is Status.DIVERGED


def test_a_lane_that_diverged_without_falling_says_so() -> None:
    losses = np.r_[np.full(30, 2.3), 2.3 * 3.0 ** np.arange(1, 6)]
    losses[:30] += 0.01 * np.random.default_rng(0).standard_normal(30)
    curve = Curve(np.geomspace(1e-3, 10.0, 35), losses, Stop.DIVERGED)
    assert suggest(curve).status is Status.DIVERGED


@pytest.mark.parametrize("points", [50, 100, 300, 1000])
@pytest.mark.parametrize("sd", [0.0, 0.01, 0.05])
def test_a_loss_that_still_falls_at_the_last_lr_is_at_the_edge(points: int, sd: float) -> None:
    x = np.linspace(-6.0, -2.9, points)
    for seed in range(5):
        noise = sd * np.random.default_rng(seed).standard_normal(points)
        suggestion = suggest(Curve(10.0**x, sigmoid_drop(x) + noise))
        assert suggestion.status is Status.AT_EDGE, seed
        assert suggestion.status.found


@pytest.mark.parametrize("ending", ["diverged", "nan"])
def test_a_fall_that_ends_in_divergence_is_not_at_the_edge(ending: str) -> None:
    x = np.linspace(-6.0, -2.9, 100)
    losses = sigmoid_drop(x)
    if ending == "nan":  # nobody said why it stopped; the NaN says it
        curve = Curve(10.0 ** np.r_[x, -2.8], np.r_[losses, math.nan])
    else:
        curve = Curve(10.0**x, losses, Stop.DIVERGED)
    assert suggest(curve).status is Status.FOUND


@pytest.mark.parametrize("rule", ["fastest", "", None, 3])
def test_an_unknown_rule_is_refused_with_the_names_there_are(rule: object) -> None:
    curve, _ = known(FALLING["sigmoid drop"])
    with pytest.raises(InvalidArgument, match=r"rule: got .* one of 'default', 'steepest'"):
        suggest(curve, rule)  # type: ignore[arg-type]


@pytest.mark.parametrize("bad", [0.0, -0.1, math.nan, math.inf])
def test_a_curve_whose_lr_is_no_learning_rate_is_refused(bad: float) -> None:
    with pytest.raises(InvalidArgument, match=r"curve\.lr: got"):
        suggest(Curve([*np.geomspace(0.1, 1.0, 20), bad], np.ones(21)))


@given(
    losses=hnp.arrays(
        np.float64, st.integers(0, 40), elements=st.floats(allow_nan=True, allow_infinity=True)
    ),
    rule=st.sampled_from(sorted(RULES)),
    repeat=st.integers(1, 3),
)
def test_any_losses_at_all_give_an_answer_in_the_range_or_a_reason(losses, rule, repeat) -> None:
    lrs = np.repeat(np.geomspace(1e-6, 10.0, max(len(losses), 2)), repeat)[: len(losses)]
    suggestion = suggest(Curve(lrs, losses), rule)
    if suggestion.status.found:
        assert lrs.min() <= suggestion.lr <= lrs.max()
        assert lrs.min() * 0.999 <= suggestion.low <= suggestion.lr
        assert suggestion.lr <= suggestion.high <= lrs.max() * 1.001
    else:
        assert math.isnan(suggestion.lr)
        assert suggestion.why == suggestion.status.value


# --------------------------------------------------------------------------- the named rules


@pytest.mark.parametrize("seed", range(6))
def test_steepest_is_where_the_loss_falls_fastest_per_decade(seed: int) -> None:
    # Smoothing over ten points lags by nine of them.
    curve, truth = known(FALLING["drop then rise"], 1000, 0.0, move=place(seed))
    assert error(curve, truth + 9 * 0.007, "steepest") < 0.03


def test_steepest_takes_slopes_against_the_logarithm() -> None:
    # Fault 6: against lr itself, a clean drop at 1e-2 is answered 6e-8.
    lrs = np.geomspace(1e-8, 1.0, 400)
    losses = 2.0 - 1.0 / (1.0 + (1e-2 / lrs) ** 2)
    assert 5e-3 < suggest(Curve(lrs, losses), "steepest").lr < 3e-2


@pytest.mark.parametrize("seed", range(6))
def test_minimum_is_a_tenth_of_the_lr_with_the_lowest_loss(seed: int) -> None:
    curve, _ = known(FALLING["quadratic bowl"], 3000, 0.0, move=place(seed))
    assert error(curve, -2.0 - 1.0 + place(seed), "minimum") < 0.02


def test_minimum_is_never_below_the_first_lr_tried() -> None:
    x = np.linspace(-3.0, 0.0, 100)
    curve = Curve(10.0**x, 1.0 - np.clip((x + 3.0) / 0.5, 0.0, 1.0) + np.maximum(x + 2.5, 0.0))
    assert suggest(curve, "minimum").lr == pytest.approx(1e-3, rel=1e-9)


@pytest.mark.parametrize("seed", range(6))
def test_valley_is_the_middle_of_the_longest_stretch_that_falls(seed: int) -> None:
    move, x = place(seed), np.linspace(-6.0, 0.0, 1200)
    # Hardly rises, falls from -4 to -1, rises: the middle of the falling stretch is -2.5.
    losses = 0.01 * np.minimum(x + 4, 0) - np.clip(x + 4, 0, 3) + 2 * np.maximum(x + 1, 0)
    assert error(Curve(10.0 ** (x + move), losses), -2.5 + move, "valley") < 0.05


@given(values=st.lists(st.integers(-20, 20), min_size=1, max_size=40))
def test_the_longest_falling_subsequence_is_as_long_as_the_slow_search_says(values) -> None:
    lengths: list[int] = []
    for index, value in enumerate(values):
        before = (lengths[other] for other in range(index) if values[other] > value)
        lengths.append(1 + max(before, default=0))
    chain = _longest_decrease(np.array(values, dtype=float))
    assert len(chain) == max(lengths)
    assert all(first < second for first, second in itertools.pairwise(chain))
    assert all(values[first] > values[second] for first, second in itertools.pairwise(chain))


@pytest.mark.parametrize("seed", range(6))
def test_slide_stops_where_the_slopes_at_the_ends_of_its_window_agree(seed: int) -> None:
    # Flat, a fall of 0.02 per point, flat, a rise of 0.1 per point to the end.
    move, points = place(seed), np.arange(200.0)
    losses = 3.0 - 0.02 * np.clip(points - 60, 0, 60) + 0.1 * np.maximum(points - 150, 0)
    lrs = 10.0 ** (points / 40.0 - 5.0 + move)
    curve = Curve(lrs, losses)
    # The five last points are left out; constant slopes agree at once.
    assert suggest(curve, "slide").lr == pytest.approx(lrs[194 - 15], rel=1e-9)
    bent = Curve(lrs, losses + 0.004 * np.maximum(points - 150, 0) ** 2)
    at = int(np.argmin(np.abs(lrs - suggest(bent, "slide").lr)))
    assert 60 < at < 150


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("name", FALLING)
def test_every_rule_answers_within_the_curve_wherever_the_curve_lies(rule, name) -> None:
    curve, _ = known(FALLING[name], 100, 0.02)
    answers = []
    for move in (-5.0, 0.0, 5.0):
        moved = Curve(curve.lr * 10.0**move, curve.loss)
        suggestion = suggest(moved, rule)
        assert suggestion.status.found
        assert suggestion.rule == rule
        assert moved.lr[0] <= suggestion.lr <= moved.lr[-1]
        answers.append(math.log10(suggestion.lr) - move)
    assert max(answers) - min(answers) < 1e-6
