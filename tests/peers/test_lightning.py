"""What the tests of Lightning's own learning-rate finder assert, asked of ours.

Lightning 2.6, `tests/tests_pytorch/tuner/test_lr_finder.py`. Where Lightning's finder sets an
attribute by itself, ours is asked to with `apply`. Quality is tested elsewhere: here are the same
promises, on the same kinds of modules.

Left out:

- `trainer_arg_str` as a `Trainer` argument: the name of an unusual attribute is given to
  `apply_result`, and that is tested.
- `respects_weights_only` and `checkpoint_cleanup_on_error`: no checkpoint is written. That there is
  no file, after an error too, is tested.
- `suggestion_parameters_work` (`skip_begin` changes the answer): no points are skipped; that
  another rule changes the answer is tested.
- `with_ddp` is in `tests/integrations/test_lightning_distributed.py`, since it is slow.
"""

from __future__ import annotations

import copy
import math
import pathlib
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import BackboneFinetuning, EarlyStopping

import lrsearch
from lrsearch import Curve, suggest
from lrsearch.errors import InvalidArgument, NoLearningRateFound
from lrsearch.integrations.lightning import LearningRateSearch, apply_result, find_lr_for
from tests.integrations.lightning_parts import (
    Net,
    Recorder,
    Validated,
    loader,
    quiet,
    seeded,
    trainer,
)

pytestmark = quiet

RANGE = lrsearch.RangeTest(steps=60, min_lr=1e-3, max_lr=1.0)


def find(train: Any, module: Any, datamodule: Any = None, **options: Any) -> lrsearch.Result:
    if datamodule is None:
        options.setdefault("train_dataloaders", loader())
    options = {"method": RANGE, "progress": False, **options}
    return find_lr_for(train, module, datamodule, **options)


def weights(module: Any) -> list[bytes]:
    return [p.detach().numpy().tobytes() for p in module.parameters()]


def inside(**options: Any) -> LearningRateSearch:
    return LearningRateSearch(method=RANGE, progress=False, **options)


def test_error_with_multiple_optimizers() -> None:
    def two(module: Any) -> Any:
        return [torch.optim.SGD(module.parameters(), lr=0.1) for _ in range(2)]

    with pytest.raises(RuntimeError, match="multiple optimizers"):  # Lightning's own word
        find(trainer(), seeded(lambda: Net(configure=two)))
    by_hand = seeded(lambda: Net(configure=two))
    by_hand.automatic_optimization = False
    with pytest.raises(InvalidArgument, match="optimizer: got None, expected one of"):
        find(trainer(), by_hand)


def test_model_reset_correctly_and_no_file_written(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    module = seeded(Net)
    before = weights(module)
    find(trainer(default_root_dir=tmp_path), module)
    assert weights(module) == before
    assert list(tmp_path.iterdir()) == []


def test_trainer_reset_correctly() -> None:
    train, module = trainer(max_epochs=1), seeded(Net)
    train.fit(module, loader())
    names = [
        "callbacks",
        "checkpoint_callback",
        "current_epoch",
        "early_stopping_callback",
        "global_step",
        "limit_val_batches",
        "loggers",
        "logger",
        "max_steps",
        "optimizers",
        "should_stop",
    ]
    before = {name: getattr(train, name) for name in names}
    find(train, module)
    assert {name: getattr(train, name) for name in names} == before


@pytest.mark.parametrize("hyperparameter", [True, False])
def test_the_attribute_changes_when_asked_to(hyperparameter: bool) -> None:
    class Attribute(Net):
        def __init__(self) -> None:
            super().__init__()
            del self.hparams["lr"]
            self.lr = 1e-3

        def configure_optimizers(self) -> Any:
            return torch.optim.Adam(self.parameters(), lr=self.lr)

    module = seeded(Net if hyperparameter else Attribute)
    found = find(trainer(), module)
    found.apply(module)
    assert (module.hparams.lr if hyperparameter else module.lr) == found.lr != 1e-3


def test_an_attribute_of_another_name() -> None:
    class Named(Net):
        def __init__(self) -> None:
            super().__init__()
            self.my_fancy_lr = 1e-3

        def configure_optimizers(self) -> Any:
            return torch.optim.Adam(self.parameters(), lr=self.my_fancy_lr)

    module = seeded(Named)
    found = find(trainer(), module)
    apply_result(found, module, name="my_fancy_lr")
    assert module.my_fancy_lr == found.lr


@pytest.mark.parametrize("kind", [torch.optim.Adam, torch.optim.Adagrad])
def test_a_call_before_fit_with_every_optimizer(kind: Any) -> None:
    def make(module: Any) -> Any:
        return kind(module.parameters(), lr=module.hparams.lr)

    module, train = seeded(lambda: Net(configure=make)), trainer()
    found = find(train, module)
    found.apply(module)
    train.fit(module, loader())
    assert train.optimizers[0].param_groups[0]["lr"] == found.lr != 1e-3


def test_datamodule_parameter() -> None:
    class Data(pl.LightningDataModule):  # type: ignore[misc]
        def train_dataloader(self) -> Any:
            return loader()

    module = seeded(Net)
    assert find(trainer(), module, Data()).lr == find(trainer(), module).lr


def test_accumulation_and_early_stopping() -> None:
    batches: list[int] = []

    class Counts(Net):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            batches.append(batch_idx)
            return super().training_step(batch, batch_idx)

    method = lrsearch.RangeTest(steps=100, min_lr=1e-6, max_lr=1e-3)
    train = trainer(accumulate_grad_batches=2)
    curve = find(train, seeded(Counts), method=method, throw=False).curves[-1]
    assert (len(curve.lr), len(curve.loss), len(batches)) == (100, 100, 200)


def test_another_rule_gives_another_answer() -> None:
    curve = find(trainer(), seeded(Net)).curves[-1]
    assert suggest(curve, "steepest").lr != suggest(curve, "minimum").lr


def test_a_last_loss_that_is_not_finite_does_not_change_the_answer() -> None:
    curve = find(trainer(), seeded(Net)).curves[-1]
    clean = suggest(curve)
    for bad in (math.nan, math.inf):
        more = Curve(np.append(curve.lr, 2 * curve.lr[-1]), np.append(curve.loss, bad), curve.stop)
        assert suggest(more).lr == pytest.approx(clean.lr, rel=1e-6)


def test_fails_fast_on_bad_configuration() -> None:
    steps: list[int] = []

    class Watched(Net):
        def training_step(self, *_: Any) -> Any:
            steps.append(1)

    for options in ({"method": "fast"}, {"optimizer": 1}, {"train_steps": 0}):
        with pytest.raises(InvalidArgument):
            find(trainer(), seeded(Watched), **options)
    with pytest.raises(InvalidArgument, match="max_lr"):
        lrsearch.RangeTest(min_lr=1.0, max_lr=0.1)
    assert steps == []


@pytest.mark.parametrize(("low", "high"), [(1e-8, 1e-2), (1e-3, 1.0)])
def test_candidates_lie_between_the_bounds(low: float, high: float) -> None:
    method = lrsearch.RangeTest(steps=50, min_lr=low, max_lr=high)
    found = find(trainer(), seeded(Net), method=method, throw=False)
    rates = found.curves[-1].lr
    assert rates[0] == pytest.approx(low)
    assert np.all((rates >= low * (1 - 1e-9)) & (rates <= high * (1 + 1e-9)))
    assert found.status.found <= (low <= found.lr <= high)


def test_an_epoch_shorter_than_the_search_does_not_end_it() -> None:
    """There fewer points than asked for make a warning; here the data begin again."""
    method = lrsearch.RangeTest(steps=50, min_lr=1e-6, max_lr=1e-3)
    train = trainer(max_epochs=1)
    assert len(find(train, seeded(Net), method=method, throw=False).curves[-1]) == 50


def test_multiple_calls_give_the_same_results() -> None:
    module, train = seeded(Net), trainer()
    three = [find(train, module) for _ in range(3)]
    assert len({found.lr for found in three}) == 1
    assert len({tuple(found.curves[-1].loss) for found in three}) == 1


@pytest.mark.parametrize(
    "losses",
    [
        [],
        [1.0],
        [math.nan],
        [math.nan, math.nan, math.nan],
        [math.inf, -math.inf, math.nan],
        [1.0, math.nan],
        [math.nan, 1.0],
        [math.inf, 2.0, math.nan],
    ],
    ids=str,
)
def test_too_few_finite_points_give_a_status_and_no_number(losses: list[float]) -> None:
    answer = suggest(Curve(np.geomspace(1e-4, 1.0, len(losses)), np.array(losses)))
    assert not answer.status.found
    assert math.isnan(answer.lr)
    assert answer.why


def test_the_attribute_stays_when_there_is_no_answer() -> None:
    module = seeded(lambda: Net(lr=0.123))
    method = lrsearch.RangeTest(steps=10, min_lr=1e-9, max_lr=1e-8)
    found = find(trainer(), module, method=method, throw=False)
    with pytest.raises(NoLearningRateFound):
        found.apply(module)
    assert module.hparams.lr == 0.123


def test_the_callback_can_search_again_in_later_epochs() -> None:
    """There with early stopping switched off; here as it is."""
    search = inside(at_epochs=[0, 1, 2, 4], throw=False)
    recorder = Recorder()
    trainer(max_epochs=5, callbacks=[search, recorder]).fit(seeded(Net), loader())
    assert sorted(search.results) == [0, 10, 20, 40]
    assert all(len(found.curves[-1]) > 10 for found in search.results.values())
    assert len(recorder.losses) == 50


def test_the_callback_does_not_limit_the_validation_afterwards() -> None:
    seen: list[int] = []

    class Watched(Validated):
        def on_validation_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
            seen.append(batch_idx)

    options = {"num_sanity_val_steps": 0, "max_epochs": 1}
    train = trainer(callbacks=[inside()], limit_val_batches=7, **options)
    train.fit(seeded(Watched), loader(), loader())
    assert seen == list(range(7))


def test_training_step_may_return_nothing() -> None:
    """There such a step is a point without a loss; here the next batch takes its place."""

    class Sometimes(Net):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            return None if batch_idx % 4 == 3 else self.loss(batch)

    found = find(trainer(), seeded(Sometimes))
    assert found.status.found
    assert np.isfinite(found.curves[-1].loss).all()


def test_with_early_stopping_and_a_scheduler_that_asks_for_a_metric() -> None:
    def plateau(module: Any) -> Any:
        optimizer = torch.optim.Adam(module.parameters(), lr=module.hparams.lr)
        scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer)
        config = {"scheduler": scheduler, "monitor": "val_loss"}
        return {"optimizer": optimizer, "lr_scheduler": config}

    stopping = EarlyStopping("val_loss", patience=2)
    train = trainer(callbacks=[stopping], max_epochs=3)
    module = seeded(lambda: Validated(configure=plateau))
    found = find(train, module, val_dataloaders=loader(64))
    assert found.status.found
    assert (stopping.stopped_epoch, stopping.wait_count, train.should_stop) == (0, 0, False)
    train.fit(module, loader(), loader(64))
    assert train.current_epoch == 3


def test_the_steepest_point_is_taken_over_the_logarithm_of_the_learning_rate() -> None:
    """There the gradient of a sine is checked; here where the steepest fall is read."""
    exponents = np.linspace(-4.0, 0.0, 401)
    curve = Curve(10.0**exponents, np.cos(np.pi * (exponents + 4.0) / 4.0))  # steepest at 10^-2
    assert math.log10(suggest(curve, "steepest").lr) == pytest.approx(-2.0, abs=0.1)


def test_the_callback_applies_its_answer_after_everything_was_restored() -> None:
    search, recorder = inside(apply=True), Recorder()
    module = seeded(Net)
    trainer(callbacks=[search, recorder]).fit(module, loader())
    found = search.results[0]
    assert set(recorder.lrs) == {found.lr} != {1e-3}
    assert module.hparams.lr == found.lr


def test_the_spacing_of_the_learning_rates_does_not_move_the_answer() -> None:
    """There linear and exponential modes differ in the gradient; a point is a point here."""

    def loss(rates: Any) -> Any:
        return 2.0 - 1.5 / (1.0 + (1e-2 / rates) ** 2)

    even, apart = np.linspace(1e-3, 0.1, 200), np.geomspace(1e-3, 0.1, 100)
    linear, exponential = (suggest(Curve(lr, loss(lr))) for lr in (even, apart))
    assert abs(math.log10(linear.lr / exponential.lr)) < 0.5


def test_nothing_is_left_after_an_error(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Breaks(Net):
        calls = 0

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            self.calls += 1
            if self.calls > 5:
                raise ValueError("on purpose")
            return super().training_step(batch, batch_idx)

    monkeypatch.chdir(tmp_path)
    module, train = seeded(Breaks), trainer(default_root_dir=tmp_path)
    before = weights(module)
    with pytest.raises(ValueError, match="on purpose"):
        find(train, module)
    assert weights(module) == before
    assert module.calls == 0
    assert list(tmp_path.iterdir()) == []


def test_with_backbone_finetuning() -> None:
    class Head(Net):
        def configure_optimizers(self) -> Any:
            return torch.optim.Adam(self.head.parameters(), lr=self.hparams.lr)

    module, finetuning = seeded(Head), BackboneFinetuning(unfreeze_backbone_at_epoch=1)
    train = trainer(callbacks=[finetuning], max_epochs=3)
    state = copy.deepcopy(finetuning.state_dict())
    found = find(train, module, throw=False)
    assert found.cost.steps > 10
    assert finetuning.state_dict() == state
    assert all(p.requires_grad for p in module.parameters())
    train.fit(module, loader())
    assert len(train.optimizers[0].param_groups) == 2
