"""The front door: check the arguments, build a trainable, run the method. No mathematics."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Literal

from lrsearch.core.schedule import Shape, Table, settled
from lrsearch.core.search import Method, Plan, run_search
from lrsearch.core.trainable import Trainable
from lrsearch.core.validation import Check, at_least, checked, flag, maybe, one_of, positive, text
from lrsearch.core.validation import seed as seed_of
from lrsearch.errors import InvalidArgument, MissingDependency, NoLearningRateFound
from lrsearch.hand_over import HandOver
from lrsearch.methods.ladder import Ladder
from lrsearch.methods.race import Race
from lrsearch.methods.range_test import RangeTest
from lrsearch.methods.sweep import Sweep
from lrsearch.report.console import live_progress
from lrsearch.result import Result

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    import torch
    from torch.optim.lr_scheduler import LRScheduler

__all__ = ["check_options", "find_lr", "search"]

# How the arguments that all front doors share are checked.
_OPTIONS: dict[str, Check] = {
    "train_steps": maybe(at_least(1)),
    "seed": seed_of,
    "progress": flag,
    "throw": flag,
    "validate": flag,
    "monitor": maybe(text),
}

_METHODS: dict[str, Callable[..., Method]] = {
    "range": RangeTest,
    "ladder": Ladder,
    "race": Race,
    "sweep": Sweep,
}

# Evaluations of one search, as counted. A constant schedule is evaluated on the way too.
_OF_RACE, _OF_RACE_BY_HALVES, _OF_RANGE_TEST = 17, 50, 7


def find_lr(
    model: torch.nn.Module,
    optimizer: torch.optim.Optimizer | Sequence[torch.optim.Optimizer],
    loss_fn: Callable[[Any, Any], torch.Tensor] | None,
    train_loader: Iterable[Any] | Callable[[], Any],
    *,
    compute_loss: Callable[[Any, Any], torch.Tensor | None] | None = None,
    train_step: Callable[[Any, Any, Any], torch.Tensor | float | None] | None = None,
    val_loader: Iterable[Any] | Callable[[], Any] | None = None,
    val_loss: Callable[[Any, Any], torch.Tensor | None] | None = None,
    evaluate: Callable[[Any], float] | None = None,
    val_batches: int | None = None,
    train_steps: int | None = None,
    schedule: str | Shape | Sequence[float] | LRScheduler = "constant",
    warmup_steps: float | None = None,
    method: str | Method = "auto",
    min_lr: float | None = None,
    max_lr: float | None = None,
    start_lr: float | None = None,
    end_lr: float | None = None,
    accumulate: int = 1,
    clip_grad_norm: float | None = None,
    clip_grad_value: float | None = None,
    autocast: torch.dtype | Callable[[], AbstractContextManager[Any]] | None = None,
    grad_scaler: torch.amp.GradScaler | None = None,
    stateful: Sequence[Any] = (),
    snapshot_to: Literal["device", "cpu", "disk"] = "device",
    seed: int = 0,
    progress: bool = True,
    throw: bool = True,
) -> Result:
    """Find the learning rate for training ``model`` with ``optimizer`` on ``train_loader``.

    Everything is left bit for bit as it was: weights, buffers, gradients, optimizer state
    and learning rates, train and eval modes, random states, loss scaler, data order; after
    success, after an error and after Ctrl-C. Nothing is applied: use ``result.apply``.

    A model in ``DistributedDataParallel`` or under ``fully_shard`` is searched by all its
    processes together: call this on every rank, and every rank gets the same answer.

    Args:
        model: the model, on the device it trains on.
        optimizer: its optimizer, or a list of several that step one after the other by the same
            gradients. With several parameter groups one multiplier is searched over all of
            them, and their ratios are kept; a group at 0 stays there. What Accelerate and
            Fabric wrapped is looked through.
        loss_fn: ``loss_fn(model(inputs), targets)`` for batches of two. With ``None``, the
            model's output must carry its own ``.loss``.
        train_loader: any iterable of batches that can be read again, or a function that
            returns one; or a function that returns a single batch (tensors, or a tuple, list
            or mapping of them). It is cycled when it is short.
        compute_loss: ``compute_loss(model, batch)`` for any other batch or loss. It may return
            ``None`` to pass over a batch: the step is then made with the next one.
        train_step: ``train_step(model, optimizer, batch)`` makes the whole update itself, at the
            learning rates that it finds in ``optimizer`` (what was given here), and returns its
            loss, or ``None`` to pass over a batch. It calls ``zero_grad``, ``backward`` and
            ``step`` as it likes, and leaves the learning rates alone. ``accumulate``, clipping,
            ``autocast`` and ``grad_scaler`` are its own business then.
        val_loader: held-out batches, by which race and sweep are ranked.
        val_loss: ``val_loss(model, batch)``, where the held-out loss is not that of the training.
        evaluate: ``evaluate(model)`` returns one number, lower is better, in the place of a mean
            over ``val_loader``: a metric, the score of a generator. Gradients are enabled.
        val_batches: held-out batches that one evaluation reads, evenly spread over the loader.
            When not given: as many as keep all evaluations to about a quarter of the search's
            work; 512 examples or two batches always. ``result.cost.evaluation_seconds`` says what
            they took.
        train_steps: optimizer updates of the planned run.
        schedule: shape of the planned run's learning rate: ``"constant"``, ``"linear"``,
            ``"cosine"``, ``"one-cycle"``, ``"wsd"``; a callable ``(step, total) ->
            multiplier``; the sequence of the run's multipliers; or a scheduler of torch, which
            is read from a copy, with a step after every update. See
            :mod:`lrsearch.core.schedule`.
        warmup_steps: updates in which the learning rate first rises in a line, or their share
            of the run below 1.
        method: ``"range"``, ``"ladder"``, ``"race"``, ``"sweep"``, a settings object such as
            ``RangeTest(steps=200)``, or ``"auto"``: a race when ``train_steps`` is given, else
            a range test.
        min_lr, max_lr: bounds, for the first parameter group; found when not given.
            ``start_lr`` and ``end_lr`` mean the same.
        accumulate: batches whose gradients make one update. What is left over at the end of a
            pass over the data makes an update of its own, by the mean of the batches it has.
        clip_grad_norm: largest norm of the gradient, as in ``clip_grad_norm_``.
        clip_grad_value: largest size of an element of it, as in ``clip_grad_value_``.
        autocast: a dtype for ``torch.autocast``, or a function returning a context manager.
        grad_scaler: the loss scaler of the planned run; when not given, the one that a wrapper of
            Accelerate or Fabric around ``optimizer`` steps by. An update that it skips is made
            again on the next batches, at the same learning rate.
        stateful: other modules, and objects with ``state_dict`` and ``load_state_dict``, that
            hooks or ``compute_loss`` change, to be put back too: an average of the weights,
            a teacher, a metric, an optimizer that only ``train_step`` steps. A loss that is a
            module is put back unasked.
        snapshot_to: where the copy of the state is kept meanwhile: ``"device"``, beside it;
            ``"cpu"``, in main memory; ``"disk"``, in a temporary file without a name, which
            is gone however the process ends.
        seed: seed of data order, dropout and every other random choice of the search.
        progress: show live progress on standard error.
        throw: raise when there is no answer; otherwise return the result with its status.

    Returns:
        The result; ``result.lr`` is the learning rate of the first parameter group that is not
        at 0.

    Raises:
        InvalidArgument: an argument cannot be used; nothing was trained.
        NoLearningRateFound: the search has no answer and ``throw`` is true.
        RankFailed: another process that trains the same model failed.
        MissingDependency: PyTorch is not installed.

    Example:
        >>> import torch
        >>> model = torch.nn.Linear(3, 1)
        >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        >>> x = torch.linspace(-1.0, 1.0, 96).reshape(32, 3)
        >>> batches = [(x, x.sum(1, keepdim=True))]
        >>> result = find_lr(model, optimizer, torch.nn.MSELoss(), batches, progress=False)
        >>> result.status.name
        'FOUND'
    """
    try:
        from lrsearch.pytorch.advice import advised
        from lrsearch.pytorch.distributed import ranks_of
        from lrsearch.pytorch.trainable import torch_trainable
    except ImportError as error:
        raise MissingDependency(
            "find_lr needs PyTorch: pip install 'lrsearch[torch]', or your own build of it."
        ) from error
    # Whatever is refused on one rank is refused in here, where the others hear of it.
    with advised(), ranks_of(model) as ranks:
        usual = checked(
            _OPTIONS, train_steps=train_steps, seed=seed, progress=progress, throw=throw
        )
        chosen = _method(method, train_steps, *_bounds(min_lr, max_lr, start_lr, end_lr))
        schedule = _planned(schedule, usual["train_steps"], warmup_steps)
        ranks.check_same(method=chosen, train_steps=train_steps, schedule=schedule, seed=seed)
        trainable = torch_trainable(
            model,
            optimizer,
            loss_fn,
            train_loader,
            compute_loss=compute_loss,
            train_step=train_step,
            val_loader=val_loader,
            val_loss=val_loss,
            evaluate=evaluate,
            val_batches=val_batches,
            expected=_expected(chosen, train_steps, schedule),
            accumulate=accumulate,
            clip_grad_norm=clip_grad_norm,
            clip_grad_value=clip_grad_value,
            autocast=autocast,
            grad_scaler=grad_scaler,
            stateful=stateful,
            snapshot_to=snapshot_to,
            seed=usual["seed"],
            ranks=ranks,
        )
        return search(trainable, method=chosen, schedule=schedule, **usual)


def search(
    trainable: Trainable[Any],
    *,
    method: str | Method = "auto",
    train_steps: int | None = None,
    schedule: str | Shape | Sequence[float] | LRScheduler = "constant",
    warmup_steps: float | None = None,
    seed: int = 0,
    progress: bool = True,
    throw: bool = True,
) -> Result:
    """Find the learning rate of anything that can step, snapshot and restore.

    Args:
        trainable: see :class:`lrsearch.core.trainable.Trainable`. Three optional attributes
            are used when present: ``updates_per_epoch`` (for ladders counted in epochs and, beside
            a method ``shorten_epochs``, for the short lanes of races),
            ``multipliers`` (learning rate of each parameter group over that of the first) and
            ``leads`` (whether this process shows progress, where several search together).
        method, schedule, warmup_steps: as in :func:`find_lr`; the other arguments too.

    Returns:
        The result.

    Raises:
        NoLearningRateFound: the search has no answer and ``throw`` is true.
    """
    needed = ("step", "snapshot", "restore")
    if isinstance(trainable, type) or not all(callable(getattr(trainable, n, 0)) for n in needed):
        expected = "an object with step(lr), snapshot() and restore(snapshot)"
        raise InvalidArgument.of("trainable", trainable, expected)
    checked(_OPTIONS, progress=progress, throw=throw)
    chosen = _method(method, train_steps)
    schedule = _planned(schedule, train_steps, warmup_steps)
    plan = Plan(
        train_steps=train_steps,
        schedule=schedule,
        updates_per_epoch=getattr(trainable, "updates_per_epoch", None),
        seed=seed,
    )
    shown = progress and getattr(trainable, "leads", True)
    with live_progress(chosen.name, enabled=shown) as observer:
        kept: dict[int, object] | None = {} if getattr(chosen, "hand_over", False) else None
        outcome = run_search(trainable, chosen, plan, observer, kept)
    multipliers = tuple(getattr(trainable, "multipliers", (1.0,)))
    hand_over = HandOver(trainable, kept, plan) if kept else None
    settings = outcome.settings
    if isinstance(schedule, Table) and schedule.peak_over_base is not None:
        settings = {**settings, "peak_over_base": schedule.peak_over_base}
    result = Result.from_outcome(
        outcome, multipliers=multipliers, hand_over=hand_over, settings=settings
    )
    if throw and not result.status.found:
        raise NoLearningRateFound(result.why, result)
    return result


def check_options(method: object, **given: object) -> dict[str, Any]:
    """Return arguments that the front doors share, checked; ``method`` is only looked at.

    Raises:
        InvalidArgument: one of them cannot be used.
    """
    _method(method, 1)  # type: ignore[arg-type]
    return checked(_OPTIONS, **given)


def _planned(
    schedule: Any, train_steps: int | None, warmup_steps: float | None = None
) -> str | Shape:
    """Return the shape of the planned run, of whatever the user has."""
    if callable(getattr(schedule, "step", None)) and not callable(schedule):
        from lrsearch.pytorch.schedulers import planned_schedule

        schedule = planned_schedule(schedule, train_steps)
    return settled(schedule, train_steps, warmup_steps)


def _method(
    method: str | Method,
    train_steps: int | None,
    low: float | None = None,
    high: float | None = None,
) -> Method:
    """Return the settings object that ``method`` names, with the bounds that were given."""
    bounds = {
        name: value for name, value in (("min_lr", low), ("max_lr", high)) if value is not None
    }
    if isinstance(method, str):
        automatic = "range" if train_steps is None else "race"
        name = one_of(("auto", *_METHODS), ", or a settings object")("method", method)
        return _METHODS[automatic if name == "auto" else name](**bounds)
    if not callable(getattr(method, "search", None)) or isinstance(method, type):
        raise InvalidArgument.of("method", method, "a name or a settings object like RangeTest()")
    if bounds:
        raise InvalidArgument(
            f"{', '.join(bounds)}: give bounds inside the settings object, "
            f"as in {type(method).__name__}({', '.join(f'{k}={v!r}' for k, v in bounds.items())})."
        )
    return method


def _expected(method: Method, train_steps: int | None, schedule: str | Shape) -> tuple[float, int]:
    """Return the steps and the evaluations that a search is expected to make, at most."""
    if isinstance(method, RangeTest):
        return method.steps * method.repeats, _OF_RANGE_TEST * method.repeats
    if isinstance(method, Sweep):
        trials = len(method.candidates()) + 1  # with the baseline
        return trials * (train_steps or 1), trials
    budget = method.budget if isinstance(method, Race) else 1.0
    evaluations = _OF_RACE_BY_HALVES if schedule == "constant" else _OF_RACE
    return budget * (train_steps or 1), evaluations


def _bounds(
    min_lr: float | None, max_lr: float | None, start_lr: float | None, end_lr: float | None
) -> tuple[float | None, float | None]:
    low = _either("min_lr", min_lr, "start_lr", start_lr)
    return low, _either("max_lr", max_lr, "end_lr", end_lr)


def _either(name: str, value: float | None, alias: str, other: float | None) -> float | None:
    if value is not None and other is not None:
        raise InvalidArgument(f"{alias} means {name}: give one of them.")
    return maybe(positive)(alias, other) if value is None else value
