"""``find_lr_for``: the learning rate of a Lightning module in its trainer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch.optim.lr_scheduler import LRScheduler

from lrsearch.core.interrupt import interruptible
from lrsearch.core.one_search import one_search
from lrsearch.core.schedule import Shape
from lrsearch.core.search import Method
from lrsearch.find import check_options
from lrsearch.integrations.lightning.checks import check_trainer
from lrsearch.integrations.lightning.session import Request, as_it_was, inside_fit, search_here
from lrsearch.pytorch.checks import check_outside_inference_mode
from lrsearch.result import Result

__all__ = ["find_lr_for"]


def find_lr_for(
    trainer: Any,
    module: Any,
    datamodule: Any = None,
    *,
    train_dataloaders: Any = None,
    val_dataloaders: Any = None,
    optimizer: int | str | None = None,
    method: str | Method = "auto",
    train_steps: int | None = None,
    schedule: str | Shape | Sequence[float] | LRScheduler | None = None,
    warmup_steps: float | None = None,
    monitor: str | None = None,
    validate: bool = True,
    stateful: Sequence[Any] = (),
    seed: int = 0,
    progress: bool = True,
    throw: bool = True,
) -> Result:
    """Find the learning rate for ``trainer.fit(module, ...)``.

    Lightning's own code makes every update: ``training_step`` and the module's other hooks,
    ``configure_optimizers``, the precision plugin, accumulation, clipping, the datamodule.
    The planned run is what ``fit`` would do: ``max_steps`` or ``max_epochs``, and the module's
    scheduler. Candidates are ranked by ``validation_step`` where ``fit`` would validate.

    Afterwards trainer, callbacks, loggers, loops, module and datamodule are as before, and
    ``fit`` trains as if nothing had been. Callbacks and loggers do not notice, except that a
    finetuning callback freezes what it would freeze before training. Nothing is applied: use
    ``result.apply(module)``.

    Args:
        trainer: a ``Trainer`` of ``lightning.pytorch`` or ``pytorch_lightning``.
        module: a ``LightningModule`` of the same package.
        datamodule: its data; or else
        train_dataloaders, val_dataloaders: as in ``trainer.fit``.
        optimizer: which of several optimizers (manual optimization): its place, or the name of
            its class.
        method: as in :func:`lrsearch.find_lr`; ``"auto"`` is a race when the length of the run
            is known, else a range test.
        train_steps: length of the planned run in updates, instead of the trainer's.
        schedule, warmup_steps: shape of its learning rate, instead of the module's scheduler;
            as in :func:`lrsearch.find_lr`.
        monitor: the name under which ``validation_step`` logs the loss; when not given, the
            loss it returns or else what it logs as ``val_loss``.
        validate: whether candidates are ranked by the validation.
        stateful: what else a step changes, as in :func:`lrsearch.find_lr`.
        seed: seed of data order, dropout and every other random choice of the search.
        progress: show live progress on standard error.
        throw: raise when there is no answer; otherwise return the result with its status.

    Returns:
        The result; ``result.lr`` is the highest learning rate of the first parameter group.

    Raises:
        InvalidArgument: this cannot be searched; the message says why, and what to do.
        NoLearningRateFound: the search has no answer and ``throw`` is true.

    Example:
        >>> result = find_lr_for(trainer, module)  # doctest: +SKIP
        >>> result.apply(module)  # doctest: +SKIP
        >>> trainer.fit(module)  # doctest: +SKIP
    """
    check_outside_inference_mode()
    check_trainer(trainer, module)
    usual = check_options(
        method,
        train_steps=train_steps,
        monitor=monitor,
        validate=validate,
        seed=seed,
        progress=progress,
        throw=throw,
    )
    request = Request(
        optimizer=optimizer,
        method=method,
        schedule=schedule,
        warmup_steps=warmup_steps,
        stateful=stateful,
        **usual,
        before_fit=True,
        # Without either, Lightning stops at 1000 epochs: a limit, not a plan.
        planned=trainer.max_epochs is not None or trainer.max_steps != -1,
    )
    data = {
        "train_dataloaders": train_dataloaders,
        "val_dataloaders": val_dataloaders,
        "datamodule": datamodule,
    }
    inner = getattr(module, "_orig_mod", module)
    with (
        one_search(ready=False),
        interruptible(),
        as_it_was(trainer, inner, *data.values()),
    ):
        return inside_fit(trainer, module, data, lambda: search_here(trainer, request))
