"""Searches of trainings from which there is nothing to learn, and how they are counted."""

from __future__ import annotations

import math
import pathlib

import numpy as np
import pytest

from benchmarks import noise, noise_kinds, noise_kinds_torch, noise_page
from benchmarks.noise import KINDS, METHODS, Cell, Kind, measure, wilson
from lrsearch.core.trainable import Evaluable, ShortensEpochs

NOTHING = [kind for kind in KINDS if kind.best is None]
CLEAR = {
    "regression": noise_kinds.regression,
    "classes": noise_kinds.classes,
    "surface": noise_kinds.surface,
}


def ended(training: noise_kinds.HeldOutPasses, lr: float) -> float:
    for _ in range(noise_kinds.STEPS):
        training.step(lr)
    return training.evaluate().loss


@pytest.mark.parametrize("stream", [False, True])
def test_a_restored_training_repeats_its_losses(stream: bool) -> None:
    problem = noise_kinds.random_labels(0) if stream else noise_kinds.regression(0, adam=True)
    training = (noise_kinds.Stream if stream else noise_kinds.Passes)(problem, 0)
    training.step(0.1)
    before = training.snapshot()
    first = [training.step(0.1) for _ in range(300)]
    training.restore(before)
    assert [training.step(0.1) for _ in range(300)] == first


def test_reshuffled_and_shortened_passes_end_with_a_restore() -> None:
    training = noise_kinds.Passes(noise_kinds.regression(0), 0)
    before = training.snapshot()
    plain = [training.step(0.0) for _ in range(4)]
    training.restore(before)
    training.reshuffle(1)
    assert [training.step(0.0) for _ in range(4)] != plain
    training.restore(before)
    training.shorten_epochs(2)
    assert [training.step(0.0) for _ in range(4)] == plain[:2] * 2
    training.restore(before)
    assert [training.step(0.0) for _ in range(4)] == plain


def test_a_stream_has_no_passes_and_only_some_have_held_out_data() -> None:
    problem = noise_kinds.random_labels(0)
    assert not isinstance(noise_kinds.Stream(problem, 0), (ShortensEpochs, Evaluable))
    assert isinstance(noise_kinds.HeldOutStream(problem, 0), Evaluable)
    assert isinstance(noise_kinds.HeldOutPasses(problem, 0), ShortensEpochs)


@pytest.mark.parametrize(
    "make", [noise_kinds.pure_noise, noise_kinds.random_labels, noise_kinds.dead]
)
def test_where_there_is_nothing_to_learn_no_rate_beats_the_start(
    make: noise_kinds.Callable[[int], noise_kinds.Problem],
) -> None:
    training = noise_kinds.HeldOutPasses(make(3), 3)
    start, before = training.evaluate().loss, training.snapshot()
    for lr in (1e-3, 1e-2, 0.1):
        training.restore(before)
        assert ended(training, lr) >= start - 0.005


@pytest.mark.parametrize("name", CLEAR)
def test_where_there_is_plainly_something_to_learn_a_run_learns_it(name: str) -> None:
    training = noise_kinds.HeldOutPasses(CLEAR[name](3), 3)
    start = training.evaluate().loss
    assert ended(training, 0.05) < 0.5 * start


@pytest.mark.parametrize(
    ("loss", "features", "shape"),
    [
        (noise_kinds.squares, 8, (8,)),
        (noise_kinds.softmax, 8, (8, 4)),
        (noise_kinds.two_layers, 2, (65,)),
    ],
)
def test_gradients_are_those_of_the_losses(
    loss: noise_kinds.LossAndGradient, features: int, shape: tuple[int, ...]
) -> None:
    rng = np.random.default_rng(0)
    weights, inputs = rng.normal(size=shape), rng.normal(size=(16, features))
    targets = np.eye(4)[rng.integers(0, 4, 16)] if len(shape) == 2 else rng.normal(size=16)
    _, gradient = loss(weights, inputs, targets)
    along = rng.normal(size=shape)
    ahead, behind = (loss(weights + h * along, inputs, targets)[0] for h in (1e-6, -1e-6))
    assert (gradient * along).sum() == pytest.approx((ahead - behind) / 2e-6, rel=1e-5)


def test_a_walk_is_the_same_in_every_run_or_never() -> None:
    for fresh in (False, True):
        walk = noise_kinds.Walk(0, fresh)
        before = walk.snapshot()
        first = [walk.step(0.1) for _ in range(5)]
        walk.restore(before)
        assert ([walk.step(9.0) for _ in range(5)] == first) is not fresh


@pytest.mark.parametrize(
    "make",
    [
        noise_kinds_torch.dead_relu,
        noise_kinds_torch.detached,
        noise_kinds_torch.frozen_batchnorm,
    ],
)
def test_no_gradient_reaches_a_weight(
    make: noise_kinds_torch.Callable[[], noise_kinds_torch.Setup],
) -> None:
    setup = make()
    inputs, targets = setup.train
    (setup.model(inputs) - targets).square().mean().backward()
    for group in setup.optimizer.param_groups:
        for p in group["params"]:
            assert p.grad is None or not p.grad.any()


def test_a_wrapper_that_ignores_the_rate_learns_all_the_same() -> None:
    losses = []
    for lr in (1e-6, 1.0):
        noise_kinds_torch.torch.manual_seed(0)
        setup = noise_kinds_torch.ignored_rate()
        setup.optimizer.param_groups[0]["lr"] = lr
        for _ in range(20):
            setup.optimizer.zero_grad()
            loss = (setup.model(setup.train[0]) - setup.train[1]).square().mean()
            loss.backward()
            setup.optimizer.step()
            losses.append(loss.item())
    assert losses[:20] == losses[20:]
    assert losses[19] < losses[0]


@pytest.mark.parametrize("make", ["frozen_batchnorm", "noise_batchnorm"])
def test_running_statistics_alone_change_the_held_out_loss(make: str) -> None:
    noise_kinds_torch.torch.manual_seed(0)
    setup = getattr(noise_kinds_torch, make)()

    def held_out() -> float:
        setup.model.eval()
        loss = (setup.model(setup.held_out[0]) - setup.held_out[1]).square().mean().item()
        setup.model.train()
        return float(loss)

    before = held_out()
    for _ in range(50):
        setup.model(setup.train[0][:64])
    assert held_out() < 0.9 * before


def test_every_kind_has_a_name_of_its_own_and_pure_noise_two_hundred_seeds() -> None:
    assert len({kind.name for kind in KINDS}) == len(KINDS)
    assert [kind.name for kind in KINDS if kind.seeds == 200] == [
        "pure-noise",
        "noise-adam",
        "random-labels",
    ]


@pytest.mark.parametrize("kind", NOTHING, ids=[kind.name for kind in NOTHING])
def test_every_kind_of_nothing_can_be_searched(kind: Kind) -> None:
    cell = measure(kind, "range", True, range(1))
    assert sum(cell.statuses.values()) == 1
    assert cell.holds is None


def test_a_cell_counts_answers_widths_and_hits() -> None:
    kind = Kind("clear", "", noise_kinds.in_numpy(noise_kinds.regression), lambda: 1e-2)
    cell = measure(kind, "range", False, range(3))
    assert cell.found == 3
    assert cell.statuses == {"FOUND": 3}
    assert cell.width is not None
    assert cell.width > 0
    assert cell.holds in range(4)


@pytest.mark.parametrize(
    ("hits", "total", "low", "high"), [(0, 200, 0.0, 0.0189), (10, 200, 0.0274, 0.0896)]
)
def test_wilsons_interval(hits: int, total: int, low: float, high: float) -> None:
    assert wilson(hits, total) == pytest.approx((low, high), abs=1e-4)


def test_the_best_rate_of_a_bowl_is_found() -> None:
    def bowl(seed: int) -> noise_kinds.Problem:
        inputs = np.full((64, 1), math.sqrt(0.5))
        data = inputs, np.ones(64)
        return noise_kinds.Problem(np.zeros(1), noise_kinds.squares, data, data)

    assert noise_kinds.best_rate(bowl, seeds=1) >= 0.05  # all of those end at the bottom


def cell(kind: str, method: str, held_out: bool, found: int, width: float | None) -> Cell:
    holds = found if kind.startswith("clear") else None
    return Cell(kind, method, held_out, 10, found, 0.0, 1.0, {}, 1.0, width, holds, 1.0)


def test_the_tables_show_shares_without_and_with_held_out_data() -> None:
    cells = [
        cell(kind.name, method, held_out, found, width)
        for kind in KINDS
        for method in METHODS
        for held_out in (False, True)
        for found, width in [(2 if held_out else 1, 3.0) if kind.best is None else (9, 1.0)]
    ]
    content = {"cells": [noise.asdict(one) for one in cells]}
    lines = noise_page.kind_table(content).splitlines()
    assert lines[2] == "| targets are noise, SGD | " + " | ".join(["10% / 20%"] * 6) + " |"
    assert len(lines) == 2 + len(NOTHING)
    first = noise_page.method_table(content).splitlines()[2]
    assert first.startswith("| range | 10% (")
    assert "3.0" in first


def test_new_cells_replace_stored_ones(tmp_path: pathlib.Path) -> None:
    first, other = (cell("walk", method, False, 1, 1.0) for method in ("range", "ladder"))
    noise.store([first, other], tmp_path)
    noise.store([cell("walk", "range", False, 5, 2.0)], tmp_path)
    content = noise.read_json("noise", tmp_path)
    stored = noise_page.cells_of(content)
    assert stored["walk", "range", False].found == 5
    assert stored["walk", "ladder", False] == other
    assert content["environment"]["versions"]["numpy"] == np.__version__


def test_a_run_prints_cells_and_totals(capsys: pytest.CaptureFixture[str]) -> None:
    noise.main(["--seeds", "2", "--kinds", "no-gradient", "--methods", "range"])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4
    assert lines[0].startswith("no-gradient            range     training found   0/2")
    assert lines[2].startswith("range     training  false answers 0.0%")
