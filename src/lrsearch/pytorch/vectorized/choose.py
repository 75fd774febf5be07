"""Can trials be batched, and is that faster? A few steps of each way show it."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from lrsearch.core.trainable import LanesFailed, TooManyLanes
from lrsearch.pytorch.object_state import ObjectState
from lrsearch.pytorch.vectorized.optimizers import RULES
from lrsearch.pytorch.vectorized.trials import BatchedTrials, Recipe, failures

__all__ = ["Choice", "Trial"]

_log = logging.getLogger(__name__)

_FEWEST = 1000  # steps of all trials in the first group that is worth measuring on
_ROUNDS = 3  # of measuring one step each way
# Of the time of sequential trials that batched ones may take, setting up included: a few steps on a
# busy machine tell it to a quarter, and what is sequential must not become slower.
_GAIN = 0.75
_HEAVY = 3e-3  # seconds of a sequential step in which calling the kernels hardly counts
_PASSES = 10.0  # steps by vmap that tracing, comparing and measuring take together
_CALLS = 12.0  # sequential steps that one by vmap of a small model may take: mere overhead
_LOOPS = 1.5  # times slower than sequential steps: an operation that loops over the trials
_SHARE = 0.25  # of the memory: what the trials' parameters and their copies may take

Trial = Callable[[], AbstractContextManager[Callable[[float], float]]]

_SLOWER = "measured: together they are no faster"
_SHORT = "too few updates for lanes to be worth setting up"


@dataclass(frozen=True)
class _Sequential:
    """What single steps of the training have shown."""

    seconds: float
    moving: frozenset[str]  # the buffers that they change
    changed: tuple[str, ...]  # attributes that they change besides: trials would mix them up


@dataclass(frozen=True)
class _Batched:
    """What batched trials have shown: seconds of setting them up, and of one step of all."""

    count: int
    setup: float
    step: float


class Choice:
    """Decides, and remembers for one training what was measured.

    Args:
        recipe: returns the training as it is now; its ``moving`` is filled in here.
        trial: a context that gives a function making one step at a learning rate, and takes
            all steps back in the end.
        watch: remembers what a step may change besides weights, buffers and the optimizer.
        always: batch trials whenever that is possible, without measuring.

    Attributes:
        why_not: why the last call of :meth:`trials` returned ``None``.
    """

    def __init__(
        self,
        recipe: Callable[[], Recipe],
        trial: Trial,
        watch: Callable[[], ObjectState],
        always: bool = False,
    ) -> None:
        self._recipe = recipe
        self._trial = trial
        self._watch = watch
        self._always = always
        self._sequential: _Sequential | None = None
        self._batched: _Batched | None = None
        self._refused: dict[str, int] = {}  # reasons, with the most trials they were found for
        self.why_not = ""

    def trials(self, count: int, steps: int) -> BatchedTrials | None:
        """Return batched trials when they beat ``count`` sequential ones of ``steps`` steps.

        Raises:
            TooManyLanes: fewer may be.
        """
        found = None
        try:
            with failures():
                found = self._chosen(count, steps)
        except TooManyLanes:
            raise
        except LanesFailed as failure:
            self._refuse(f"the model cannot be batched over lanes: {failure}", count)
        if found is None:
            _log.debug("trials one at a time: %s", self.why_not)
        return found

    def _chosen(self, count: int, steps: int) -> BatchedTrials | None:
        recipe = self._recipe()
        self.why_not = _impossible(recipe) or self._not_worth_it(recipe, count, steps) or ""
        if self.why_not:
            return None
        full = _too_many(recipe.optimizer, count)
        if full is not None:
            raise TooManyLanes(full)
        shown = self._look(recipe)
        if shown.changed:
            raise LanesFailed(f"a step changes {', '.join(shown.changed[:3])}")
        batched = BatchedTrials(replace(recipe, moving=shown.moving), count)
        try:
            known = self._always or self._batched is not None
            if known or self._is_faster(batched, count, steps):
                return batched
        except BaseException:
            batched.close()
            raise
        batched.close()
        self._refuse(_SLOWER, count)
        return None

    def _refuse(self, why: str, count: int) -> None:
        self.why_not = why
        self._refused[why] = max(count, self._refused.get(why, 0))

    def _not_worth_it(self, recipe: Recipe, count: int, steps: int) -> str | None:
        """Say what is known without building batched trials."""
        if self._always:
            return None
        for reason, most in self._refused.items():
            if count <= most:
                return reason
        if count < 2:
            return _SHORT
        if self._batched is None:
            return _SHORT if count * steps < _FEWEST else None
        expected = self._batched.step * max(1.0, count / self._batched.count)
        sequential = steps * count * self._look(recipe).seconds
        worth_it = self._batched.setup + steps * expected < _GAIN * sequential
        return None if worth_it else _SHORT

    def _look(self, recipe: Recipe) -> _Sequential:
        """Time a single step, and see which buffers it changes."""
        if self._sequential is None:
            before = {name: buffer.clone() for name, buffer in recipe.model.named_buffers()}
            with self._trial() as step:
                step(0.0)  # the first one also makes what the optimizer keeps
                moving = frozenset(
                    name
                    for name, buffer in recipe.model.named_buffers()
                    if name not in before or not torch.equal(buffer, before[name])
                )
                before_two = self._watch()
                seconds = min(_timed(lambda: step(0.0)) for _ in range(2))
                changed = tuple(before_two.changed())
            self._sequential = _Sequential(seconds, moving, changed)
        return self._sequential

    def _is_faster(self, batched: BatchedTrials, count: int, steps: int) -> bool:
        """Measure both ways, as little as the answer needs: steps of large models are dear."""
        with self._trial() as step:
            alone = min(_timed(lambda: step(0.0)) for _ in range(2))
            if not _promises(batched, count, steps, alone):
                return False
            began = time.perf_counter()
            batched.step([0.0] * count)
            for _ in range(_ROUNDS):
                if not batched.settled:
                    batched.step([0.0] * count)
            setup = time.perf_counter() - began
            together, sequential = [], [alone]
            for _ in range(_ROUNDS):
                together.append(_timed(lambda: batched.step([0.0] * count)))
                sequential.append(_timed(lambda: step(0.0)))
        batched.reset()
        best = min(together)
        _log.debug("%d trials: %.3g s batched, %.3g s alone", count, best, min(sequential))
        if best >= _GAIN * count * min(sequential):
            return False
        self._batched = _Batched(count, setup, best)
        return True


def _promises(batched: BatchedTrials, count: int, steps: int, alone: float) -> bool:
    """Whether a step by ``vmap`` leaves hope that traced ones, which are faster, pay off."""

    def hope(seconds: float) -> bool:
        if alone > _HEAVY:
            return (steps + _PASSES) * seconds < _GAIN * steps * count * alone
        return seconds < max(_LOOPS * count, _CALLS) * alone

    # The first time in a process something is loaded, and a busy machine interrupts.
    tries = 2 if alone > _HEAVY else 4
    return any(hope(_timed(batched.rehearse)) for _ in range(tries))


def _timed(action: Callable[[], object]) -> float:
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


# -------------------------------------------------------------------------- what is impossible


def _impossible(recipe: Recipe) -> str | None:
    """Return why this cannot be batched, ``None`` if nothing speaks against it.

    Nothing is run: whether ``vmap`` can batch the model shows when it is tried.
    """
    if recipe.grad_scaler is not None:
        return "a gradient scaler decides for one run at a time which updates to skip"
    device = next(recipe.model.parameters()).device
    if recipe.autocast or torch.is_autocast_enabled(device.type):
        return "autocast does not reach every operation that vmap takes apart"
    if recipe.clip_grad_value is not None:
        return "gradients are clipped by value for one run at a time"
    return _of_optimizer(recipe.model, recipe.optimizer) or _of_model(recipe.model)


def _of_optimizer(model: nn.Module, optimizer: torch.optim.Optimizer) -> str | None:
    name = type(optimizer).__name__
    if type(optimizer) not in RULES:
        known = ", ".join(rule.__name__ for rule in RULES)
        return f"{name} has no update for many lanes (there is one for {known})"
    step = vars(optimizer).get("step")
    if step is not None and not hasattr(step, "_wrapped_by_lr_sched"):
        return f"the step function of this {name} was replaced"
    hooks = ("_optimizer_step_pre_hooks", "_optimizer_step_post_hooks")
    if any(getattr(optimizer, hook, None) for hook in hooks):
        return f"this {name} has step hooks"
    if any(group.get("differentiable") for group in optimizer.param_groups):
        return f"this {name} is differentiable"
    ours = {id(parameter) for parameter in model.parameters()}
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            if parameter.requires_grad and id(parameter) not in ours:
                return "the optimizer also trains parameters that are not in the model"
            if parameter.is_complex() or parameter.is_sparse:
                return f"parameters of type {parameter.dtype}, {parameter.layout}"
    return None


_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


def _of_model(model: nn.Module) -> str | None:
    for name, module in model.named_modules():
        where = f"module {name!r}" if name else "the model"
        if isinstance(module, torch.jit.ScriptModule):
            return f"{where} is a TorchScript module"
        if hasattr(module, "_orig_mod") or vars(module).get("_compiled_call_impl"):
            return f"{where} was compiled by torch.compile"
        if isinstance(module, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
            return f"{where} is spread over devices"
        if any(vars(module).get(hooks) for hooks in _HOOKS):
            return f"{where} has hooks, which would see all lanes at once"
    tensors: list[Tensor] = [*model.parameters(), *model.buffers()]
    if len({tensor.device for tensor in tensors}) > 1:
        return "the model is spread over devices"
    if any(p._backward_hooks or getattr(p, "_post_accumulate_grad_hooks", None) for p in tensors):
        return "a parameter has hooks, which would see all lanes at once"
    return None


def _too_many(optimizer: torch.optim.Optimizer, count: int) -> str | None:
    """Return why so many trials will not fit into memory, ``None`` if they may."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    copies = 4  # values, gradients, two moments
    wanted = copies * count * sum(p.numel() * p.element_size() for p in parameters)
    device = parameters[0].device
    if device.type == "cuda":
        there = torch.cuda.get_device_properties(device).total_memory
    elif "SC_PHYS_PAGES" in os.sysconf_names:
        there = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    else:
        return None
    if wanted <= _SHARE * there:
        return None
    return f"{count} lanes of these parameters would take {wanted / 2**30:.1f} GiB"
