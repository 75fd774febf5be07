"""Torch's schedulers: what they are going to do, read from a copy, and moved to another peak."""

from __future__ import annotations

import copy
import gc
import inspect
import logging
import math
import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MethodType
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.optim.lr_scheduler import (
    ChainedScheduler,
    CosineAnnealingWarmRestarts,
    LRScheduler,
    SequentialLR,
)

from lrsearch.core.schedule import Table
from lrsearch.core.validation import whole
from lrsearch.errors import InvalidArgument, Words

__all__ = [
    "Move",
    "Twin",
    "applied",
    "attached_to",
    "by_metric",
    "follows",
    "moved_to",
    "peak_of",
    "place_of",
    "planned_schedule",
    "table_of",
    "unwrapped",
]

_log = logging.getLogger(__name__)

# What schedulers and groups call a learning rate; every other number has no unit. ``lr_decay``,
# ``lr_scale`` and the like are factors. A plateau's ``eps`` is a difference of learning rates.
_GROUP_RATE = re.compile(
    r"_?((\w+_)?lrs?|lr_(min|max|start|end|init|initial|final|base|peak)|eta_(min|max)s?)"
)
_RATE = re.compile(rf"{_GROUP_RATE.pattern}|eps|(base|min|max)_values")
_LENGTHS = ("total_steps", "total_iters", "T_max", "T_0", "total_size", "step_size", "_milestones")
_FEWEST, _MOST = 1000, 1_000_000  # updates over which a run of unknown length is looked at
_CHECKED = 100_000  # updates of a planned run that are compared
_NAMED = re.compile(r"LR$|OnPlateau$|(?i:sched|warmup|anneal|noam)")  # if they are not torch's


def unwrapped(scheduler: Any) -> Any:
    """Return the scheduler inside Accelerate's."""
    inner = getattr(scheduler, "scheduler", None)
    return scheduler if hasattr(scheduler, "optimizer") or inner is None else inner


def by_metric(scheduler: Any) -> bool:
    """Whether the scheduler goes by what it is told of the training, so it has no plan.

    Raises:
        InvalidArgument: its ``step`` needs something else.
    """
    plain = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    needed = [
        name
        for name, one in inspect.signature(scheduler.step).parameters.items()
        if one.kind in plain and one.default is one.empty
    ]
    if needed and not needed[0].startswith(("metric", "loss", "val")):
        raise InvalidArgument.of(
            "scheduler",
            Words(f"a {type(scheduler).__name__} whose step() needs {needed[0]!r}"),
            "one that is stepped without arguments, or with a metric",
            "Pass the shape as schedule=..., a callable (step, total) -> multiplier, and put "
            "result.lr into the scheduler yourself.",
        )
    return bool(needed)


class Twin:
    """Copies of schedulers, which move stand-ins for their optimizers.

    Args:
        schedulers: of one optimizer or of several; they are left alone.

    Attributes:
        schedulers: the copies.
        groups: the parameter groups of the stand-ins, which hold a single number each.

    Raises:
        InvalidArgument: one is no scheduler, or cannot be copied.

    Example:
        >>> adam = torch.optim.Adam([torch.zeros(9)], lr=0.25)
        >>> twin = Twin([torch.optim.lr_scheduler.ExponentialLR(adam, 0.5)])
        >>> twin.rates(3)[:, 0].tolist(), adam.param_groups[0]["lr"]
        ([0.25, 0.125, 0.0625], 0.25)
    """

    def __init__(self, schedulers: Sequence[Any]) -> None:
        self.groups: list[dict[str, Any]] = []
        memo: dict[int, Any] = {}
        doubles: dict[int, torch.optim.Optimizer] = {}
        for scheduler in schedulers:
            for one in _inside(scheduler):
                key = id(_groups_of(one)[0])
                if key not in doubles:
                    doubles[key] = _stand_in(one.optimizer)
                    self.groups += doubles[key].param_groups
                memo[id(one.optimizer)] = doubles[key]
                memo.update(_shared_methods(one))
        plain = [unwrapped(scheduler) for scheduler in schedulers]
        self._told = [by_metric(scheduler) for scheduler in plain]
        try:
            self.schedulers = copy.deepcopy(plain, memo)
        except Exception as error:
            names = " and ".join(f"a {type(scheduler).__name__}" for scheduler in plain)
            raise InvalidArgument.of(
                "scheduler",
                Words(f"{names} that cannot be copied ({error})"),
                "one whose copy can be stepped to see what it does",
                "Pass the shape as schedule=..., a callable (step, total) -> multiplier.",
            ) from error

    def rates(
        self, steps: int, step: Callable[[int], None] | None = None
    ) -> npt.NDArray[np.float64]:
        """Return the learning rate of every group at each of the next updates.

        Args:
            steps: how many.
            step: what is done after an update, instead of a step of every scheduler; it is
                given the number of updates made.

        Returns:
            An array of shape ``(steps, groups)``.
        """
        found = np.empty((steps, len(self.groups)))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the user will hear of it when training
            for made in range(steps):
                found[made] = [float(group["lr"]) for group in self.groups]
                if step is None:
                    for place in range(len(self.schedulers)):
                        self.step(place)
                else:
                    step(made + 1)
        return found

    def step(self, place: int) -> None:
        """Step one of the copies; what has ended, as ``OneCycleLR`` does, stays where it is."""
        scheduler = self.schedulers[place]
        try:
            if self._told[place]:
                scheduler.step(1.0)  # never gets better
            else:
                scheduler.step()
        except Exception as error:  # a user's function may end in any way
            _log.debug("%s ends here: %s", type(scheduler).__name__, error)


def planned_schedule(scheduler: Any, train_steps: int | None) -> str | Table:
    """Return the shape of the next ``train_steps`` updates, with a step after each.

    Args:
        scheduler: attached to an optimizer, at any place; it is left alone. One that goes by a
            metric counts as constant.
        train_steps: length of the planned run.

    Raises:
        InvalidArgument: this is no scheduler, the length is missing, or it keeps the learning
            rate at 0.

    Example:
        >>> sgd = torch.optim.SGD([torch.zeros(1)], lr=0.1)
        >>> cycle = torch.optim.lr_scheduler.OneCycleLR(sgd, max_lr=2.0, total_steps=10)
        >>> planned_schedule(cycle, 10), round(planned_schedule(cycle, 10).peak_over_base)
        (OneCycleLR over 10 updates, 25)
    """
    inner = unwrapped(scheduler)
    twin = Twin([inner])
    if by_metric(inner):
        return "constant"
    if train_steps is None:
        raise InvalidArgument.of(
            "schedule",
            Words(f"a {type(inner).__name__}"),
            "train_steps beside it",
            "It is read for as many updates as the planned run has.",
        )
    return table_of(
        type(inner).__name__, twin.rates(whole("train_steps", train_steps, 1)), inner.optimizer
    )


def table_of(name: str, rates: npt.NDArray[np.float64], optimizer: torch.optim.Optimizer) -> Table:
    """Return the shape of what the first group that learns does, of rates ``(steps, groups)``."""
    lead = _lead(rates.max(axis=0))
    group = optimizer.param_groups[lead]
    peak, base = float(rates[:, lead].max()), float(group.get("initial_lr", group["lr"]))
    if not 0.0 < peak < math.inf:
        raise InvalidArgument.of(
            "schedule",
            Words(f"a {name} whose highest learning rate is {peak:g}"),
            "a learning rate above 0 at some update",
        )
    shape = tuple((rates[:, lead] / peak).tolist())
    return Table(name, shape, peak / base if base > 0.0 else None)


# ------------------------------------------------------------------------------- another peak


def peak_of(
    schedulers: Sequence[Any], steps: int | None = None, over_base: float | None = None
) -> float:
    """Return the highest learning rate that the first group has in the whole run.

    What is past is read by letting a copy begin again, where that leads to where it is.

    Args:
        schedulers: those of one run.
        steps: length of the run; when not given it is looked at for as long as it rises.
        over_base: the peak of the run that was searched over the base learning rate, see
            :class:`~lrsearch.core.schedule.Table`; it counts where this run passes through it.
    """
    planned = [one for one in map(unwrapped, schedulers) if not by_metric(one)]
    twin = Twin(planned or schedulers)
    lead = _lead(np.array([_base(group) for group in twin.groups]))
    now, base = (float(of(twin.groups[lead])) for of in (lambda group: group["lr"], _base))
    if not planned:
        return now
    done = max(_done(one) for one in planned)
    again = _begun_again(planned)
    known = again is not None and math.isclose(again.rates(done + 1)[-1, lead], now, rel_tol=1e-5)
    done = done if known else 0

    def run(length: int) -> npt.NDArray[np.float64]:
        start = _begun_again(planned) if known else Twin(planned)
        assert start is not None
        return start.rates(length)[:, lead]

    if over_base is not None and steps is not None:
        searched = over_base * base
        if np.isclose(run(min(done + steps, _MOST)), searched, rtol=1e-5, atol=0.0).any():
            return searched
    if steps is not None:
        return float(run(max(steps, done + 1)).max())
    length = min(max(_FEWEST, done + 1, *(_length(one) for one in planned)), _MOST)
    rates = run(length)
    while rates.argmax() == length - 1 and np.ptp(rates) > 0.0 and length < _MOST:
        length = min(4 * length, _MOST)
        rates = run(length)
    return float(rates.max())


@dataclass(frozen=True)
class Move:
    """Changes of learning rates, wherever they are kept.

    Attributes:
        changes: a dictionary, a key, the old and the new value.
    """

    changes: tuple[tuple[dict[str, Any], str, Any, Any], ...]

    def do(self) -> None:
        """Set the new values."""
        for holder, key, _, new in self.changes:
            _put(holder, key, new)

    def undo(self) -> None:
        """Set the old values."""
        for holder, key, old, _ in self.changes:
            _put(holder, key, old)


def moved_to(
    peaks: Sequence[float],
    groups: Sequence[dict[str, Any]],
    schedulers: Sequence[Any],
    peak: float,
    *,
    steps: int | None = None,
) -> Move:
    """Return what makes ``peaks`` the highest learning rates of the groups' run.

    Every learning rate of the run, past and to come, is multiplied by the same number, so the
    schedulers stay where they are. That is seen on copies of what they would be.

    Args:
        peaks: the new peak of every group.
        groups: the parameter groups, of one optimizer or of several.
        schedulers: all that move them.
        peak: the present peak of the first group that learns.
        steps: updates over which the run is compared.

    Returns:
        The changes; nothing is changed yet.

    Raises:
        InvalidArgument: a scheduler belongs to another optimizer, or its learning rates do not
            follow.
    """
    schedulers = [unwrapped(scheduler) for scheduler in schedulers]
    ours = {id(group) for group in groups}
    for scheduler in schedulers:
        if not {id(group) for group in _groups_of(scheduler)} <= ours:
            raise InvalidArgument.of(
                "scheduler",
                Words(f"a {type(scheduler).__name__} of another optimizer"),
                "the scheduler of this one",
            )
    scales = _Scales.of(peaks, groups, peak)
    move = Move(tuple(scales.changes(groups, schedulers)))
    if schedulers:
        _check(move, scales, schedulers, steps)
    return move


def applied(
    peaks: Sequence[float],
    optimizer: Any,
    schedulers: Sequence[Any] = (),
    *,
    searched: Mapping[str, object],
    all_given: bool = True,
) -> Move:
    """Return what makes ``peaks`` the highest learning rates of an optimizer's run.

    Args:
        peaks: the new peak of every group.
        optimizer: or anything with ``param_groups``.
        schedulers: all that move it.
        searched: the settings of the search: of ``train_steps`` updates, and of a scheduler's
            run if there is a ``peak_over_base``.
        all_given: whether to look for other schedulers.

    Raises:
        InvalidArgument: a scheduler is missing, belongs to another optimizer, or its learning
            rates do not follow.
    """
    groups = optimizer.param_groups
    if len(groups) != len(peaks):
        raise InvalidArgument.of(
            "optimizer",
            Words(f"{len(groups)} parameter groups"),
            f"the {len(peaks)} groups the search was made with",
        )
    schedulers = [unwrapped(scheduler) for scheduler in schedulers]
    missing = attached_to(groups, besides=schedulers) if all_given else []
    if missing:
        names = " and ".join(f"a {type(one).__name__}" for one in missing)
        call = "scheduler" if len(missing) + len(schedulers) == 1 else "[scheduler, ...]"
        raise InvalidArgument.of(
            "scheduler",
            Words(f"{'no other than those given' if schedulers else 'none'}"),
            f"every scheduler of the optimizer, and {names} is attached to it",
            f"Call result.apply(optimizer, {call}): a scheduler keeps learning rates of its own "
            "and would set the old ones again. Delete one that is not used any more.",
        )
    lead = _lead(np.array(peaks))
    if schedulers:
        steps = searched.get("train_steps")
        over_base = searched.get("peak_over_base")
        steps = steps if isinstance(steps, int) else None
        over_base = over_base if isinstance(over_base, float) else None
        peak = peak_of(schedulers, steps, over_base)
        return moved_to(peaks, groups, schedulers, peak, steps=steps)
    changes = [
        (group, key, _kept(group[key]), new)
        for group, new in zip(groups, peaks, strict=True)
        for key in ("lr", "initial_lr")
        if key in group
    ]
    # From which schedulers made later may take their floors, and groups their learning rates.
    lead = _lead(np.array(peaks))
    defaults, base = getattr(optimizer, "defaults", {}), _base(groups[lead])
    default = defaults.get("lr")
    if isinstance(default, float) and base > 0.0:
        changes.append((defaults, "lr", default, peaks[lead] * (default / base)))
    return Move(tuple(changes))


def follows(scheduler: Any) -> bool:
    """Whether all learning rates of a scheduler are multiplied when those of its optimizer are."""
    groups = _groups_of(unwrapped(scheduler))
    bases = [_base(group) for group in groups]
    lead = bases[_lead(np.array(bases))]
    try:
        moved_to([2.0 * base for base in bases], groups, [scheduler], lead)
    except InvalidArgument:
        return False
    return True


@dataclass(frozen=True)
class _Scales:
    """The new and the old peak of every group, by the group's identity."""

    pairs: dict[int, tuple[float, float]]
    lead: tuple[float, float]

    @classmethod
    def of(cls, peaks: Sequence[float], groups: Sequence[dict[str, Any]], peak: float) -> _Scales:
        if not 0.0 < peak < math.inf:
            raise InvalidArgument.of(
                "scheduler",
                Words(f"one whose highest learning rate is {peak:g}"),
                "a learning rate above 0 at some update",
            )
        lead = _lead(np.array(peaks))
        bases = [_base(group) for group in groups]
        pairs = {}
        for group, new, base in zip(groups, peaks, bases, strict=True):
            known = base > 0.0 and bases[lead] > 0.0
            pairs[id(group)] = (new, peak * (base / bases[lead])) if known else (peaks[lead], peak)
        return cls(pairs, (peaks[lead], peak))

    def changes(
        self, groups: Sequence[dict[str, Any]], schedulers: Sequence[Any]
    ) -> Iterator[tuple[dict[str, Any], str, Any, Any]]:
        """Yield every learning rate that is kept somewhere, with its new value."""
        for group in groups:
            for key, value in group.items():
                if _GROUP_RATE.fullmatch(key):
                    new = _scaled(value, [self.pairs[id(group)]], self.pairs[id(group)])
                    if new is not None:
                        yield group, key, _kept(value), new
        seen: set[int] = set()
        for scheduler in (inner for one in schedulers for inner in _inside(one)):
            if id(scheduler) in seen:
                continue
            seen.add(id(scheduler))
            pairs = [self.pairs[id(group)] for group in _groups_of(scheduler)]
            for key, value in vars(scheduler).items():
                if _RATE.fullmatch(key):
                    new = _scaled(value, pairs, self.lead)
                    if new is not None:
                        yield vars(scheduler), key, _kept(value), new


def _check(move: Move, scales: _Scales, schedulers: Sequence[Any], steps: int | None) -> None:
    """Raise unless the run of a moved copy is that of another, group by group, times a number.

    The change is made and taken back, so that functions which look at the optimizer see it.
    """
    known = max(_FEWEST, *(_length(one) for one in schedulers)) if steps is None else steps
    length = min(known, _CHECKED)
    pairs = [scales.pairs[id(group)] for group in _moving_groups(schedulers)]
    wanted = Twin(schedulers).rates(length) * np.array([new / old for new, old in pairs])
    try:
        move.do()
        after = Twin(schedulers).rates(length)
    finally:
        move.undo()
    wrong = ~np.isclose(after, wanted, rtol=1e-4, atol=1e-7 * float(wanted.max(initial=0.0)))
    if wrong.any():
        at, group = (int(i) for i in np.argwhere(wrong)[0])
        raise _does_not_follow(schedulers, at, after[at, group], wanted[at, group])


def _does_not_follow(
    schedulers: Sequence[Any], at: int, got: float, wanted: float
) -> InvalidArgument:
    planned = [one for one in schedulers if not by_metric(one)] or schedulers
    names = " and ".join(f"a {type(one).__name__}" for one in planned)
    places = "".join(f" ({place})" for one in planned if (place := place_of(one)))
    when = "At once" if at == 0 else f"After {at} more update{'s' * (at > 1)}"
    return InvalidArgument.of(
        "scheduler",
        Words(names),
        "one whose learning rates follow those of its optimizer",
        f"{when} it would set {got:.3g} by itself{places} where the found schedule has "
        f"{wanted:.3g}. Nothing was changed. Let it compute its learning rates from "
        "self.base_lrs, or put result.lr into its formula.",
    )


def place_of(scheduler: Any) -> str:
    """Return where a scheduler that is not torch's computes its rates, as ``file:line``."""
    kind = type(scheduler)
    if kind.__module__.partition(".")[0] in ("torch", "transformers"):
        return ""
    made: Any = vars(kind).get("get_lr") or vars(kind).get("step") or kind
    try:
        return f"{inspect.getsourcefile(made)}:{inspect.getsourcelines(made)[1]}"
    except (OSError, TypeError):
        return ""


# -------------------------------------------------------------------- who is attached to what


def attached_to(groups: Sequence[dict[str, Any]], besides: Iterable[Any] = ()) -> list[Any]:
    """Return the living schedulers that move one of these groups, without those inside others.

    An optimizer does not know its schedulers: torch leaves marks on it (``initial_lr``, a
    wrapped ``step``) that stay when the scheduler is gone or come back with a checkpoint. So
    it is the schedulers that are looked for.

    Args:
        groups: of one optimizer or of several.
        besides: schedulers that are known already.
    """
    known = {id(one) for scheduler in besides for one in _inside(scheduler)}
    found = _living(groups, known)
    if found:
        del found
        gc.collect()  # what only waits to be collected is not in use
        found = _living(groups, known)
    inner = {id(one) for scheduler in found for one in _inside(scheduler) if one is not scheduler}
    return [scheduler for scheduler in found if id(scheduler) not in inner]


def _living(groups: Sequence[dict[str, Any]], known: set[int]) -> list[Any]:
    ours = {id(group) for group in groups}
    things = gc.get_objects()
    kinds = {kind for kind in set(map(type, things)) if _is_kind_of_scheduler(kind)}
    found = [one for one in things if type(one) in kinds and id(one) not in known]
    del things

    def moves_ours(scheduler: Any) -> bool:
        theirs = getattr(vars(scheduler).get("optimizer"), "param_groups", None)
        return isinstance(theirs, list) and any(id(group) in ours for group in theirs)

    return [one for one in found if moves_ours(one)]


def _is_kind_of_scheduler(kind: type) -> bool:
    if issubclass(kind, LRScheduler):
        return True
    if not any(_NAMED.search(base.__name__) for base in kind.__mro__):
        return False
    own = {name for base in kind.__mro__ for name in vars(base)}
    return {"step", "__dict__"} <= own


def _inside(scheduler: Any) -> Iterator[Any]:
    """Yield the scheduler and every one that it holds."""
    waiting, seen = [unwrapped(scheduler)], set()
    while waiting:
        one = waiting.pop(0)
        if id(one) in seen or not _groups_of(one):
            continue
        seen.add(id(one))
        yield one
        for value in vars(one).values():
            held = value if isinstance(value, (list, tuple)) else [value]
            waiting += [other for other in held if _looks_like_one(other)]


def _looks_like_one(thing: Any) -> bool:
    return (
        hasattr(thing, "__dict__")
        and not isinstance(thing, (type, nn.Module, torch.optim.Optimizer))
        and "optimizer" in vars(thing)
        and callable(getattr(thing, "step", None))
    )


def _groups_of(scheduler: Any) -> list[dict[str, Any]]:
    groups = getattr(getattr(scheduler, "optimizer", None), "param_groups", None)
    if not isinstance(groups, list) or not callable(getattr(scheduler, "step", None)):
        raise InvalidArgument.of("scheduler", scheduler, "a scheduler attached to an optimizer")
    return groups


def _moving_groups(schedulers: Sequence[Any]) -> list[dict[str, Any]]:
    """Return the groups that the schedulers move, in the order of a twin's."""
    found: dict[int, dict[str, Any]] = {}
    for scheduler in schedulers:
        for one in _inside(scheduler):
            found.update({id(group): group for group in _groups_of(one)})
    return list(found.values())


# --------------------------------------------------------------------------------- small things


def _stand_in(optimizer: Any) -> torch.optim.Optimizer:
    """Return an optimizer of one number per group with the same options."""
    double = torch.optim.SGD([torch.zeros(1)], lr=1.0)
    double.defaults = dict(getattr(optimizer, "defaults", {}))
    double.param_groups = [
        {**{key: copy.copy(value) for key, value in group.items() if key != "params"},
         "params": [torch.zeros(1)]}
        for group in optimizer.param_groups
    ]  # fmt: skip
    for group in double.param_groups:
        for key, value in group.items():
            if _is_tensor(value):
                group[key] = value.clone()
    return double


def _shared_methods(scheduler: Any) -> dict[int, Any]:
    """Return what a copy of the scheduler shares with it: modules whose methods it calls."""
    values = list(vars(scheduler).values())
    values += [one for value in values if isinstance(value, (list, tuple)) for one in value]
    owners = [value.__self__ for value in values if isinstance(value, MethodType)]
    return {id(owner): owner for owner in owners if isinstance(owner, nn.Module)}


def _begun_again(schedulers: Sequence[Any]) -> Twin | None:
    """Return copies at the start of their run, ``None`` where that is not known."""
    twin = Twin(schedulers)
    if not all("initial_lr" in group for group in twin.groups):
        return None
    for group in twin.groups:
        _put(group, "lr", float(group["initial_lr"]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            for scheduler in twin.schedulers:
                _begin(scheduler)
        except Exception as error:  # schedulers that are not torch's
            _log.debug("cannot begin again: %s", error)
            return None
    return twin


def _begin(scheduler: Any) -> None:
    """Do what the constructor does, with the options that the scheduler has."""
    if isinstance(scheduler, ChainedScheduler):
        for one in scheduler._schedulers:
            _begin(one)
    elif isinstance(scheduler, SequentialLR):
        for one in _inside(scheduler):
            one.last_epoch = 0 if isinstance(one, SequentialLR) else -1
            if isinstance(one, CosineAnnealingWarmRestarts):
                one.T_cur, one.T_i = 0, one.T_0
        scheduler._schedulers[0]._initial_step()
    else:
        scheduler.last_epoch = -1
        scheduler._initial_step()


def _done(scheduler: Any) -> int:
    """Return how often it was stepped."""
    counts = [one.last_epoch for one in _inside(scheduler) if hasattr(one, "last_epoch")]
    return max(0, int(counts[0])) if counts else 0


def _length(scheduler: Any) -> int:
    """Return an upper bound of where the schedulers inside change their course."""
    found = 0
    for one in _inside(scheduler):
        for name in _LENGTHS:
            value = getattr(one, name, 0)
            numbers = value if isinstance(value, (list, tuple)) else [value]
            found += int(max((n for n in numbers if isinstance(n, (int, float))), default=0))
    return min(found + 1, _MOST)


def _times(scheduler: Any) -> int:
    """Return how often Accelerate steps its scheduler after an update: once for each process."""
    if scheduler is unwrapped(scheduler) or not getattr(scheduler, "step_with_optimizer", False):
        return 1
    if getattr(scheduler, "split_batches", False):
        return 1
    from accelerate.state import AcceleratorState

    return int(AcceleratorState().num_processes)


def _lead(rates: npt.NDArray[np.float64]) -> int:
    """Return the place of the first group that learns."""
    return int(np.argmax(rates > 0.0))


def _base(group: dict[str, Any]) -> float:
    return float(group.get("initial_lr", group["lr"]))


def _is_tensor(value: Any) -> bool:
    return isinstance(value, torch.Tensor)


def _kept(value: Any) -> Any:
    return value.clone() if _is_tensor(value) else value


def _put(holder: dict[str, Any], key: str, value: Any) -> None:
    """Set a number, or fill the tensor that a capturable or compiled optimizer holds."""
    if _is_tensor(holder[key]):
        holder[key].fill_(float(value))
    else:
        holder[key] = value


def _scaled(value: Any, pairs: list[tuple[float, float]], lead: tuple[float, float]) -> Any:
    """Return the learning rates at the new peaks, ``None`` for what is none."""
    if isinstance(value, (list, tuple)):
        each = pairs if len(value) == len(pairs) else [lead] * len(value)
        found = [_scaled(one, [pair], pair) for one, pair in zip(value, each, strict=True)]
        if not found or any(one is None for one in found):
            return None
        return found if isinstance(value, list) else tuple(found)
    new, old = pairs[0] if len(pairs) == 1 else lead
    if _is_tensor(value) and value.is_floating_point():
        return new * (value / old)
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return new * (value / old)
    return None
