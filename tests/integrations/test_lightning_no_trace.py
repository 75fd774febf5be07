"""A search inside a Lightning trainer leaves trainer, module and everything else as they were."""

from __future__ import annotations

import copy
import pathlib
import random
import signal
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import (
    BackboneFinetuning,
    EarlyStopping,
    LearningRateMonitor,
    ModelCheckpoint,
    StochasticWeightAveraging,
)
from pytorch_lightning.loggers import CSVLogger

import lrsearch
from lrsearch.integrations.lightning import LearningRateSearch, find_lr_for
from tests.integrations.lightning_parts import (
    Net,
    Recorder,
    Validated,
    loader,
    quiet,
    seeded,
    trainer,
)
from tests.pytorch.fingerprint import plain

pytestmark = quiet

RANGE = lrsearch.RangeTest(steps=60, min_lr=1e-3, max_lr=1.0)
OPTIMIZERS: dict[str, Callable[[Any], Any]] = {
    "momentum": lambda m: torch.optim.SGD(m.parameters(), lr=1e-2, momentum=0.9),
    "adam": lambda m: torch.optim.Adam(m.parameters(), lr=1e-3),
}


def net(**options: Any) -> Net:
    return seeded(lambda: Net(dropout=0.2, norm=True, **options))  # type: ignore[no-any-return]


def find(trainer: Any, module: Any, **options: Any) -> lrsearch.Result:
    if "datamodule" not in options:
        options.setdefault("train_dataloaders", loader(shuffle=True))
    defaults = {"method": RANGE, "progress": False, "throw": False}
    return find_lr_for(trainer, module, **{**defaults, **options})


def of_module(module: Any) -> dict[str, Any]:
    """Everything about a module that can be compared."""
    skipped = {"_trainer", "_fabric"}
    return {
        "tensors": {name: plain(t) for name, t in module.state_dict().items()},
        "identity": [id(t) for t in module.parameters()],
        "grads": [None if p.grad is None else plain(p.grad) for p in module.parameters()],
        "requires_grad": [p.requires_grad for p in module.parameters()],
        "modes": [m.training for m in module.modules()],
        "attributes": [sorted(vars(m)) for m in module.modules()],
        "own": {k: repr(v) for k, v in vars(module).items() if k not in skipped},
        "trainer": id(module._trainer),
        "hparams": dict(module.hparams),
    }


def of_trainer(trainer: Any) -> dict[str, Any]:
    """Everything about a trainer that users and its loops look at."""
    epochs = trainer.fit_loop.epoch_loop
    return {
        "step": trainer.global_step,
        "epoch": trainer.current_epoch,
        "loops": copy.deepcopy(trainer.fit_loop.state_dict()),
        "limits": (trainer.max_steps, trainer.max_epochs, trainer.min_steps, trainer.min_epochs),
        "batches": (trainer.limit_train_batches, trainer.limit_val_batches),
        "sanity": trainer.num_sanity_val_steps,
        "stop": trainer.should_stop,
        "state": copy.deepcopy(trainer.state),
        "callbacks": [id(c) for c in trainer.callbacks],
        "callback states": plain([c.state_dict() for c in trainer.callbacks]),
        "loggers": [id(one) for one in trainer.loggers],
        "profiler": id(trainer.profiler),
        "metrics": plain([trainer.callback_metrics, trainer.logged_metrics]),
        "bar": plain(trainer.progress_bar_metrics),
        "optimizers": [id(one) for one in trainer.optimizers],
        "optimizer states": plain([one.state_dict() for one in trainer.optimizers]),
        "schedulers": plain([c.scheduler.state_dict() for c in trainer.lr_scheduler_configs]),
        "module": id(trainer.lightning_module),
        "loaders": (id(trainer.train_dataloader), id(trainer.val_dataloaders)),
        "batches seen": vars(epochs.batch_progress.current).copy(),
        "attributes": sorted(vars(trainer)),
    }


def of_random() -> list[Any]:
    return [
        random.getstate(),
        plain(np.random.get_state(legacy=False)),  # noqa: NPY002
        plain(torch.get_rng_state()),
        signal.getsignal(signal.SIGINT),
        torch.is_grad_enabled(),
    ]


def everything(trainer: Any, module: Any) -> dict[str, Any]:
    return {**of_module(module), **of_trainer(trainer), "random": of_random()}


@pytest.mark.parametrize("when", ["before fit", "after fit"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_trainer_and_module_are_as_before(name: str, when: str) -> None:
    module, train = net(configure=OPTIMIZERS[name]), trainer()
    if when == "after fit":
        train.fit(module, loader())
    before = everything(train, module)
    assert find(train, module).cost.steps >= 20
    assert everything(train, module) == before


@pytest.mark.parametrize("searches", [1, 2], ids=["once", "twice"])
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_fit_after_a_search_equals_fit_without(name: str, when: str, searches: int) -> None:
    def losses(times: int) -> Any:
        module, recorder = net(configure=OPTIMIZERS[name]), Recorder()
        train = trainer(callbacks=[recorder])
        torch.manual_seed(7)
        if when == "after":
            train.fit(module, loader(shuffle=True))
        for _ in range(times):
            find(train, module)
        train.fit_loop.max_epochs = 4
        train.fit(module, loader(shuffle=True))
        return recorder.losses, of_module(module)["tensors"], train.global_step

    assert losses(searches) == losses(0)


@pytest.mark.parametrize("accumulate", [1, 3])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_fit_with_a_search_in_the_middle_equals_fit_without(name: str, accumulate: int) -> None:
    def schedule(module: Any) -> Any:
        optimizer = OPTIMIZERS[name](module)
        return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 1)]

    def losses(*searches: Any) -> Any:
        module, recorder = net(configure=schedule), Recorder()
        train = trainer(callbacks=[*searches, recorder], accumulate_grad_batches=accumulate)
        torch.manual_seed(7)
        train.fit(module, loader(shuffle=True))
        return recorder.losses, recorder.lrs, of_module(module)["tensors"], train.global_step

    options = {"method": RANGE, "progress": False, "throw": False}
    search = LearningRateSearch(at_steps=[2], at_epochs=[0, 1], **options)
    assert losses(search) == losses()
    assert len(search.results) == 3


def test_a_search_in_the_middle_leaves_the_running_trainer_as_it_was() -> None:
    seen: list[tuple[Any, Any]] = []

    class Searches(pl.Callback):
        def on_train_batch_start(self, trainer: Any, module: Any, *_: Any) -> None:
            if trainer.global_step in (0, 3, 11):
                inner = LearningRateSearch([trainer.global_step], at_epochs=(), **options)
                before = everything(trainer, module)
                inner.on_train_batch_start(trainer, module, None, trainer.fit_loop.batch_idx)
                seen.append((before, everything(trainer, module)))
                assert len(inner.results) == 1

    options: dict[str, Any] = {"method": RANGE, "progress": False, "throw": False}
    module = seeded(lambda: Validated(dropout=0.2, norm=True))
    trainer(callbacks=[Searches()]).fit(module, loader(shuffle=True), loader(64))
    assert len(seen) == 3
    for before, after in seen:
        assert after == before


def test_the_answer_is_the_same_from_a_fresh_and_from_a_used_trainer() -> None:
    used, module = trainer(), net()
    used.fit(module, loader())
    found = [find(used, module), find(used, module), find(trainer(), copy.deepcopy(module))]
    assert len({(one.lr, tuple(one.curves[-1].loss)) for one in found}) == 1
    assert found[0].status.found, found[0].why


def test_the_answer_in_the_middle_is_that_of_a_fresh_trainer_in_the_same_state(
    tmp_path: pathlib.Path,
) -> None:
    class Saves(pl.Callback):
        def on_train_epoch_end(self, trainer: Any, module: Any) -> None:
            if trainer.current_epoch == 0:
                trainer.save_checkpoint(tmp_path / "epoch.ckpt")

    def search() -> LearningRateSearch:
        return LearningRateSearch(at_epochs=[1], method=RANGE, progress=False, throw=False)

    first, second = search(), search()
    make = {"configure": OPTIMIZERS["adam"]}
    trainer(callbacks=[first, Saves()]).fit(net(**make), loader())
    trainer(callbacks=[second]).fit(net(**make), loader(), ckpt_path=tmp_path / "epoch.ckpt")
    (at, one), (at_too, two) = *first.results.items(), *second.results.items()
    assert at == at_too == 10
    assert [c.loss.tolist() for c in one.curves] == [c.loss.tolist() for c in two.curves]
    assert one.lr == two.lr


# --------------------------------------------------------------------- callbacks and loggers


def everyone(folder: pathlib.Path) -> list[Any]:
    return [
        EarlyStopping("val_loss", patience=1),
        ModelCheckpoint(folder / "checkpoints", monitor="val_loss"),
        StochasticWeightAveraging(swa_lrs=1e-2),
        BackboneFinetuning(unfreeze_backbone_at_epoch=1),
        LearningRateMonitor(),
    ]


class Head(Validated):
    """As ``BackboneFinetuning`` wants it: the optimizer begins with what is not frozen."""

    def configure_optimizers(self) -> Any:
        trained = [p for p in self.parameters() if p.requires_grad]
        optimizer = torch.optim.Adam(trained, lr=self.hparams.lr)
        plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer)
        config = {"scheduler": plateau, "monitor": "val_loss"}
        return {"optimizer": optimizer, "lr_scheduler": config}


@pytest.mark.parametrize("method", [RANGE, "race"], ids=["range", "race"])
def test_callbacks_and_loggers_are_neither_triggered_nor_broken(
    method: Any, tmp_path: pathlib.Path
) -> None:
    def train(times: int) -> Any:
        folder = tmp_path / str(times)
        module = seeded(Head)
        run = trainer(
            callbacks=everyone(folder),
            logger=CSVLogger(folder),
            enable_checkpointing=True,
            enable_progress_bar=False,
            max_epochs=4,
        )
        before = everything(run, module)
        for _ in range(times):
            found = find(run, module, val_dataloaders=loader(64), method=method)
            assert found.cost.steps > 20
            assert everything(run, module) == before
            assert not folder.exists()  # nothing was logged or saved
        torch.manual_seed(3)
        run.fit(module, loader(shuffle=True), loader(64))
        logged = next(folder.rglob("metrics.csv")).read_text("utf-8")
        return of_module(module)["tensors"], run.global_step, logged

    assert train(2) == train(0)


def test_a_search_in_the_middle_does_not_wake_them_either(tmp_path: pathlib.Path) -> None:
    def train(*searches: Any) -> Any:
        folder = tmp_path / str(len(searches))
        module = seeded(Head)
        callbacks = [*searches, *everyone(folder)]
        options: dict[str, Any] = {"callbacks": callbacks, "logger": CSVLogger(folder)}
        torch.manual_seed(3)
        run = trainer(enable_checkpointing=True, max_epochs=4, **options)
        run.fit(module, loader(shuffle=True), loader(64))
        logged = next(folder.rglob("metrics.csv")).read_text("utf-8")
        return of_module(module)["tensors"], run.global_step, logged

    options = {"method": RANGE, "progress": False, "throw": False}
    search = LearningRateSearch(at_epochs=[0, 1], **options)
    assert train(search) == train()
    assert len(search.results) == 2


def test_callbacks_of_the_module_itself_are_not_called() -> None:
    calls: list[str] = []

    class Told(pl.Callback):
        def __getattribute__(self, name: str) -> Any:
            if name.startswith("on_") or name in ("setup", "teardown"):
                calls.append(name)
            return super().__getattribute__(name)

    class Brings(Net):
        def configure_callbacks(self) -> Any:
            return [Told()]

    module, train = seeded(Brings), trainer()
    find(train, module)
    assert calls == []
    train.fit(module, loader())
    assert "on_train_start" in calls


def test_logging_works_in_every_hook_and_nothing_is_logged() -> None:
    class Logs(Validated):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            self.log_dict({"a": 1.0, "b": torch.ones(())}, on_step=True, on_epoch=True)
            self.logger.experiment.add_scalar("x", 1.0, self.global_step)
            return super().training_step(batch, batch_idx)

        def on_train_batch_end(self, *_: Any) -> None:
            self.log("c", 2.0)

    module = seeded(Logs)
    train = trainer(logger=CSVLogger("never written"))
    find(train, module, val_dataloaders=loader(64), method="race")
    assert not pathlib.Path("never written").exists()
    assert dict(train.callback_metrics) == {}
    assert "log" not in vars(module)


# -------------------------------------------------------------------------- when it goes wrong


class Broken(RuntimeError):
    """What the user's own code raises in these tests."""


def breaking(place: str, error: type[BaseException], at: int) -> type[Net]:
    calls = iter(range(10_000))

    def boom(where: str) -> None:
        if where == place and next(calls) == at:
            raise error("on purpose")

    class Breaks(Validated):
        def setup(self, stage: str) -> None:
            boom("setup")

        def configure_optimizers(self) -> Any:
            boom("optimizers")
            return super().configure_optimizers()

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            boom("step")
            return super().training_step(batch, batch_idx)

        def on_after_backward(self) -> None:
            boom("backward")

        def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
            boom("data")
            return batch

        def validation_step(self, batch: Any, batch_idx: int) -> Any:
            boom("validation")
            return super().validation_step(batch, batch_idx)

    return Breaks


PLACES = {"setup": 0, "optimizers": 0, "step": 9, "backward": 9, "data": 9, "validation": 3}


@pytest.mark.parametrize("error", [Broken, KeyboardInterrupt])
@pytest.mark.parametrize("place", PLACES)
def test_everything_is_as_before_after_an_error(place: str, error: type[BaseException]) -> None:
    module, train = seeded(breaking(place, error, PLACES[place])), trainer(max_epochs=8)
    before = everything(train, module)
    with pytest.raises(error, match="on purpose"):
        find(train, module, val_dataloaders=loader(64), method="race")
    assert everything(train, module) == before
    train.fit(module, loader(), loader(64))
    assert train.global_step == 80
