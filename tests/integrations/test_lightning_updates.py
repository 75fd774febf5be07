"""The updates of a search are those of a real ``fit``: the same losses, one by one."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor, nn

import lrsearch
from lrsearch.integrations.lightning import find_lr_for
from tests.integrations.lightning_parts import Net, Recorder, loader, quiet, seeded, trainer

pytestmark = quiet

LR = 0.01


def of_search(module: Any, steps: int, make: Any = trainer, **options: Any) -> list[float]:
    """The losses of the lane at LR of a sweep over the first updates."""
    result = find_lr_for(
        make(),
        module,
        train_dataloaders=options.pop("data", None) or loader(),
        method=lrsearch.Sweep([LR, 2 * LR]),
        train_steps=steps,
        schedule="constant",
        progress=False,
        throw=False,
        **options,
    )
    return result.curves[0].loss.tolist()


def of_fit(module: Any, make: Any = trainer, data: Any = None) -> list[float]:
    recorder = Recorder()
    make(callbacks=[recorder]).fit(module, data or loader())
    assert set(recorder.lrs) == {LR}
    return recorder.losses


class DictOutput(Net):
    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return {"loss": self.loss(batch), "more": batch_idx}


class OnlyTheBatch(Net):
    def training_step(self, batch: Any) -> Any:
        return self.loss(batch)


class WithHooks(Net):
    """Every hook around an update changes what is trained."""

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        batch[0].mul_(1.0 + 0.01 * batch_idx)

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        return [batch[0] * 2.0, batch[1]]

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        return [batch[0] + 0.5, batch[1]]

    def on_before_backward(self, loss: Tensor) -> None:
        self.head.bias.data.add_(1e-3)

    def backward(self, loss: Tensor) -> None:
        (1.5 * loss).backward()

    def on_after_backward(self) -> None:
        self.head.weight.grad.mul_(0.5)

    def on_before_optimizer_step(self, optimizer: Any) -> None:
        self.backbone[0].bias.grad.add_(0.1)

    def configure_gradient_clipping(self, optimizer: Any, *_: Any, **__: Any) -> None:
        self.clip_gradients(optimizer, gradient_clip_val=0.7, gradient_clip_algorithm="norm")

    def optimizer_step(self, epoch: int, batch_idx: int, optimizer: Any, closure: Any) -> None:
        optimizer.step(closure=closure)
        self.head.weight.data.mul_(0.999)

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.head.bias.data.mul_(1.0 - 1e-3 * float(outputs["loss"]))


class CountsItsSteps(Net):
    """The loss depends on the trainer's step and on the module's own attributes."""

    seen = 0

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        self.seen += 1
        return self.loss(batch) * (1.0 + 0.1 * self.global_step) + 0.01 * self.seen


class ByHand(Net):
    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.automatic_optimization = False

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        optimizer = self.optimizers()
        optimizer.zero_grad()
        loss = self.loss(batch) * (1.0 + 0.1 * self.global_step)
        self.manual_backward(loss)
        optimizer.step()
        return loss


def sgd(module: Any) -> Any:
    return torch.optim.SGD(module.parameters(), lr=LR, momentum=0.9, weight_decay=1e-3)


def adam(module: Any) -> Any:
    return torch.optim.Adam(module.parameters(), lr=LR)


def lbfgs(module: Any) -> Any:
    return torch.optim.LBFGS(module.parameters(), lr=LR, max_iter=4)


def groups(module: Any) -> Any:
    parts = [
        {"params": module.head.parameters()},
        {"params": module.backbone.parameters(), "lr": 0.1 * LR},
    ]
    return torch.optim.AdamW(parts, lr=LR)


KINDS = {
    "sgd": lambda: Net(configure=sgd),
    "adam": lambda: Net(configure=adam),
    "groups": lambda: Net(configure=groups),
    "batchnorm": lambda: Net(configure=adam, norm=True),
    "dict": lambda: DictOutput(configure=adam),
    "only the batch": lambda: OnlyTheBatch(configure=adam),
    "hooks": lambda: WithHooks(configure=adam),
    "counts": lambda: CountsItsSteps(configure=adam),
    "by hand": lambda: ByHand(configure=adam),
}


@pytest.mark.parametrize("kind", KINDS)
def test_losses_are_those_of_fit(kind: str) -> None:
    module = seeded(KINDS[kind])
    twin = copy.deepcopy(module)
    assert of_search(module, 20) == of_fit(twin)  # two epochs


def test_of_an_optimizer_that_asks_for_the_loss_again_the_first_loss_counts() -> None:
    class First(Recorder):
        def on_before_backward(self, trainer: Any, module: Any, loss: Tensor) -> None:
            if len(self.losses) < len(self.lrs):
                self.losses.append(loss.item())

        def on_train_batch_end(self, *_: Any) -> None: ...

    recorder = First()
    trainer(callbacks=[recorder]).fit(seeded(lambda: Net(configure=lbfgs)), loader())
    assert of_search(seeded(lambda: Net(configure=lbfgs)), 20) == recorder.losses


@pytest.mark.parametrize(
    "options",
    [
        {"gradient_clip_val": 0.3},
        {"gradient_clip_val": 0.05, "gradient_clip_algorithm": "value"},
        {"precision": "bf16-mixed"},
        {"precision": "64-true"},
        {"precision": "bf16-true"},
        {"limit_train_batches": 7},
        {"overfit_batches": 3},
        {"max_epochs": -1, "max_steps": 20},
    ],
    ids=lambda options: " ".join(map(str, options.values())),
)
@pytest.mark.filterwarnings("ignore:.*You requested to overfit")  # it is asked for
def test_losses_are_those_of_fit_with_trainer_options(options: dict[str, Any]) -> None:
    def make(**more: Any) -> Any:
        return trainer(**options, **more)

    def module() -> Any:
        return seeded(lambda: Net(configure=adam))

    # Double precision needs double data; Lightning converts them by itself.
    expected = of_fit(module(), make)
    assert of_search(module(), len(expected), make) == expected
    assert len(set(expected)) > 4


@pytest.mark.parametrize("batches", [9, 10], ids=["whole", "the last update has one batch"])
def test_losses_with_accumulation_are_means_over_the_batches_of_an_update(batches: int) -> None:
    def make(**more: Any) -> Any:
        return trainer(accumulate_grad_batches=3, **more)

    def module() -> Any:
        return seeded(lambda: Net(configure=adam))

    examples = loader(16 * batches)
    each = of_fit(module(), make, examples)
    epochs = [each[:batches], each[batches:]]
    updates = [epoch[i : i + 3] for epoch in epochs for i in range(0, batches, 3)]
    found = of_search(module(), len(updates), make, data=examples)
    assert found == pytest.approx([sum(part) / len(part) for part in updates], rel=1e-6)


def test_batches_that_the_module_skips_are_skipped() -> None:
    class Skips(Net):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            return None if batch_idx % 3 == 1 else self.loss(batch)

    class Losses(Recorder):
        def on_train_batch_end(self, trainer: Any, module: Any, out: Any, *_: Any) -> None:
            self.losses += [float(out["loss"])] if out else []

    recorder = Losses()
    with pytest.warns(UserWarning, match="returned `None`"):
        trainer(callbacks=[recorder], max_epochs=1).fit(
            seeded(lambda: Skips(configure=adam)), loader()
        )
    found = of_search(seeded(lambda: Skips(configure=adam)), len(recorder.losses))
    assert found == recorder.losses


def test_a_datamodule_gives_the_batches() -> None:
    class Data(pl.LightningDataModule):
        def setup(self, stage: str) -> None:
            self.train = loader()

        def train_dataloader(self) -> Any:
            return self.train

        def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
            return [3.0 * batch[0], batch[1]]

    recorder = Recorder()
    trainer(callbacks=[recorder]).fit(seeded(lambda: Net(configure=adam)), datamodule=Data())
    held = Data()
    result = find_lr_for(
        trainer(),
        seeded(lambda: Net(configure=adam)),
        held,
        method=lrsearch.Sweep([LR, 2 * LR]),
        train_steps=20,
        progress=False,
        throw=False,
    )
    assert result.curves[0].loss.tolist() == recorder.losses
    assert not hasattr(held, "train")  # what setup made is gone: fit makes it again


def test_several_loaders_are_combined_as_fit_combines_them() -> None:
    class Two(Net):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            return self.loss(batch["a"]) + self.loss(batch["b"])

    both = {"a": loader(160), "b": loader(96)}
    module = seeded(lambda: Two(configure=adam))
    assert of_search(module, 20, data=both) == of_fit(copy.deepcopy(module), data=both)


def test_modes_are_those_that_fit_would_train_in() -> None:
    def frozen() -> Net:
        module = seeded(lambda: Net(configure=adam, norm=True))
        module.backbone[1].eval()
        return module

    with pytest.warns(UserWarning, match="eval mode"):
        expected = of_fit(frozen())
    assert of_search(frozen(), 20) == expected


def test_layers_made_in_setup_and_configure_model_are_trained_and_gone_afterwards() -> None:
    class Late(Net):
        def setup(self, stage: str) -> None:
            torch.manual_seed(5)
            self.head = nn.Linear(16, 1)

        def configure_model(self) -> None:
            torch.manual_seed(6)
            self.backbone = nn.Sequential(nn.Linear(8, 16), nn.Tanh())

    module = seeded(lambda: Late(configure=adam))
    head, backbone = module.head, module.backbone
    found = of_search(module, 20)
    assert module.head is head
    assert module.backbone is backbone
    assert found == of_fit(module)


class Guarded(Net):
    """Its loss raises where the outputs are too large, as those that check their arguments do."""

    def loss(self, batch: Any) -> Tensor:
        if not self(batch[0]).abs().max() < 1e3:
            raise ValueError("the outputs are too large for this loss")
        return super().loss(batch)


def test_a_step_that_raises_where_training_diverged_ends_the_trial_only() -> None:
    module = seeded(Guarded)
    result = find_lr_for(
        trainer(),
        module,
        train_dataloaders=loader(),
        method=lrsearch.Sweep([LR, 1e5]),
        train_steps=40,
        schedule="constant",
        progress=False,
        throw=False,
    )
    fine, broken, _ = result.curves
    assert len(fine) == 40
    assert not torch.isfinite(torch.tensor(broken.loss[-1]))
    assert result.lr == LR


def test_a_step_that_raises_at_any_weights_is_the_users() -> None:
    class Raising(Net):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            if batch_idx == 4:
                raise ValueError("mine")
            return self.loss(batch)

    with pytest.raises(ValueError, match="mine"):
        of_search(seeded(Raising), 10)
