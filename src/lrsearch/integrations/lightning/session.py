"""A trainer that is ready to train, searched inside, and afterwards as it was."""

from __future__ import annotations

import dataclasses
import importlib
import signal
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch.optim.lr_scheduler import LRScheduler

from lrsearch.core.interrupt import uninterrupted
from lrsearch.core.schedule import Shape, Table
from lrsearch.core.search import Method
from lrsearch.errors import InvalidArgument, NoLearningRateFound
from lrsearch.find import search
from lrsearch.integrations.lightning.apply import attributes_of, run_after_applying
from lrsearch.integrations.lightning.checks import check_length, chosen_optimizer
from lrsearch.integrations.lightning.logged import Logged
from lrsearch.integrations.lightning.package import package_of
from lrsearch.integrations.lightning.photograph import photograph
from lrsearch.integrations.lightning.plan import planned_run
from lrsearch.integrations.lightning.trainable import lightning_trainable
from lrsearch.pytorch.random_state import read_random_state
from lrsearch.result import Result

__all__ = ["Request", "as_it_was", "inside_fit", "search_here"]


@dataclasses.dataclass(frozen=True)
class Request:
    """What is asked of a search; the arguments of :func:`find_lr_for`."""

    optimizer: int | str | None = None
    method: str | Method = "auto"
    train_steps: int | None = None
    schedule: str | Shape | Sequence[float] | LRScheduler | None = None
    warmup_steps: float | None = None
    monitor: str | None = None
    validate: bool = True
    stateful: Sequence[Any] = ()
    seed: int = 0
    progress: bool = True
    throw: bool = True
    planned: bool = True
    before_fit: bool = False  # the run will make its optimizers anew


def search_here(trainer: Any, request: Request) -> Result:
    """Search in a trainer that is set up for ``fit``; what it changes is the caller's to restore.

    Raises:
        InvalidArgument: the trainer cannot be searched.
        NoLearningRateFound: there is no answer and ``request.throw`` is true.
    """
    module = trainer.lightning_module
    place, optimizer = chosen_optimizer(trainer, request.optimizer)
    logged = Logged(request.monitor)
    with logged.instead_of_logging(module):
        trainable = lightning_trainable(
            trainer,
            optimizer,
            logged,
            validate=request.validate,
            seed=request.seed,
            stateful=request.stateful,
        )
        plan = planned_run(trainer, optimizer, request.train_steps, open_ended=not request.planned)
        check_length(plan, request.method)
        found = search(
            trainable,
            method=request.method,
            train_steps=plan.steps,
            schedule=plan.schedule if request.schedule is None else request.schedule,
            warmup_steps=request.warmup_steps,
            seed=request.seed,
            progress=request.progress and trainer.is_global_zero,
            throw=False,
        )
    told: dict[str, Any] = {"attributes": attributes_of(module, plan.lr), "optimizer": place}
    if request.before_fit and found.status.found:
        after = run_after_applying(trainer, place, found.lr, told["attributes"])
        told = told if after is None else {**told, "after_applying": after}
    settings = {**found.settings, "lightning": told}
    if isinstance(plan.schedule, Table) and plan.schedule.peak_over_base is not None:
        settings["peak_over_base"] = plan.schedule.peak_over_base
    result = dataclasses.replace(found, settings=settings)
    if request.throw and not result.status.found:
        raise NoLearningRateFound(result.why, result)
    return result


@contextmanager
def as_it_was(trainer: Any, *others: object, trained: bool = True) -> Iterator[None]:
    """Restore the trainer, its module, ``others`` and every random state in the end.

    Args:
        trainer: whose callbacks, loggers and profiler are kept away meanwhile.
        others: the module, the datamodule, loaders.
        trained: whether the weights are copied too.
    """
    with uninterrupted():
        picture = photograph([trainer, *others], trained=trained)
    random = read_random_state()
    loud = signal.getsignal(signal.SIGINT)
    package = package_of(trainer)
    assert package is not None
    dummy = importlib.import_module(f"{package.__name__}.loggers.logger").DummyLogger
    quiet = importlib.import_module(f"{package.__name__}.profilers").PassThroughProfiler
    try:
        trainer.callbacks = []
        trainer.loggers = [dummy() for _ in trainer.loggers]
        trainer.profiler = quiet()
        yield
    finally:
        with uninterrupted():
            if threading.current_thread() is threading.main_thread():
                signal.signal(signal.SIGINT, loud)
            random.restore()
            picture.restore()


def inside_fit(
    trainer: Any, module: Any, data: dict[str, Any], action: Callable[[], Result]
) -> Result:
    """Call ``action`` where ``trainer.fit`` is ready to train, and train nothing.

    Whatever it raises is raised here, Ctrl-C too, which Lightning would turn into an exit.
    """
    package = package_of(trainer)
    assert package is not None
    kept = list(trainer.callbacks)
    ended: dict[str, Any] = {}

    class Visit(package.Callback):  # type: ignore[name-defined,misc]
        def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
            freezing = [c for c in kept if callable(getattr(c, "freeze_before_training", None))]
            for callback in freezing:
                callback.freeze_before_training(pl_module)

        def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
            try:
                for hook in ("on_fit_start", "on_train_start", "on_train_epoch_start"):
                    getattr(pl_module, hook)()
                ended["result"] = action()
            except BaseException as error:
                ended["error"] = error
            trainer.limit_train_batches = 0  # the loop of fit has nothing to do
            vars(pl_module)["on_fit_start"] = lambda: None  # was called above

    trainer.callbacks = [Visit()]
    trainer.num_sanity_val_steps = 0
    vars(getattr(module, "_orig_mod", module))["configure_callbacks"] = list
    with _control_c_as_it_is(), warnings.catch_warnings():
        # Said better by us, where it matters.
        warnings.filterwarnings("ignore", message=".*this fit will run with no optimizer")
        trainer.fit(module, **data)
    if "error" in ended:
        raise ended["error"]
    if "result" not in ended:
        raise InvalidArgument.of("trainer", trainer, "one that begins to fit when asked to")
    return ended["result"]  # type: ignore[no-any-return]


@contextmanager
def _control_c_as_it_is() -> Iterator[None]:
    try:
        yield
    except SystemExit as error:
        if isinstance(error.__context__, KeyboardInterrupt):
            raise error.__context__ from None
        raise
