"""``find_lr_for``: the trainer's own training, searched, and everything put back."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from torch.optim.lr_scheduler import LRScheduler

from lrsearch.core.interrupt import interruptible
from lrsearch.core.one_search import one_search
from lrsearch.core.schedule import Shape
from lrsearch.core.search import Method
from lrsearch.errors import InvalidArgument, NoLearningRateFound
from lrsearch.find import check_options, search
from lrsearch.integrations.transformers.beginning import begin_training
from lrsearch.integrations.transformers.checks import check_trainer
from lrsearch.integrations.transformers.kept import left_as_it_was
from lrsearch.integrations.transformers.planned import planned_run
from lrsearch.integrations.transformers.trainable import trainer_trainable
from lrsearch.methods.race import Race
from lrsearch.pytorch.checks import check_outside_inference_mode
from lrsearch.pytorch.distributed import ranks_of
from lrsearch.result import Result

if TYPE_CHECKING:
    from transformers import Trainer

__all__ = ["find_lr_for"]


def find_lr_for(
    trainer: Trainer,
    *,
    method: str | Method = "auto",
    budget: float | None = None,
    train_steps: int | None = None,
    schedule: str | Shape | Sequence[float] | LRScheduler | None = None,
    warmup_steps: float | None = None,
    stateful: Sequence[Any] = (),
    seed: int | None = None,
    progress: bool = True,
    throw: bool = True,
) -> Result:
    """Find the learning rate for ``trainer.train()``.

    The trainer's own code makes every update: its ``training_step`` and ``compute_loss``, data
    loader and collator, gradient accumulation and clipping, mixed precision, optimizer. The
    planned run is what ``train()`` would do: ``max_steps`` or the epochs, and the schedule with
    its warmup. Candidates are ranked by the loss on ``eval_dataset`` when there is one.

    Afterwards the trainer is as before, and ``train()`` gives the losses that it would have
    given. Callbacks do not notice. Nothing is applied: use ``result.apply(trainer)``.

    Args:
        trainer: before ``train()``, between two of them, or inside one (from a callback): then
            the planned run is the rest of it.
        method: as in :func:`lrsearch.find_lr`; ``"auto"`` is a race.
        budget: optimizer updates that a race may spend, in planned runs; 1 when not given.
        train_steps: length of the planned run, instead of the trainer's.
        schedule, warmup_steps: shape of the planned run's learning rate, instead of the
            trainer's; as in :func:`lrsearch.find_lr`.
        stateful: what else an update changes, as in :func:`lrsearch.find_lr`. What a subclass of
            the trainer holds (a loss, counters) is put back unasked.
        seed: seed of data order and dropout; that of the trainer when not given, so that the
            batches come in the order of the planned run.
        progress: show live progress on standard error.
        throw: raise when there is no answer; otherwise return the result with its status.

    Returns:
        The result; ``result.lr`` is the highest learning rate of the run, which is what
        ``args.learning_rate`` should be where the schedule reaches its base.

    Raises:
        InvalidArgument: the trainer cannot be searched; the message says why, and what to do.
        NoLearningRateFound: the search has no answer and ``throw`` is true.

    Example:
        >>> import tempfile, torch, transformers
        >>> class Line(torch.nn.Linear):
        ...     def forward(self, x, y):
        ...         return {"loss": (super().forward(x) - y).square().mean()}
        >>> arguments = transformers.TrainingArguments(
        ...     tempfile.mkdtemp(), max_steps=100, use_cpu=True, dataloader_pin_memory=False
        ... )
        >>> rows = [{"x": x, "y": x.sum(0, keepdim=True)} for x in torch.randn(64, 3)]
        >>> trainer = transformers.Trainer(Line(3, 1), arguments, train_dataset=rows)
        >>> result = find_lr_for(trainer, method="range", progress=False)
        >>> result.status.name
        'FOUND'
        >>> result.apply(trainer)
        >>> trainer.args.learning_rate == result.lr
        True
    """
    check_outside_inference_mode()
    check_trainer(trainer)
    usual = check_options(
        method,
        train_steps=train_steps,
        seed=trainer.args.seed if seed is None else seed,
        progress=progress,
        throw=throw,
    )
    chosen = _with_budget(method, budget)
    train_steps, seed = usual["train_steps"], usual["seed"]
    with one_search(ready=False), interruptible(), left_as_it_was(trainer):
        if not trainer.is_in_train:
            begin_training(trainer)
        plan = planned_run(trainer)
        with ranks_of(trainer.model_wrapped) as ranks:
            ranks.check_same(method=chosen, train_steps=train_steps, schedule=schedule, seed=seed)
            found = search(
                trainer_trainable(trainer, seed=seed, stateful=stateful, ranks=ranks),
                method=chosen,
                train_steps=plan.steps if train_steps is None else train_steps,
                schedule=plan.schedule if schedule is None else schedule,
                warmup_steps=warmup_steps,
                seed=seed,
                progress=progress,
                throw=False,
            )
    settings = {**found.settings, "peak_over_base": plan.over_base}
    result = dataclasses.replace(found, settings=settings)
    if throw and not result.status.found:
        raise NoLearningRateFound(result.why, result)
    return result


def _with_budget(method: str | Method, budget: float | None) -> str | Method:
    if budget is None:
        return method
    if not isinstance(method, str) or method not in ("auto", "race"):
        raise InvalidArgument.of(
            "budget", budget, "None unless method is 'race'", "Other methods say what they cost."
        )
    return Race(budget=budget)
