"""``find_lr_for``, applying its answer, and what it refuses, with real Lightning trainers."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import nn
from torch.optim import lr_scheduler
from torch.utils.data import DataLoader, IterableDataset

import lrsearch
from lrsearch.core.evidence import BASELINE_LR
from lrsearch.errors import InvalidArgument, NoLearningRateFound
from lrsearch.integrations.lightning import LearningRateSearch, apply_result, find_lr_for
from lrsearch.integrations.lightning.package import PRIVATE
from lrsearch.integrations.lightning.plan import planned_run
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


def find(train: Any, module: Any, **options: Any) -> lrsearch.Result:
    options.setdefault("train_dataloaders", loader())
    return find_lr_for(train, module, **{"method": RANGE, "progress": False, **options})


# ------------------------------------------------------------------------------- two packages


@pytest.mark.parametrize("name", ["pytorch_lightning", "lightning.pytorch"])
def test_both_packages_work_and_agree(name: str) -> None:
    package = pytest.importorskip(name)

    class Module(package.LightningModule):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.net = nn.Linear(8, 1)

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            loss = nn.functional.mse_loss(self.net(batch[0]), batch[1])
            self.log("loss", loss)
            return loss

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), lr=0.1)

    module = seeded(Module)
    search = LearningRateSearch(method=RANGE, progress=False)
    train = trainer(package, callbacks=[search])
    found = find(train, module)
    train.fit(module, loader())
    assert found.lr == search.results[0].lr == pytest.approx(0.0235, rel=0.5)


def test_the_packages_are_not_mixed() -> None:
    other = pytest.importorskip("lightning.pytorch")
    with pytest.raises(InvalidArgument, match=r"one of lightning\.pytorch, as the trainer"):
        find(trainer(other), Net())


@pytest.mark.parametrize("path", PRIVATE)
@pytest.mark.parametrize("name", ["pytorch_lightning", "lightning.pytorch"])
def test_the_private_attributes_that_are_relied_on_exist(name: str, path: str) -> None:
    package = pytest.importorskip(name)
    root, _, rest = path.partition(".")
    if root == "trainer":
        train = trainer(package)
        train.strategy.connect(package.LightningModule())
        value: Any = train
        for part in rest.split("."):
            assert hasattr(value, part), f"{part} of {path}"
            value = getattr(value, part)
    else:
        module, _, names = path.rpartition(".")
        if module.endswith("CombinedLoader"):
            module, names = module.rpartition(".")[0], f"CombinedLoader.{names}"
        value = __import__(f"{name}.{module}", fromlist=["x"])
        for part in names.split("."):
            assert hasattr(value, part), f"{part} of {path}"
            value = getattr(value, part)


# ------------------------------------------------------------------------------ the planned run

SCHEDULERS: dict[str, Callable[[Any], Any]] = {
    "one cycle": lambda o: lr_scheduler.OneCycleLR(o, max_lr=0.2, total_steps=40),
    "cosine": lambda o: lr_scheduler.CosineAnnealingLR(o, 40),
    "linear": lambda o: lr_scheduler.LinearLR(o, 1.0, 0.1, 40),
    "lambda": lambda o: lr_scheduler.LambdaLR(o, lambda step: min(1.0, (step + 1) / 9)),
    "step": lambda o: lr_scheduler.StepLR(o, 7, 0.5),
    "exponential": lambda o: lr_scheduler.ExponentialLR(o, 0.95),
    "warm restarts": lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, 9),
    "cyclic": lambda o: lr_scheduler.CyclicLR(o, 0.01, 0.1, 6, cycle_momentum=False),
    "sequential": lambda o: lr_scheduler.SequentialLR(
        o, [lr_scheduler.ConstantLR(o, 0.1, 5), lr_scheduler.CosineAnnealingLR(o, 35)], [5]
    ),
    "chained": lambda o: lr_scheduler.ChainedScheduler(
        [lr_scheduler.LinearLR(o, 0.3, 1.0, 9), lr_scheduler.ExponentialLR(o, 0.98)]
    ),
}


def scheduled(make: Callable[[Any], Any], interval: str, frequency: int = 1) -> Any:
    def configure(module: Any) -> Any:
        optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
        config = {"scheduler": make(optimizer), "interval": interval, "frequency": frequency}
        return {"optimizer": optimizer, "lr_scheduler": config}

    return configure


class Plans(pl.Callback):  # type: ignore[misc]
    """Reads the planned run at one update of a real run."""

    def __init__(self, at: int = 0) -> None:
        self.at = at
        self.plan: Any = None

    def on_train_batch_start(self, trainer: Any, module: Any, *_: Any) -> None:
        if trainer.global_step == self.at and self.plan is None:
            self.plan = planned_run(trainer, trainer.optimizers[0])


@pytest.mark.parametrize("at", [0, 13])
@pytest.mark.parametrize("interval", ["step", "epoch"])
@pytest.mark.parametrize("name", SCHEDULERS)
def test_the_planned_schedule_is_what_fit_does(name: str, interval: str, at: int) -> None:
    if name == "one cycle" and interval == "epoch":
        pytest.skip("Lightning warns that nobody means this")
    plans, recorder = Plans(at), Recorder()
    module = seeded(lambda: Net(configure=scheduled(SCHEDULERS[name], interval)))
    trainer(max_epochs=4, callbacks=[plans, recorder]).fit(module, loader())
    ahead = recorder.lrs[at:]
    assert plans.plan.steps == len(ahead) == 40 - at
    assert plans.plan.lr == pytest.approx(max(ahead))
    shape = [plans.plan.schedule(step, len(ahead)) for step in range(len(ahead))]
    assert [value * max(ahead) for value in shape] == pytest.approx(ahead, rel=1e-9)


def test_the_plan_counts_updates_and_reads_frequencies() -> None:
    plans, recorder = Plans(), Recorder()
    configure = scheduled(SCHEDULERS["step"], "step", frequency=2)
    options = {"max_epochs": 3, "accumulate_grad_batches": 2, "limit_train_batches": 9}
    trainer(callbacks=[plans, recorder], **options).fit(
        seeded(lambda: Net(configure=configure)), loader()
    )
    first = [lr for i, lr in enumerate(recorder.lrs) if i % 9 % 2 == 0]
    assert plans.plan.steps == len(first) == 15
    shape = [plans.plan.schedule(step, 15) * plans.plan.lr for step in range(15)]
    assert shape == pytest.approx(first)


@pytest.mark.parametrize(
    ("options", "steps"),
    [
        ({"max_epochs": 3}, 30),
        ({"max_epochs": -1, "max_steps": 17}, 17),
        ({"max_epochs": 3, "max_steps": 17}, 17),
        ({"max_epochs": 3, "accumulate_grad_batches": 4}, 9),
        ({"max_epochs": -1}, None),
    ],
    ids=str,
)
def test_the_length_comes_from_the_trainer(options: dict[str, Any], steps: int | None) -> None:
    found = find(trainer(**options), seeded(Net))
    assert found.settings["train_steps"] == steps


@pytest.mark.filterwarnings("ignore:`max_epochs` was not set")  # the case tested
def test_without_a_length_there_is_a_range_test_and_with_one_a_race() -> None:
    open_end = find(trainer(max_epochs=None), seeded(Net), method="auto")
    assert (open_end.settings["method"], open_end.settings["train_steps"]) == ("range", None)
    planned = find(trainer(max_epochs=8), seeded(Net), method="auto")
    assert (planned.settings["method"], planned.settings["train_steps"]) == ("race", 80)


def test_the_modules_schedule_is_run_and_its_validation_ranks() -> None:
    configure = scheduled(SCHEDULERS["cosine"], "step")
    module = seeded(lambda: Validated(configure=configure))
    data = {"train_dataloaders": loader(), "val_dataloaders": loader(64)}
    method = lrsearch.Sweep([0.01, 0.02])
    found = find(trainer(max_epochs=4), module, method=method, throw=False, **data)
    assert found.settings["schedule"] == "CosineAnnealingLR over 40 updates"
    cosine = [0.5 * (1 + math.cos(math.pi * step / 40)) for step in range(40)]
    for curve, lr in zip(found.curves, (0.01, 0.02, BASELINE_LR), strict=True):
        assert curve.lr.tolist() == pytest.approx([lr * value for value in cosine])
        assert [made for made, _ in curve.evaluations] == [40]


@pytest.mark.parametrize("kind", ["returned", "in a dictionary", "logged under another name"])
def test_the_held_out_loss_is_what_the_validation_says(kind: str) -> None:
    class Says(Validated):
        def validation_step(self, batch: Any, batch_idx: int) -> Any:
            loss = self.loss(batch)
            if kind == "logged under another name":
                self.log("error", loss)
                return None
            return loss if kind == "returned" else {"loss": loss}

    def evaluated(module: Any, **options: Any) -> Any:
        data = {"train_dataloaders": loader(), "val_dataloaders": loader(72)}
        found = find(
            trainer(), module, method=lrsearch.Sweep([0.01, 0.02]), throw=False, **data, **options
        )
        return [curve.evaluations for curve in found.curves]

    options = {"monitor": "error"} if kind == "logged under another name" else {}
    assert evaluated(seeded(Says), **options) == evaluated(seeded(Validated))
    run = trainer(callbacks=[])
    module = seeded(lambda: Validated(lr=0.01))
    run.fit(module, loader(), loader(72))
    at_end = evaluated(seeded(lambda: Validated(lr=0.01)))[0][-1][1]
    assert at_end == pytest.approx(float(run.callback_metrics["val_loss"]), rel=1e-5)


def test_a_validation_without_a_loss_names_the_way_out() -> None:
    class Mute(Validated):
        def validation_step(self, batch: Any, batch_idx: int) -> None:
            self.log("accuracy", 1.0)

    data = {"train_dataloaders": loader(), "val_dataloaders": loader(64)}
    with pytest.raises(InvalidArgument, match=r"monitor.*\['accuracy'\].*validate=False"):
        find(trainer(), seeded(Mute), **data)
    assert find(trainer(), seeded(Mute), **data, validate=False).cost.evaluations == 0


# -------------------------------------------------------------------------------------- apply


def test_nothing_is_applied_unasked() -> None:
    module = seeded(Net)
    find(trainer(), module)
    assert module.hparams.lr == 1e-3


@pytest.mark.parametrize("stored", [False, True], ids=["at once", "from JSON"])
def test_the_answer_is_applied_to_the_hyperparameter_and_trained_with(
    stored: bool, tmp_path: Any
) -> None:
    module, recorder = seeded(Net), Recorder()
    train = trainer(callbacks=[recorder])
    found = find(train, module)
    if stored:
        found.to_json(tmp_path / "found.json")
        found = lrsearch.Result.from_json(tmp_path / "found.json")
    found.apply(module)
    train.fit(module, loader())
    assert set(recorder.lrs) == {found.lr}


def test_an_attribute_is_applied_to_as_the_optimizer_uses_it() -> None:
    class TenTimes(Net):
        """Its backbone, which is the first group, learns at a tenth of ``learning_rate``."""

        def __init__(self) -> None:
            super().__init__()
            self.learning_rate = 0.01

        def configure_optimizers(self) -> Any:
            lr = self.learning_rate
            parts = [(self.backbone, 0.1 * lr), (self.head, lr)]
            return torch.optim.Adam([{"params": p.parameters(), "lr": v} for p, v in parts])

    module = seeded(TenTimes)
    train = trainer()
    found = find(train, module)
    apply_result(found, module, name="learning_rate")
    train.fit(module, loader())
    groups = train.optimizers[0].param_groups
    assert found.multipliers == pytest.approx((1.0, 10.0))
    assert [g["lr"] for g in groups] == pytest.approx([found.lr, 10.0 * found.lr])
    assert module.hparams.lr == 1e-3


def test_the_peak_of_one_cycle_becomes_the_answer() -> None:
    class Cycle(Net):
        def configure_optimizers(self) -> Any:
            optimizer = torch.optim.Adam(self.parameters())
            total = self.trainer.estimated_stepping_batches
            cycle = lr_scheduler.OneCycleLR(optimizer, self.hparams.lr, total_steps=int(total))
            return [optimizer], [{"scheduler": cycle, "interval": "step"}]

    module, recorder = seeded(Cycle), Recorder()
    train = trainer(callbacks=[recorder], max_epochs=4)
    found = find(train, module, method="race")
    found.apply(module)
    train.fit(module, loader())
    assert max(recorder.lrs) == pytest.approx(found.lr, rel=1e-3)


@pytest.mark.parametrize("name", ["one cycle", "cosine", "cyclic", "sequential", "step"])
def test_in_the_middle_optimizer_scheduler_and_hyperparameter_follow(name: str) -> None:
    search = LearningRateSearch(
        [5], at_epochs=(), apply=True, method=RANGE, progress=False, throw=False
    )
    plain, changed, after = Recorder(), Recorder(), Plans(5)
    configure = scheduled(SCHEDULERS[name], "step")
    trainer(max_epochs=4, callbacks=[plain]).fit(seeded(lambda: Net(configure=configure)), loader())
    module = seeded(lambda: Net(configure=configure))
    trainer(max_epochs=4, callbacks=[search, after, changed]).fit(module, loader())
    found = search.results[5]
    assert found.status.found, found.why
    assert changed.lrs[:5] == plain.lrs[:5]
    factor = found.lr / max(plain.lrs[5:])
    assert changed.lrs[5:] == pytest.approx([lr * factor for lr in plain.lrs[5:]], rel=1e-6)
    group = module.trainer.optimizers[0].param_groups[0]
    assert max(changed.lrs[5:]) == pytest.approx(found.lr)
    assert group["initial_lr"] == pytest.approx(0.1 * factor) or name in ("one cycle", "cyclic")
    assert module.hparams.lr == pytest.approx(found.lr * 1e-3 / max(plain.lrs[5:]))


def test_applying_without_a_place_names_the_way_out() -> None:
    class Fixed(pl.LightningModule):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.net, self.rate = nn.Linear(8, 1), 0.1

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            return nn.functional.mse_loss(self.net(batch[0]), batch[1])

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), lr=self.rate)

    module = seeded(Fixed)
    found = find(trainer(), module)
    with pytest.raises(InvalidArgument, match=r"without lr or learning_rate.*name=\.\.\."):
        found.apply(module)
    apply_result(found, module, name="rate")
    assert module.rate == found.lr


def test_a_search_without_an_answer_raises_and_applies_nothing() -> None:
    module = seeded(lambda: Net(configure=lambda m: torch.optim.SGD(m.parameters(), lr=0.1)))
    method = lrsearch.RangeTest(steps=20, min_lr=1e-9, max_lr=1e-8)
    with pytest.raises(NoLearningRateFound) as caught:
        find(trainer(), module, method=method)
    with pytest.raises(NoLearningRateFound):
        caught.value.result.apply(module)
    assert module.hparams.lr == 1e-3


# --------------------------------------------------------------------------- several optimizers


class Two(Net):
    """A head and a backbone with an optimizer each, trained by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        for optimizer in self.optimizers():
            optimizer.zero_grad()
        loss = self.loss(batch)
        self.manual_backward(loss)
        for optimizer in self.optimizers():
            optimizer.step()
        return loss

    def configure_optimizers(self) -> Any:
        return [
            torch.optim.SGD(self.head.parameters(), lr=0.01),
            torch.optim.Adam(self.backbone.parameters(), lr=0.01),
        ]


@pytest.mark.parametrize("name", [1, "Adam"])
def test_of_several_optimizers_the_one_named_is_searched(name: Any) -> None:
    module, recorder = seeded(Two), Recorder()
    trainer(callbacks=[recorder]).fit(seeded(Two), loader())
    found = find(
        trainer(), module, optimizer=name, method=lrsearch.Sweep([0.01, 0.02]), train_steps=20
    )
    assert found.curves[0].loss.tolist() == recorder.losses  # the other one trained at its own lr
    with pytest.raises(InvalidArgument, match=r"0 \(SGD\), 1 \(Adam\)"):
        find(trainer(), module)
    with pytest.raises(InvalidArgument, match="got 'RMSprop'"):
        find(trainer(), module, optimizer="RMSprop")


def test_by_hand_an_update_without_a_loss_names_the_way_out() -> None:
    class Silent(Two):
        def training_step(self, batch: Any, batch_idx: int) -> None:
            super().training_step(batch, batch_idx)

    with pytest.raises(InvalidArgument, match=r"manual optimization.*Return it"):
        find(trainer(), seeded(Silent), optimizer=0)


def test_by_hand_accumulated_batches_make_one_update() -> None:
    class EveryOther(Two):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            loss = self.loss(batch)
            self.manual_backward(0.5 * loss)
            if batch_idx % 2:
                for optimizer in self.optimizers():
                    optimizer.step()
                    optimizer.zero_grad()
            return loss

    recorder = Recorder()
    trainer(callbacks=[recorder]).fit(seeded(EveryOther), loader())
    method = lrsearch.Sweep([0.01, 0.02])
    options = {"method": method, "train_steps": 10, "throw": False}
    found = find(trainer(), seeded(EveryOther), optimizer=0, **options)
    pairs = [sum(recorder.losses[i : i + 2]) / 2 for i in range(0, 20, 2)]
    assert found.curves[0].loss.tolist() == pytest.approx(pairs, rel=1e-6)


# ----------------------------------------------------------------------------------- bad input


class Stream(IterableDataset[Any]):
    def __iter__(self) -> Any:
        return iter(loader().dataset)


def endless() -> DataLoader[Any]:
    return DataLoader(Stream(), batch_size=16)


def test_data_of_unknown_length_need_a_planned_length() -> None:
    module = seeded(Net)
    with pytest.raises(InvalidArgument, match=r"unknown length.*train_steps.*method='range'"):
        find(trainer(), module, train_dataloaders=endless(), method="auto")
    for options, steps in (({"train_steps": 40}, 40), ({}, 50)):
        train = trainer(max_epochs=-1, max_steps=50)
        data = {"train_dataloaders": endless(), "throw": False}
        found = find(train, module, method="race", **data, **options)
        assert found.settings["train_steps"] == steps
    assert find(trainer(), module, train_dataloaders=endless()).status.found


@pytest.mark.filterwarnings("ignore:Total length of")  # Lightning's own word on no batches
@pytest.mark.parametrize(
    ("module", "options", "message"),
    [
        (Net, {"train_dataloaders": loader(0)}, "no training batches"),
        (Net, {"train_dataloaders": []}, "no training batches"),
        (lambda: Net(configure=lambda _: None), {}, "no optimizer from Net"),
        (lambda: nn.Linear(1, 1), {}, "a LightningModule"),
        (Net, {"optimizer": 3}, r"got 3.*0 \(Adam\)"),
        (Net, {"method": "newton"}, "method: got 'newton'"),
        (Net, {"train_steps": -1, "method": "race"}, "train_steps"),
    ],
    ids=["empty", "no batches", "None", "module", "which", "method", "steps"],
)
def test_bad_input_is_refused_before_anything_is_trained(
    module: Any, options: dict[str, Any], message: str
) -> None:
    steps: list[int] = []
    made = seeded(module)
    if isinstance(made, Net):
        made.register_forward_hook(lambda *_: steps.append(1))
    before = [p.detach().clone() for p in made.parameters()]
    with pytest.raises(InvalidArgument, match=message):
        find(trainer(), made, **options)
    assert steps == []
    assert all(torch.equal(a, b) for a, b in zip(before, made.parameters(), strict=True))


def test_a_module_without_optimizers_or_a_thing_that_is_no_trainer_is_refused() -> None:
    class Bare(pl.LightningModule):  # type: ignore[misc]
        pass

    with pytest.raises(InvalidArgument, match="no optimizer from Bare"):
        find(trainer(), Bare())
    with pytest.raises(InvalidArgument, match="a Lightning Trainer"):
        find(object(), Net())


def test_strategies_that_cannot_be_searched_are_refused() -> None:
    from pytorch_lightning.strategies import DDPStrategy, FSDPStrategy, SingleDeviceStrategy

    class DeepSpeedStrategy(SingleDeviceStrategy):
        """Stands for Lightning's own, which needs the deepspeed package to be made."""

    class SingleDeviceXLAStrategy(SingleDeviceStrategy):
        """Stands for Lightning's own, which needs torch_xla to be made."""

    for kind in (DeepSpeedStrategy, SingleDeviceXLAStrategy):
        train = trainer(strategy=kind(device=torch.device("cpu")))
        with pytest.raises(InvalidArgument, match=rf"{kind.__name__}.*devices=1"):
            find(train, Net())
    train = trainer()
    train._accelerator_connector.strategy = FSDPStrategy.__new__(FSDPStrategy)
    with pytest.raises(InvalidArgument, match=r"FSDPStrategy.*shards the parameters"):
        find(train, Net())
    spawning = trainer(strategy=DDPStrategy(start_method="spawn"), devices=2)
    with pytest.raises(InvalidArgument, match="strategy='ddp'"):
        find(spawning, Net())


def test_a_module_that_sets_the_learning_rate_itself_is_told_how_else() -> None:
    class Warms(Net):
        def optimizer_step(self, epoch: int, i: int, optimizer: Any, closure: Any) -> None:
            for group in optimizer.param_groups:
                group["lr"] = 1e-3 * min(1.0, (self.global_step + 1) / 100)
            optimizer.step(closure=closure)

    with pytest.raises(InvalidArgument, match=r"optimizer_step.*Return a scheduler"):
        find(trainer(), seeded(Warms))


def test_a_search_without_an_answer_does_not_end_the_training(caplog: Any) -> None:
    method = lrsearch.RangeTest(steps=20, min_lr=1e-9, max_lr=1e-8)
    search = LearningRateSearch([3], at_epochs=[], method=method, apply=True, progress=False)
    train = trainer(callbacks=[search])
    train.fit(seeded(Net), loader())
    assert train.global_step == 20
    assert not search.results[3].status.found
    assert "no learning rate found before update 3" in caplog.text
    assert train.optimizers[0].param_groups[0]["lr"] == 1e-3


def test_the_callback_refuses_negative_times() -> None:
    with pytest.raises(InvalidArgument, match="at_steps"):
        LearningRateSearch([-1])
