"""What must be true of a trainer before anything is touched."""

from __future__ import annotations

from collections.abc import Sized

from transformers import Trainer
from transformers.training_args import OptimizerNames

from lrsearch.errors import InvalidArgument, Words

__all__ = ["check_trainer"]

_ALONE = (
    "Search without it, or with fewer layers of the model, and set args.learning_rate; or use "
    "lrsearch.search with a trainable of your own."
)
# Their updates happen inside the backward pass, layer by layer.
_IN_BACKWARD = ("lomo", "adalomo", "layerwise")


def check_trainer(trainer: Trainer) -> None:
    """Raise if the trainer's training cannot be searched.

    Raises:
        InvalidArgument: not a ``transformers.Trainer``; no training data, or none whose planned
            length is known; a way of sharding the model that cannot be undone; an optimizer
            that updates in the backward pass.
    """
    if not isinstance(trainer, Trainer):
        raise InvalidArgument.of("trainer", trainer, "a transformers.Trainer")
    _check_strategy(trainer)
    _check_data(trainer)
    name = OptimizerNames(trainer.args.optim).value
    if trainer.optimizer is None and any(word in name for word in _IN_BACKWARD):
        raise InvalidArgument.of(
            "args.optim",
            name,
            "an optimizer with a step of its own",
            f"{name} updates inside the backward pass; search with its plain version.",
        )


def _check_strategy(trainer: Trainer) -> None:
    strategies = {
        "DeepSpeed": trainer.is_deepspeed_enabled,
        "FSDP": trainer.is_fsdp_enabled or bool(trainer.args.fsdp),
        "a TPU": str(trainer.accelerator.distributed_type.value) in ("XLA", "TPU"),
    }
    for name, used in strategies.items():
        if used:
            got, expected = Words(f"a Trainer with {name}"), "whole copies of the model"
            raise InvalidArgument.of("trainer", got, expected, _ALONE)


def _check_data(trainer: Trainer) -> None:
    data = trainer.train_dataset
    if data is None and type(trainer).get_train_dataloader is Trainer.get_train_dataloader:
        raise InvalidArgument.of(
            "trainer.train_dataset", None, "training data", "Pass train_dataset to the Trainer."
        )
    if isinstance(data, Sized) and len(data) == 0:
        raise InvalidArgument.of("trainer.train_dataset", Words("no examples"), "at least one")
    if data is not None and not isinstance(data, Sized) and trainer.args.max_steps <= 0:
        raise InvalidArgument.of(
            "args.max_steps",
            trainer.args.max_steps,
            "a positive number, since the training data have no length",
            "It is the length of the planned run.",
        )
