"""Losses and gradients of all trials on one batch: by ``vmap``, or by a trace of it.

``vmap`` and autograd decide anew at every step which kernels to call, which takes longer than
the kernels of a small model. :class:`GradientSource` lets ``make_fx`` write the calls down once
and repeats them on new batches, after comparing the trace with ``vmap`` on two batches.

Source of the idea: tracing to a list of primitive calls, R. Frostig, M. Johnson, C. Leary,
"Compiling machine learning programs via high-level tracing", SysML 2018.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch._guards import TracingContext, tracing
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.func import functional_call, vmap
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils import _pytree as pytree

from lrsearch.errors import InvalidArgument
from lrsearch.pytorch.loss import ComputeLoss
from lrsearch.pytorch.random_state import RandomState, read_random_state
from lrsearch.pytorch.vectorized.hidden_state import HiddenState
from lrsearch.pytorch.vectorized.layouts import Layouts

__all__ = ["GradientSource", "Gradients", "Objective", "traced"]

_log = logging.getLogger(__name__)

_TRACES = 4  # shapes of batches that get a trace of their own
_CLOSE = 2e-4  # of the largest entry of a trial: far above rounding, far below a wrong batch
_LARGEST_TRIED = 1_000_000  # elements; above it the overhead of a call no longer matters

Tensors = dict[str, Tensor]


@dataclass(frozen=True)
class Gradients:
    """What one batch says: losses ``(trials,)``, a gradient per parameter that has one."""

    losses: Tensor
    gradients: tuple[Tensor | None, ...]


class Objective:
    """``compute_loss(model, batch)`` for many sets of weights of one model at once.

    The model lends its code and its modes; while it is called, the trials' tensors take the
    place of its own, and leave it as it was afterwards.

    Args:
        model: whose code runs.
        compute_loss: its loss on a batch.
        beside: what else the loss uses.
    """

    def __init__(
        self, model: nn.Module, compute_loss: ComputeLoss, beside: Iterable[object] = ()
    ) -> None:
        self._module = _LossModule(model, compute_loss)
        self._hidden = HiddenState([model, *beside])

    def gradients(
        self,
        parameters: Tensors,
        buffers: Tensors,
        shared: Tensors,
        batch: Any,
        layouts: bool = False,
    ) -> Gradients:
        """Return losses and gradients; buffers that training changes are changed in place.

        Args:
            parameters: the trained parameters by name, ``(trials, *shape)`` each.
            buffers: the buffers that training changes, likewise.
            shared: the model's other tensors, one for all trials.
            batch: what ``compute_loss`` takes, on the model's device; the same for all trials.
            layouts: whether to write layers as in :mod:`.layouts`.
        """
        leaves = list(parameters.values())
        with torch.enable_grad():
            losses = self._losses(parameters, buffers, shared, batch, layouts)
            if losses.dtype != leaves[0].dtype:
                raise RuntimeError(f"losses in {losses.dtype}, parameters in {leaves[0].dtype}")
            ones = torch.ones(len(losses), dtype=losses.dtype, device=losses.device)
            gradients = torch.autograd.grad(losses, leaves, ones, allow_unused=True)
        if any(g is not None and g.layout is not torch.strided for g in gradients):
            raise RuntimeError("a gradient is sparse")
        return Gradients(losses.detach(), gradients)

    def checked(self, parameters: Tensors, buffers: Tensors, shared: Tensors, batch: Any) -> Any:
        """Return the same, after making sure that a forward pass changes nothing else.

        Raises:
            HiddenStateChanged: it changes attributes of the model or its own batch.
        """
        copies = [leaf.clone() for leaf in _parts(batch)[0]]
        before = [copy._version for copy in copies]
        with self._hidden.unchanged():
            found = self.gradients(parameters, buffers, shared, _with(batch, copies))
        if [copy._version for copy in copies] != before:
            raise RuntimeError("the forward pass writes to its batch")
        return found

    def values(self, parameters: Tensors, buffers: Tensors, shared: Tensors, batch: Any) -> Tensor:
        """Return the losses ``(trials,)`` without gradients."""
        with torch.no_grad(), self._hidden.unchanged():
            return self._losses(parameters, buffers, shared, batch, layouts=True)

    def value(self, tensors: Tensors, batch: Any) -> Tensor:
        """Return the loss of one model with these tensors, without gradients."""
        with torch.no_grad():
            loss, replaced = self._module.loss_with(tensors, batch)
            for name, tensor in replaced.items():
                tensors[name].copy_(tensor)
        return loss

    def _losses(
        self, parameters: Tensors, buffers: Tensors, shared: Tensors, batch: Any, layouts: bool
    ) -> Tensor:
        def of_one_trial(own: Tensors, moving: Tensors) -> tuple[Tensor, Tensors]:
            with Layouts() if layouts else nullcontext():
                loss, replaced = self._module.loss_with({**shared, **own, **moving}, batch)
            if not replaced.keys() <= moving.keys():
                raise RuntimeError(f"the forward pass replaces the tensors {[*replaced]}")
            return loss, {**moving, **replaced}

        with _quiet():
            losses, after = vmap(of_one_trial, randomness="same")(parameters, buffers)
        for name, buffer in after.items():
            if buffer.data_ptr() != buffers[name].data_ptr():
                buffers[name].copy_(buffer.detach())
        return losses


class _LossModule(nn.Module):
    """A loss as a module, since ``functional_call`` swaps the tensors of a module."""

    def __init__(self, model: nn.Module, compute_loss: ComputeLoss) -> None:
        super().__init__()
        # A new module is in training mode, but setting a mode here would reach the model.
        self.model = model
        self._compute_loss = compute_loss
        names = {id(t): n for n, t in (*model.named_parameters(), *model.named_buffers())}
        # Every place that holds a tensor once: a tensor may be in two, a module have two names.
        self._places = [
            (f"{prefix}.{name}", names[id(tensor)])
            for prefix, module in model.named_modules(prefix="model")
            for name, tensor in (*module._parameters.items(), *module._buffers.items())
            if tensor is not None
        ]

    def forward(self, batch: Any) -> Tensor:
        loss = self._compute_loss(self.model, batch)
        if not isinstance(loss, Tensor) or loss.numel() != 1:
            raise InvalidArgument.of("loss", loss, "a scalar torch tensor")
        return loss.reshape(())

    def loss_with(self, tensors: Tensors, batch: Any) -> tuple[Tensor, Tensors]:
        """Return the loss, and the tensors by name that the forward pass puts in their places."""
        named = {place: tensors[name] for place, name in self._places}
        loss: Tensor = functional_call(self, named, (batch,), tie_weights=False)
        pairs = ((name, named[place]) for place, name in self._places)
        return loss, {name: now for name, now in pairs if now is not tensors[name]}


class _Trace:
    """The calls that one step makes; trusted once it agreed with ``vmap`` on two batches."""

    def __init__(self, run: Callable[..., Sequence[Tensor | None]]) -> None:
        self.run = run
        self.agreed = 0

    @property
    def trusted(self) -> bool:
        return self.agreed >= 2

    def __call__(self, *tensors: Tensor) -> Gradients:
        with torch.inference_mode():
            losses, *gradients = self.run(*tensors)
        assert losses is not None
        return Gradients(losses, tuple(gradients))


class GradientSource:
    """Losses and gradients of some trials on any batch.

    On the first batch of a shape ``vmap`` is traced. There and on the next batch, the trace is
    compared with ``vmap``: losses, gradients, buffers and random draws, trial by trial. Only a
    trace that agrees is used from then on. Code that a trace cannot hold (numbers read out of
    tensors, Python's or NumPy's random numbers) is run by ``vmap`` throughout.

    Args:
        objective: the loss.
        parameters: the trained parameters by name, ``(trials, *shape)`` each.
        buffers: the buffers that training changes, likewise.
        shared: the model's other tensors, one for all trials.

    Attributes:
        settled: whether every shape of batch seen so far has found the way it will go on.
    """

    def __init__(
        self, objective: Objective, parameters: Tensors, buffers: Tensors, shared: Tensors
    ) -> None:
        self._objective = objective
        self._tensors = (parameters, buffers, shared)
        self._own = [*parameters.values(), *buffers.values()]
        self._traces: dict[Hashable, _Trace | None] = {}
        self._seen: set[Hashable] = set()
        self.settled = True

    def __call__(self, batch: Any) -> Gradients:
        """Return losses and gradients on ``batch``, changing buffers as training does."""
        leaves, key = _parts(batch)
        trace = self._traces.get(key)
        if trace is not None and trace.trusted:
            return trace(*self._own, *leaves)
        if not self._worth_a_trace(key):
            return self.by_vmap(batch)
        found = self._compared(key, batch)
        self.settled = all(trace is None or trace.trusted for trace in self._traces.values())
        return found

    def by_vmap(self, batch: Any) -> Gradients:
        """Return what ``vmap`` finds, without a trace."""
        found: Gradients = self._objective.checked(*self._tensors, batch)
        return found

    def _worth_a_trace(self, key: Hashable) -> bool:
        if key in self._traces:
            return self._traces[key] is not None
        if key is None or len(self._traces) >= _TRACES:
            return False
        first = not self._traces or key in self._seen
        self._seen.add(key)  # a shape that comes once is not worth a trace
        return first

    def _compared(self, key: Hashable, batch: Any) -> Gradients:
        """Return what ``vmap`` finds on a batch, and note whether the trace says the same."""
        buffers = list(self._tensors[1].values())
        before = _Left.by(buffers)
        theirs = self.by_vmap(batch)
        after = _Left.by(buffers)
        trace = self._traces.setdefault(key, None)
        try:
            before.restore()
            trace = trace or _Trace(self._traced(batch, before))
            ours = trace(*self._own, *_parts(batch)[0])
            agrees = _agree(ours, theirs, _Left.by(buffers), after)
        except Exception as error:
            # Whatever stops a trace, vmap alone decides whether trials can be batched.
            agrees = False
            _log.debug("no trace: %s", error)
        finally:
            after.restore()
        if trace is not None:
            trace.agreed += agrees
        self._traces[key] = trace if agrees else None
        return theirs

    def _traced(self, batch: Any, before: _Left) -> Callable[..., Sequence[Tensor | None]]:
        parameters, buffers, shared = self._tensors
        first, second = len(parameters), len(self._own)

        def step(*tensors: Tensor) -> list[Tensor | None]:
            found = self._objective.gradients(
                dict(zip(parameters, tensors[:first], strict=True)),
                dict(zip(buffers, tensors[first:second], strict=True)),
                shared,
                _with(batch, tensors[second:]),
                layouts=True,
            )
            return [found.losses, *found.gradients]

        return traced(step, [*self._own, *_parts(batch)[0]], len(self._own), before.restore)


@dataclass(frozen=True)
class _Left:
    """What a step leaves behind besides its results: buffers and random states."""

    buffers: list[tuple[Tensor, Tensor]]
    random: RandomState

    @classmethod
    def by(cls, buffers: Sequence[Tensor]) -> _Left:
        return cls([(buffer, buffer.clone()) for buffer in buffers], read_random_state())

    def restore(self) -> None:
        for buffer, value in self.buffers:
            buffer.copy_(value)
        self.random.restore()

    def draws(self) -> list[Any]:
        """Return the random states in a form that can be compared."""
        numpy = self.random.numpy["state"]
        tensors = (self.random.torch_cpu, *self.random.torch_cuda)
        return [
            self.random.python,
            *(part.tobytes() if hasattr(part, "tobytes") else part for part in numpy.values()),
            *(tensor.tolist() for tensor in tensors),
        ]


def _agree(ours: Gradients, theirs: Gradients, our_end: _Left, their_end: _Left) -> bool:
    """Compare trial by trial, by the largest entry; trials that have diverged do not count."""
    pairs = list(zip(ours.gradients, theirs.gradients, strict=True))
    if any((one is None) != (other is None) for one, other in pairs):
        return False
    finite = torch.isfinite(theirs.losses)
    given = [(one, other) for one, other in pairs if one is not None and other is not None]
    kept = zip(our_end.buffers, their_end.buffers, strict=True)
    groups = [
        [(ours.losses, theirs.losses)],
        given,
        *([(one, other)] for (_, one), (_, other) in kept),
    ]
    return our_end.draws() == their_end.draws() and all(_close(group, finite) for group in groups)


def _close(pairs: Sequence[tuple[Tensor, Tensor]], trials: Tensor) -> bool:
    """Whether tensors ``(trials, ...)`` agree where the second ones are finite."""
    apart = torch.zeros(int(trials.sum()), dtype=torch.float64, device=trials.device)
    largest = torch.zeros_like(apart)
    for pair in pairs:
        one, other = (tensor[trials].double().unsqueeze(1).flatten(1) for tensor in pair)
        if other.numel():
            usable = torch.isfinite(other)
            gap = torch.where(usable, (one - other).abs(), 0.0)
            apart = torch.maximum(apart, gap.amax(1))
            largest = torch.maximum(largest, torch.where(usable, other.abs(), 0.0).amax(1))
    return bool((apart <= _CLOSE * largest).all())


# ------------------------------------------------------------------------- traces made short


def traced(
    function: Callable[..., Any],
    inputs: Sequence[Tensor],
    own: int | None,
    undo: Callable[[], None] = lambda: None,
) -> Callable[..., Sequence[Tensor | None]]:
    """Return a function that makes the calls of ``function`` and nothing else.

    It computes constants once, takes views of the trials' own tensors once, since these are
    changed in place, and uses functions with a quicker binding than the generic one.

    Args:
        function: returns a list of tensors, or ``None`` in the place of some.
        inputs: what it is traced on.
        own: how many of them, the first ones, will be the very same tensors at every call;
            ``None`` leaves the trace as it is.
        undo: takes back what a call does to buffers and random states.
    """
    # One mode for the shapes that a trace notes down: make_fx would set one up per operation.
    shapes = TracingContext(FakeTensorMode(allow_fallback_kernels=True))
    with warnings.catch_warnings(), tracing(shapes):
        warnings.simplefilter("ignore")  # vmap has warned before
        module = make_fx(function)(*inputs)
    undo()
    if own is not None:
        with torch.inference_mode():
            _shorten(module, inputs, own)
        undo()
    forward: Callable[..., Sequence[Tensor | None]] = module.forward
    return forward


def _shorten(module: fx.GraphModule, inputs: Sequence[Tensor], own: int) -> None:
    interpreter = fx.Interpreter(module, garbage_collect_values=False)
    interpreter.run(*inputs)
    values = interpreter.env
    written = {_memory(values[node]) for node in _written(module.graph) if node in values}
    nodes = list(module.graph.nodes)
    same = {*nodes[:own], *(node for node in nodes if node.op == "get_attr")}  # the same memory
    constant: set[fx.Node] = set()  # the same numbers
    for node in nodes:
        value = values.get(node)
        if node.op != "call_function" or not isinstance(value, Tensor) or _acts(node):
            continue
        read = node.all_input_nodes
        earlier = _earlier(node, values)
        if earlier is not node:
            node.replace_all_uses_with(earlier)
            continue
        if constant.issuperset(read) and _memory(value) not in written:
            constant.add(node)
        if node in constant or (_is_view(node) and read and same.issuperset(read)):
            same.add(node)
            name = f"kept_{node.name}"
            setattr(module, name, value)
            node.op, node.target, node.args, node.kwargs = "get_attr", name, (), {}
        elif value.numel() <= _LARGEST_TRIED:
            node.target = _quickest(node, values, value)
    for node in reversed(nodes):
        if not node.users and node.op in ("get_attr", "call_function") and not _acts(node):
            module.graph.erase_node(node)
    module.recompile()


def _acts(node: fx.Node) -> bool:
    """Whether a node does more than compute its results: it writes, or draws."""
    function = node.target
    if not isinstance(function, torch._ops.OpOverload):
        return node.op == "call_function"
    return function._schema.is_mutable or torch.Tag.nondeterministic_seeded in function.tags


def _written(graph: fx.Graph) -> Iterator[fx.Node]:
    for node in graph.nodes:
        if isinstance(node.target, torch._ops.OpOverload) and node.target._schema.is_mutable:
            yield from node.all_input_nodes


def _is_view(node: fx.Node) -> bool:
    function = node.target
    if not isinstance(function, torch._ops.OpOverload):
        return False
    return function.is_view or function is torch.ops.aten._unsafe_view.default


def _earlier(node: fx.Node, values: dict[fx.Node, Any]) -> fx.Node:
    """Return the first of the views that led to this one which is the same view already."""
    found = source = node
    while _is_view(source) and len(source.all_input_nodes) == 1:
        source = source.all_input_nodes[0]
        if _place(values[source]) == _place(values[node]):
            found = source
    return found


def _place(value: Any) -> tuple[Any, ...]:
    # Strides of axes of length one count too: they decide which kernel a product takes.
    return (value.data_ptr(), value.shape, value.stride(), value.dtype)


def _memory(value: Any) -> int | None:
    return value.untyped_storage().data_ptr() if isinstance(value, Tensor) else None


def _quickest(node: fx.Node, values: dict[fx.Node, Any], expected: Tensor) -> Any:
    """Return a function that people call which gives the same bits, or else the generic one."""
    name = node.target._schema.name.partition("::")[2]  # type: ignore[union-attr]
    name = {"_unsafe_view": "view", "_to_copy": "to"}.get(name, name)
    args, kwargs = fx.node.map_arg((node.args, node.kwargs), values.__getitem__)
    for owner in (torch, Tensor, torch._C._nn):
        function = getattr(owner, name, None)
        if not callable(function):
            continue
        try:
            found = function(*args, **kwargs)
        except (TypeError, RuntimeError, ValueError, IndexError):
            continue
        if _identical(found, expected):
            return function
    return node.target


def _identical(one: Any, other: Tensor) -> bool:
    if not isinstance(one, Tensor) or one.dtype != other.dtype or one.shape != other.shape:
        return False
    return one.stride() == other.stride() and torch.equal(one, other)


def _parts(batch: Any) -> tuple[list[Tensor], Hashable]:
    """Return the distinct tensors of a batch, and what must be the same for a trace to fit.

    The latter is ``None`` where no trace can fit.
    """
    if type(batch) in (tuple, list) and all(isinstance(item, Tensor) for item in batch):
        items, structure = batch, type(batch).__name__  # the usual batch, without a tree
    else:
        items, tree = pytree.tree_flatten(batch)
        structure = str(tree)
    tensors: dict[int, Tensor] = {}
    key: list[Hashable] = [structure]
    traceable = True
    for item in items:
        if isinstance(item, Tensor):
            if id(item) in tensors:
                key.append(list(tensors).index(id(item)))
            tensors[id(item)] = item
            key += (item.shape, item.stride(), item.dtype, item.device)
        else:
            traceable &= isinstance(item, (bool, int, float, str, bytes, type(None)))
            key.append(repr(item))
    return list(tensors.values()), tuple(key) if traceable else None


def _with(batch: Any, tensors: Sequence[Tensor]) -> Any:
    """Return a batch like this one with other tensors in the places of its distinct ones."""
    given = {id(old): new for old, new in zip(_parts(batch)[0], tensors, strict=True)}
    return pytree.tree_map_only(Tensor, lambda old: given[id(old)], batch)


@contextmanager
def _quiet() -> Iterator[None]:
    """Leave unsaid that some operation has no batched kernel: how fast it is gets measured."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="There is a performance drop")
        yield
