"""Trainers that cannot be searched: one error each, before anything is touched."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from accelerate.utils import DistributedType
from torch.utils.data import IterableDataset
from transformers import Trainer

import lrsearch.integrations.transformers as hf
from lrsearch import InvalidArgument
from lrsearch.integrations.transformers.names import RELIED_ON
from tests.integrations.test_transformers import During, fingerprint
from tests.integrations.tiny_trainers import bert, make_trainer, texts


class Endless(IterableDataset[Any]):
    def __iter__(self) -> Iterator[Any]:
        while True:
            yield from texts(8)


class TrainsOtherwise(Trainer):
    def train(self, *args: Any, **kwargs: Any) -> None:
        """Train in a way of its own."""


def frozen(trainer: Trainer) -> None:
    trainer.model.requires_grad_(False)


def of_another_model(trainer: Trainer) -> None:
    trainer.optimizer = torch.optim.SGD(bert().parameters(), lr=0.1)


def put(**attributes: Any) -> Any:
    def change(trainer: Trainer) -> None:
        for path, value in attributes.items():
            *owners, name = path.split("__")
            owner: Any = trainer
            for part in owners:
                owner = getattr(owner, part)
            setattr(owner, name, value)

    return change


CASES: dict[str, tuple[Any, str]] = {
    "no training data": (put(train_dataset=None), "train_dataset: got None.*Pass train_dataset"),
    "empty training data": (put(train_dataset=texts(0)), "train_dataset: got no examples"),
    "no length": (put(train_dataset=Endless(), args__max_steps=-1), "args.max_steps: got -1"),
    "no updates": (put(args__max_steps=-1, args__num_train_epochs=0), "updates to plan for"),
    "DeepSpeed": (put(is_deepspeed_enabled=True), "a Trainer with DeepSpeed.*set args.learning"),
    "FSDP": (put(is_fsdp_enabled=True), "a Trainer with FSDP"),
    "layerwise": (put(args__optim="galore_adamw_layerwise"), "updates inside the backward pass"),
    "everything frozen": (frozen, "without trainable parameters.*Is everything frozen"),
    "of another model": (of_another_model, "holds none of the model's trainable parameters"),
    "a rate of zero": (put(args__learning_rate=0.0), "'lr'.: got 0.0"),
}


@pytest.mark.parametrize(("change", "message"), CASES.values(), ids=CASES)
def test_what_cannot_be_searched_is_told_and_nothing_is_touched(
    change: Any, message: str, tmp_path: Path
) -> None:
    trainer = make_trainer(tmp_path)
    change(trainer)
    before = fingerprint(trainer)
    with pytest.raises(InvalidArgument, match=re.compile(message, re.DOTALL)):
        hf.find_lr_for(trainer, progress=False)
    assert fingerprint(trainer) == before


def test_a_tpu_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = make_trainer(tmp_path)
    kind = type(trainer.accelerator)
    monkeypatch.setattr(kind, "distributed_type", property(lambda self: DistributedType.XLA))
    with pytest.raises(InvalidArgument, match="a Trainer with a TPU"):
        hf.find_lr_for(trainer)


@pytest.mark.parametrize("thing", [None, torch.nn.Linear(1, 1), "trainer", SimpleNamespace()])
def test_what_is_no_trainer_is_refused(thing: Any) -> None:
    with pytest.raises(InvalidArgument, match=r"trainer: got .*, expected a transformers.Trainer"):
        hf.find_lr_for(thing)


def test_a_train_of_its_own_is_refused(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, cls=TrainsOtherwise)
    before = fingerprint(trainer)
    with pytest.raises(InvalidArgument, match="whose train\\(\\) never calls on_train_begin"):
        hf.find_lr_for(trainer)
    assert fingerprint(trainer) == before


def test_a_training_that_is_over_has_no_planned_run(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, max_steps=3)
    trainer.add_callback(During(3, lambda: hf.find_lr_for(trainer, progress=False)))
    with pytest.raises(InvalidArgument, match=r"a training that is over .3 of 3 updates."):
        trainer.train()


def test_evaluation_data_without_labels_are_told(tmp_path: Path) -> None:
    data = texts(6)
    del data.columns["labels"]
    trainer = make_trainer(tmp_path, trainer_options={"eval_dataset": data})
    with pytest.raises(InvalidArgument, match=r"eval_dataset: got no loss.*labels"):
        hf.find_lr_for(trainer, progress=False)


@pytest.mark.parametrize("method", ["range", "ladder"])
def test_only_a_race_has_a_budget(method: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match="budget"):
        hf.find_lr_for(make_trainer(tmp_path), method=method, budget=0.5)


def test_an_endless_stream_with_a_planned_length_can_be_searched(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, trainer_options={"train_dataset": Endless()}, held_out=0)
    result = hf.find_lr_for(trainer, method="range", progress=False, throw=False)
    assert result.settings["train_steps"] == 20


# --------------------------------------------------------------------- what others may take away


@pytest.mark.parametrize("owner", RELIED_ON)
def test_what_is_relied_on_beyond_the_documentation_is_there(owner: str, tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path)
    trainer.train()
    objects = {
        "Trainer": trainer,
        "CallbackHandler": trainer.callback_handler,
        "TrainerState": trainer.state,
        "Accelerator": trainer.accelerator,
        "AcceleratedOptimizer": trainer.optimizer,
        "DataLoaderShard": trainer.get_train_dataloader(),
    }
    assert [name for name in RELIED_ON[owner] if not hasattr(objects[owner], name)] == []


def test_nothing_private_is_used() -> None:
    used = {}
    for path in Path(hf.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if not isinstance(node, ast.Attribute) or not node.attr.startswith("_"):
                continue
            if not (isinstance(node.value, ast.Name) and node.value.id == "self"):
                used[f"{path.name}:{node.lineno}"] = node.attr
    assert {name for name in used.values() if not name.startswith("__")} == set()
