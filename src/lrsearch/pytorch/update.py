"""One optimizer update: the gradient of its micro-batches, clipped, scaled, and the step."""

from __future__ import annotations

import inspect
import logging
import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from lrsearch.core.validation import positive, whole
from lrsearch.errors import During, InvalidArgument, Words, add_note
from lrsearch.pytorch.batches import BatchStream
from lrsearch.pytorch.distributed import ALONE, Ranks
from lrsearch.pytorch.loss import checked_loss, number_of

__all__ = [
    "Clipping",
    "OwnUpdate",
    "PassedOver",
    "TrainStep",
    "Updater",
    "drop_gradients",
    "needs_closure",
]

# (model, optimizer, batch) -> loss: makes a whole update; optimizer is what the user gave.
TrainStep = Callable[[nn.Module, Any, Any], Tensor | float | None]

_log = logging.getLogger(__name__)

_LARGEST = 3e38  # bound of a gradient that single precision can hold
_SKIPS = 32  # in a row: a loss scale that is 2^32 too large is not the reason
_LOSS = During("computing the loss")
_BACKWARD = During("computing the gradients")
_STEP = During("stepping the optimizer")
_TRAIN_STEP = During("calling train_step")
_MOST_PASSED = 1000  # batches without a loss in a row, of data without a known end


@dataclass(frozen=True)
class Clipping:
    """Bounds of the gradient, each as torch's function of that name applies it.

    Args:
        value: the largest size of an element (``clip_grad_value_``), or ``None``.
        norm: the largest norm of the whole, after that (``clip_grad_norm_``), or ``None``.
    """

    value: float | None = None
    norm: float | None = None

    def __post_init__(self) -> None:
        for name in ("value", "norm"):
            bound = getattr(self, name)
            if bound is not None:
                bound = positive(f"clip_grad_{name}", bound, most=_LARGEST)
            object.__setattr__(self, name, bound)

    def __bool__(self) -> bool:
        return self.value is not None or self.norm is not None

    def __call__(self, parameters: Sequence[Tensor]) -> None:
        """Clip the gradients of ``parameters`` in place."""
        if self.value is not None:
            nn.utils.clip_grad_value_(parameters, self.value)
        if self.norm is not None:
            nn.utils.clip_grad_norm_(parameters, self.norm)


@dataclass(frozen=True)
class _Way:
    """How an optimizer wants to be called.

    Attributes:
        gradients: whether they are made before the step.
        closure: whether the step is given a function that makes them again.
        graph: whether they keep the graph that they were made by.
    """

    gradients: bool = True
    closure: bool = False
    graph: bool = False


_PLAIN = _Way()
_CLOSURE_ALONE = _Way(gradients=False, closure=True)  # LBFGS: its first call makes them
_CLOSURE = _Way(closure=True)  # sharpness-aware minimisation: it begins from them
_GRAPH = _Way(graph=True)  # second-order methods that differentiate the gradient


class Updater:
    """Makes updates of one optimizer or several, as the planned run will make them.

    How an optimizer of somebody else's wants to be called cannot be read from its signature:
    most that need a closure say ``closure=None``. So the first step is tried without, and where
    it raises, :meth:`another_way` says whether there is something else to try from the same
    state: a closure, or gradients with a graph.

    Args:
        optimizers: what steps, one after the other, by the same gradients.
        loss_of: the loss of a batch; ``None`` to pass over it.
        beside: parameters outside the optimizers that get gradients too.
        accumulate: micro-batches per update; fewer at the end of a pass over the data.
        clipping: bounds of the gradient.
        scaler: the loss scaler, if there is one.
        ranks: the processes that train together.

    Raises:
        InvalidArgument: ``accumulate`` is no number from 1, or an optimizer needs a closure
            and there is a loss scaler, which torch cannot combine.
    """

    def __init__(
        self,
        optimizers: Sequence[torch.optim.Optimizer],
        loss_of: Callable[[Any], Tensor | None],
        *,
        beside: Iterable[Tensor] = (),
        accumulate: int = 1,
        clipping: Clipping = Clipping(),
        scaler: torch.amp.GradScaler | None = None,
        ranks: Ranks = ALONE,
    ) -> None:
        self._optimizers = tuple(optimizers)
        self._loss_of = loss_of
        self._accumulate = whole("accumulate", accumulate, 1)
        self._clipping = clipping
        self._scaler = scaler
        self._ranks = ranks
        wanting = [type(one).__name__ for one in optimizers if needs_closure(one)]
        scaled = scaler is not None and scaler.is_enabled()
        if wanting and scaled:
            raise InvalidArgument.of(
                "grad_scaler",
                Words(f"a scaler with {wanting[0]}, which needs a closure"),
                "None",
                "Train in bfloat16 or float32, which need no scaler.",
            )
        self._ways = [_PLAIN] if scaled else _ways(self._optimizers)
        self._stepping = False
        self._refused: list[Exception] = []  # by what was tried first
        self._parameters = [p for one in optimizers for g in one.param_groups for p in g["params"]]
        self._graded = list({id(p): p for p in (*self._parameters, *beside)}.values())
        self.passes_over = False  # whether any batch has been passed over

    def __call__(self, batches: BatchStream) -> float:
        """Make one update on the next batches; return their mean loss before it.

        An update that the loss scaler skips is tried again on the batches after them, at the
        same learning rate: the loss is that of the batches the update was made on. Batches
        without a loss are passed over.
        """
        skips = 0
        passed = PassedOver(batches)
        while skips < _SKIPS:
            with ExitStack() as uncompiled:
                for optimizer in self._optimizers:
                    uncompiled.enter_context(_uncompiled_step(optimizer))
                loss, made = self._attempt(batches.group(self._accumulate), passed)
            # Dropped at once: a snapshot taken now should not hold gradients.
            drop_gradients(self._graded)
            if loss is None:
                self.passes_over = True
                passed.check()
            elif made or not math.isfinite(loss):
                self._ways, self._refused = self._ways[:1], []
                return loss
            else:
                skips += 1
                passed = PassedOver(batches)
        _log.warning("the loss scaler skipped %d updates in a row", _SKIPS)
        return math.nan

    def another_way(self, error: Exception) -> bool:
        """Whether the step that raised ``error`` may be made in another way; then that is next."""
        if not self._stepping or len(self._ways) < 2:
            return False
        self._refused.append(error)
        del self._ways[0]
        return True

    def first_refusal(self, error: Exception) -> Exception:
        """Return the error to show: that of the plain step when no other way helped."""
        if not self._refused:
            return error
        first, *others = [*self._refused, error]
        tried = "; ".join(f"{type(other).__name__}: {other}" for other in others)
        add_note(
            first,
            "lrsearch: the step was also tried with a closure or with gradients that keep their "
            f"graph ({tried}). Pass train_step=..., a function (model, optimizer, batch) -> loss "
            "that makes the whole update, if it is to be called in a way of its own.",
        )
        return first

    def _attempt(
        self, group: Iterable[tuple[Any, bool]], passed: PassedOver
    ) -> tuple[float | None, bool]:
        """Return the loss, ``None`` without one, and whether there was an update."""
        way, self._stepping = self._ways[0], False
        group = passed.counted(group)
        if way.closure:
            return self._with_closure(list(group), way), True
        loss = self._gradients(group, way.graph)
        if loss is None:
            return None, False
        if self._scaler is None:
            self._clipping(self._parameters)
            self._step()
            return loss, True
        scale = self._scaler.get_scale()
        if self._clipping:
            for optimizer in self._optimizers:
                self._scaler.unscale_(optimizer)
            self._clipping(self._parameters)
        with _STEP:
            for optimizer in self._optimizers:
                self._scaler.step(optimizer)
        self._scaler.update()
        # The scale falls when gradients overflowed and never otherwise.
        return loss, self._scaler.get_scale() >= scale

    def _with_closure(self, group: Sequence[tuple[Any, bool]], way: _Way) -> float | None:
        """Let the optimizer evaluate the same batches as often as it wants."""
        losses: list[float] = []

        def closure() -> Tensor:
            loss = self._gradients(group, way.graph)
            if loss is None:
                raise _Nothing
            losses.append(loss)
            self._clipping(self._parameters)
            return torch.tensor(loss)

        try:
            if way.gradients:
                closure()
            self._step(closure)
        except _Nothing:
            return None  # before anything was stepped
        return losses[0]

    def _step(self, closure: Callable[[], Tensor] | None = None) -> None:
        self._stepping = True
        with _STEP:
            for optimizer in self._optimizers:
                if closure is not None and _takes_closure(optimizer):
                    optimizer.step(closure)  # type: ignore[arg-type]
                else:
                    optimizer.step()
        self._stepping = False

    def _gradients(self, group: Iterable[tuple[Any, bool]], graph: bool = False) -> float | None:
        """Set the gradients to those of the mean loss of the group, and return that loss."""
        losses: list[float] = []
        with torch.enable_grad():
            self._clear()
            for batch, last in self._ranks.group(group):
                with self._ranks.micro_batch(last):
                    with _LOSS:
                        found = self._loss_of(batch)
                        if found is None and not self._ranks.many:
                            continue
                        loss = checked_loss(found)
                    share = loss / self._accumulate if self._accumulate > 1 else loss
                    self._ranks.ready(last)
                    scaled = share if self._scaler is None else self._scaler.scale(share)
                    with _BACKWARD, _silent_about_graphs(graph):
                        scaled.backward(create_graph=graph)  # type: ignore[no-untyped-call]
                losses.append(loss.item())
        if not losses:
            return None
        if len(losses) < self._accumulate:
            grads = [p.grad for p in self._graded if p.grad is not None]
            torch._foreach_mul_(grads, self._accumulate / len(losses))
        return self._ranks.mean(sum(losses) / len(losses))

    def _clear(self) -> None:
        """Call ``zero_grad`` as any loop does: optimizers may count on it, or do more in it.

        The gradients are dropped before, so that no ``zero_grad`` writes zeros into the user's.
        """
        drop_gradients(self._graded)
        for optimizer in self._optimizers:
            if hasattr(optimizer, "zero_grad"):  # some wrappers have none
                optimizer.zero_grad()


class OwnUpdate:
    """Makes updates by the user's ``train_step(model, optimizer, batch) -> loss``.

    Args:
        train_step: makes a whole update; returns its loss, or ``None`` to pass over a batch.
        model, optimizer: what it is called with, as they were given.
        prepared: moves a batch to where the model is.
        graded: the parameters that may have gradients; none outlives an update.
        rates: the learning rates that are there now.
        ranks: the processes that train together.
    """

    def __init__(
        self,
        train_step: TrainStep,
        model: nn.Module,
        optimizer: Any,
        *,
        prepared: Callable[[Any], Any],
        graded: Iterable[Tensor],
        rates: Callable[[], list[float]],
        ranks: Ranks = ALONE,
    ) -> None:
        self._train_step = train_step
        self._model, self._optimizer = model, optimizer
        self._prepared = prepared
        self._graded = list({id(p): p for p in graded}.values())
        self._rates = rates
        self._ranks = ranks

    def __call__(self, batches: BatchStream) -> float:
        """Let it make one update, on the next batch that it does not pass over."""
        passed = PassedOver(batches)
        while True:
            rates = self._rates()
            ((batch, _),) = self._ranks.group(passed.counted(batches.group(1)))
            drop_gradients(self._graded)
            with _TRAIN_STEP, torch.enable_grad():
                given = self._train_step(self._model, self._optimizer, self._prepared(batch))
            drop_gradients(self._graded)
            if given is not None or self._ranks.many:
                self._check_rates(rates)
                return self._ranks.mean(number_of("train_step", given))
            passed.check()

    def _check_rates(self, before: list[float]) -> None:
        """The learning rate of the curve must be the one that was used."""
        after = self._rates()
        if after != before:
            raise InvalidArgument.of(
                "train_step",
                Words(f"a function that changes the learning rates ({before} became {after})"),
                "one that leaves them alone",
                "The search sets them: leave scheduler.step() out, and pass schedule=... .",
            )


class PassedOver:
    """Counts batches without a loss, so that data without any do not train for ever.

    Args:
        batches: where they come from.
    """

    def __init__(self, batches: BatchStream) -> None:
        self._pass = batches.pass_length or _MOST_PASSED
        self._name = batches.name
        self._read = 0

    def counted(self, group: Iterable[tuple[Any, bool]]) -> Iterator[tuple[Any, bool]]:
        """Yield the group, counting its batches."""
        for one in group:
            self._read += 1
            yield one

    def check(self) -> None:
        """Raise if as many batches as a pass has, or very many, had no loss.

        Raises:
            InvalidArgument: so it is.
        """
        if self._read >= min(self._pass, _MOST_PASSED):
            raise InvalidArgument.of(
                "loss",
                Words(f"None for each of {self._read} batches in a row of {self._name}"),
                "a loss for at least one batch of every pass",
                "None passes over a batch. Does the function return its loss?",
            )


def drop_gradients(parameters: Iterable[Tensor]) -> None:
    """Take the gradients away, leaving those tensors themselves as they are."""
    for parameter in parameters:
        parameter.grad = None


class _Nothing(Exception):
    """No batch of the update has a loss."""


@contextmanager
def _silent_about_graphs(graph: bool) -> Iterator[None]:
    """Leave unsaid that gradients with a graph keep each other alive: they are dropped."""
    if not graph:
        yield
        return
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Using backward.. with create_graph=True")
        yield


@contextmanager
def _uncompiled_step(optimizer: torch.optim.Optimizer) -> Iterator[None]:
    """Let a step that the user gave to ``torch.compile`` run as it is.

    Compiled code is bound to the very tensors of the optimizer's state, and to a learning rate
    that is a float: it would be compiled anew for every lane.
    """
    compiled = vars(optimizer).get("step")
    plain = getattr(compiled, "_torchdynamo_orig_callable", None)
    if plain is None:
        yield
        return
    vars(optimizer)["step"] = plain
    try:
        yield
    finally:
        vars(optimizer)["step"] = compiled


def needs_closure(optimizer: torch.optim.Optimizer) -> bool:
    """Whether the optimizer's step must be given a function that evaluates the loss again."""
    closure = _parameters_of_step(optimizer).get("closure")
    return closure is not None and closure.default is inspect.Parameter.empty


def _ways(optimizers: Sequence[torch.optim.Optimizer]) -> list[_Way]:
    """Return how the optimizers may want to be called, the likeliest way first."""
    known = all(_is_of_torch(optimizer) for optimizer in optimizers)
    if any(needs_closure(optimizer) for optimizer in optimizers):
        return [_CLOSURE_ALONE] if known and len(optimizers) == 1 else [_CLOSURE]
    if known:
        return [_PLAIN]
    if any(_takes_closure(optimizer) for optimizer in optimizers):
        return [_PLAIN, _CLOSURE, _GRAPH]
    return [_PLAIN, _GRAPH]


def _is_of_torch(optimizer: torch.optim.Optimizer) -> bool:
    """Whether the step is torch's own, which says what it needs."""
    return str(getattr(type(optimizer).step, "__module__", "")).startswith("torch.optim")


def _takes_closure(optimizer: torch.optim.Optimizer) -> bool:
    parameters = _parameters_of_step(optimizer)
    open_ended = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return "closure" in parameters or any(p.kind in open_ended for p in parameters.values())


def _parameters_of_step(optimizer: torch.optim.Optimizer) -> Mapping[str, inspect.Parameter]:
    try:
        return inspect.signature(optimizer.step).parameters
    except (TypeError, ValueError):  # a step without a signature, such as one written in C
        return {}
