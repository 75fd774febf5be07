from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from lrsearch.core.curve import noise
from lrsearch.core.plateau import plateaus
from lrsearch.errors import InvalidArgument

histories = hnp.arrays(np.float64, st.integers(1, 60), elements=st.floats(-100, 100, width=32))


def staircase(levels: list[float], tread: int = 50, riser: int = 10) -> np.ndarray:
    """Flat treads joined by straight falls."""
    pieces = [np.full(tread, levels[0])]
    for above, below in itertools.pairwise(levels):
        pieces += [np.linspace(above, below, riser + 2)[1:-1], np.full(tread, below)]
    return np.concatenate(pieces)


def ends(history: np.ndarray, **shares: float) -> list[tuple[int, int]]:
    return [(plateau.start, plateau.stop) for plateau in plateaus(history, **shares)]


def test_every_tread_of_a_staircase_is_found_exactly() -> None:
    assert ends(staircase([3.0, 2.0, 0.0])) == [(0, 50), (60, 110), (120, 170)]


def test_the_level_is_the_mean_loss_on_the_stretch() -> None:
    assert [p.level for p in plateaus(staircase([3.0, 2.0, 0.0]))] == [3.0, 2.0, 0.0]


def test_a_steady_fall_has_no_plateau() -> None:
    assert ends(np.linspace(1.0, 0.0, 500)) == []


def test_the_tail_of_a_decay_begins_where_what_is_left_fits_into_the_band() -> None:
    """exp(-t/50) is below 2 % of its drop from t = 50 ln 50 = 196 on."""
    ((start, stop),) = ends(np.exp(-np.arange(1000) / 50.0))
    assert stop == 1000
    assert abs(start - 196) <= 1


def test_a_constant_history_is_one_plateau() -> None:
    assert ends(np.full(30, 7.0)) == [(0, 30)]


@pytest.mark.parametrize("shift", [-100.0, 0.0, 5.0])
@pytest.mark.parametrize("scale", [0.001, 1.0, 1000.0])
def test_shift_and_scale_of_the_loss_do_not_matter(shift: float, scale: float) -> None:
    assert ends(scale * staircase([3.0, 2.0, 0.0]) + shift) == [(0, 50), (60, 110), (120, 170)]


@pytest.mark.parametrize("seed", range(5))
def test_noise_moves_the_ends_but_hides_no_plateau(seed: int) -> None:
    clean = staircase([3.0, 2.0, 0.0], tread=400, riser=100)
    noisy = clean + 0.05 * np.random.default_rng(seed).standard_normal(len(clean))
    found = ends(noisy)
    assert len(found) == 3
    for (start, stop), (true_start, true_stop) in zip(
        found, [(0, 400), (500, 900), (1000, 1400)], strict=True
    ):
        assert abs(start - true_start) <= 50
        assert abs(stop - true_stop) <= 50


def test_a_short_stop_is_no_plateau() -> None:
    history = staircase([3.0, 2.0, 0.0], tread=15, riser=100)
    assert ends(history) == []
    assert len(ends(history, least=0.05)) == 3


@given(histories, st.floats(0.05, 0.5), st.floats(0.01, 0.3))
def test_stretches_are_flat_long_enough_and_apart(
    history: np.ndarray, least: float, band: float
) -> None:
    height = band * np.ptp(history) + 6.0 * noise(history)
    last = 0
    for plateau in plateaus(history, least, band):
        piece = history[plateau.start : plateau.stop]
        assert np.ptp(piece) <= height
        assert len(plateau) == len(piece) >= max(2, round(least * len(history)))
        assert plateau.start >= last
        last = plateau.stop


@given(histories)
def test_the_longest_flat_stretch_is_the_one_a_slow_search_finds(history: np.ndarray) -> None:
    height = 0.1 * np.ptp(history) + 6.0 * noise(history)
    n = len(history)
    longest = max(
        stop - start
        for start in range(n)
        for stop in range(start + 1, n + 1)
        if np.ptp(history[start:stop]) <= height
    )
    found = plateaus(history, least=1e-9, band=0.1)
    assert max((len(plateau) for plateau in found), default=1) == longest


def test_bad_input_is_named() -> None:
    with pytest.raises(InvalidArgument, match="history: got"):
        plateaus([1.0, np.nan])
    with pytest.raises(InvalidArgument, match=r"least: got 0\.0"):
        plateaus([1.0], least=0.0)
    with pytest.raises(InvalidArgument, match=r"band: got 2\.0"):
        plateaus([1.0], band=2.0)
    assert plateaus([]) == ()
