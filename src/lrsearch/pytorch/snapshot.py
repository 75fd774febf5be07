"""A copy of everything that training changes, put back in place, as often as asked.

What is reached from the model, its optimizer and what stands beside them is remembered by
:mod:`lrsearch.pytorch.object_state`; with it go the random states and torch's own switches.
"""

from __future__ import annotations

import copy
import multiprocessing.process
import socket
import subprocess
import sys
import threading
import types
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, Sampler

from lrsearch.errors import InvalidArgument, NotRestored, Words
from lrsearch.pytorch.object_state import ObjectState, capture
from lrsearch.pytorch.random_state import Generator, RandomState, read_random_state
from lrsearch.pytorch.store import Place, tried

__all__ = [
    "Snapshot",
    "Stateful",
    "attributes",
    "of_foreign_package",
    "of_trainer",
    "of_training",
    "restore",
    "take",
]


@runtime_checkable
class Stateful(Protocol):
    """Anything whose state can be read and written, as PyTorch's checkpoints expect it."""

    def state_dict(self) -> dict[str, Any]:
        """Return the state."""
        ...

    def load_state_dict(self, state_dict: dict[str, Any], /) -> Any:
        """Take over a state."""
        ...


@dataclass(frozen=True)
class Snapshot:
    """What :func:`take` copied."""

    objects: ObjectState
    states: tuple[tuple[str, Callable[[Any], Any], Any], ...]
    random: RandomState
    switches: Switches


@dataclass(frozen=True)
class Switches:
    """What torch's contexts switch, which an interrupt on their way out leaves switched."""

    gradients: bool
    autocast: tuple[tuple[str, bool, torch.dtype], ...]
    nesting: int

    @classmethod
    def now(cls) -> Switches:
        """Read them."""
        devices = ("cpu", "cuda")
        autocast = ((d, torch.is_autocast_enabled(d), torch.get_autocast_dtype(d)) for d in devices)
        return cls(torch.is_grad_enabled(), tuple(autocast), _nesting())

    def restore(self) -> None:
        """Set those that are not as they were."""
        if self == Switches.now():
            return
        torch.set_grad_enabled(self.gradients)
        for device, enabled, dtype in self.autocast:
            torch.set_autocast_enabled(device, enabled)
            torch.set_autocast_dtype(device, dtype)
        while _nesting() > self.nesting:
            torch.autocast_decrement_nesting()
        torch.clear_autocast_cache()


def take(
    model: nn.Module,
    optimizers: torch.optim.Optimizer | Sequence[torch.optim.Optimizer],
    scaler: torch.amp.GradScaler | None = None,
    generators: Iterable[Generator] = (),
    others: Iterable[object] = (),
    apart: Iterable[object] = (),
    place: Place = "device",
) -> Snapshot:
    """Copy weights, buffers, modes, optimizer, loss scaler, attributes and random states.

    Gradients of what the optimizers hold are kept by reference: training drops them before it
    makes new ones, so they need no copy.

    Args:
        model: what is trained.
        optimizers: what steps; parameters that only they know are copied too.
        scaler: the loss scaler, if there is one.
        generators: random generators besides the global ones.
        others: what changes with it. What has ``state_dict`` and ``load_state_dict`` is put back
            by them, modules and other objects by what their attributes hold; functions are
            ignored.
        apart: objects that are not looked at.
        place: where the copies are kept, see :func:`lrsearch.pytorch.store.copies`.

    Raises:
        InvalidArgument: there is not enough room, or something cannot be put back.
    """
    several = optimizers if isinstance(optimizers, Sequence) else [optimizers]
    others = list(others)
    groups = [group for optimizer in several for group in optimizer.param_groups]
    held = [parameter for group in groups for parameter in group["params"]]
    objects = capture(
        [
            *_roots(model, others),
            *((type(optimizer).__name__, optimizer) for optimizer in several),
            ("grad_scaler", scaler),
        ],
        follow=of_training,
        dropped={id(p): p for p in (*model.parameters(), *held)},
        apart=(*apart, *filter(_by_itself, others)),
        place=place,
    )
    if objects.unkept and not any(map(_by_itself, others)):
        raise _cannot_be_put_back(objects.unkept[0])
    return Snapshot(
        objects=objects,
        states=tuple(_states(model, others)),
        random=read_random_state(generators),
        switches=Switches.now(),
    )


def attributes(model: nn.Module, others: Iterable[object], apart: Iterable[object]) -> ObjectState:
    """Remember what a model and what changes with it hold beside parameters and buffers."""
    modules = _modules((model, *others))
    registered = [own for module in modules for own in (module._parameters, module._buffers)]
    tensors = [tensor for own in registered for tensor in own.values() if tensor is not None]
    return capture(
        _roots(model, others),
        follow=of_training,
        apart=(*apart, *tensors, *registered, *filter(_by_itself, others)),
    )


def restore(snapshot: Snapshot) -> None:
    """Put everything back; the snapshot can be restored again.

    Raises:
        NotRestored: something could not be put back; everything else was.
    """
    failures: dict[str, Exception] = {}
    try:
        snapshot.objects.restore()
    except NotRestored as failure:
        failures.update(failure.failures)
    for name, load, state in snapshot.states:
        error = tried(_load, load, state)
        failures.update({} if error is None else {name: error})
    snapshot.random.restore()
    snapshot.switches.restore()
    if failures:
        raise NotRestored.of(failures)


# Packages whose objects go on existing outside, whatever is put back here.
_FOREIGN = frozenset(
    {
        *sys.stdlib_module_names,
        *("torch", "lrsearch", "lightning", "pytorch_lightning", "lightning_fabric"),
        *("accelerate", "tokenizers", "datasets", "tensorboard", "tensorboardX", "wandb"),
        *("mlflow", "comet_ml", "neptune", "clearml", "aim", "tqdm", "rich", "pandas", "PIL"),
        *("ray", "dask", "pyarrow", "h5py", "zarr", "matplotlib", "numpy"),
    }
) - {"types", "collections", "random", "argparse", "__main__"}
# Where torch's own objects hold values as a user's do, modules and optimizers aside.
_OF_TORCH = ("torch.optim", "torch.amp", "torch.distributions", "torch.nn", "torch.ao")
_TRAINERS = ("transformers.trainer", "pytorch_lightning", "lightning.")
# Wrappers whose own attributes belong to processes and compilers.
_MACHINERY = ("torch.nn.parallel", "torch._dynamo")
_OF_EVERY_MODULE = tuple(vars(nn.Module()))
_ALIVE = (
    *(threading.Thread, multiprocessing.process.BaseProcess, subprocess.Popen, socket.socket),
    *(DataLoader, Dataset, Sampler),
)


def of_training(value: Any) -> bool | Sequence[str]:
    """Whether training may change attributes of this object that are ours to put back, or which.

    So it is with modules, optimizers and objects of a user's own classes; not with data sets,
    loggers, and what belongs to threads, processes, compilers and trainers.
    """
    home = type(value).__module__
    if isinstance(value, nn.Module):
        return _OF_EVERY_MODULE if home.startswith(_MACHINERY) else True
    if home.startswith(_MACHINERY) or isinstance(value, _ALIVE):
        return False
    if isinstance(value, torch.optim.Optimizer):
        return True
    if of_foreign_package(value):
        return home.startswith(_OF_TORCH)
    if ".tokenization" in home or of_trainer(value):
        return False
    return not any(isinstance(item, _ALIVE[:4]) for item in getattr(value, "__dict__", {}).values())


def of_foreign_package(value: object) -> bool:
    """Whether its class comes from a package whose objects are not a training's own."""
    return type(value).__module__.partition(".")[0] in _FOREIGN


def of_trainer(value: Any) -> bool:
    """Whether it is a trainer of Lightning or Transformers, or belongs to one."""
    homes = [kind.__module__ for kind in type(value).__mro__]
    return any(home.startswith(_TRAINERS) for home in homes)


def _load(load: Callable[[Any], Any], state: Any) -> None:
    load(copy.deepcopy(state))


def _states(
    model: nn.Module, others: Iterable[Any]
) -> Iterator[tuple[str, Callable[[Any], Any], Any]]:
    for module in _modules((model, *others)):
        if type(module).get_extra_state is not nn.Module.get_extra_state:
            name = f"the extra state of {type(module).__name__}"
            yield name, module.set_extra_state, copy.deepcopy(module.get_extra_state())
    for one in filter(_by_itself, others):
        yield type(one).__name__, one.load_state_dict, copy.deepcopy(one.state_dict())


def _modules(roots: Iterable[object]) -> list[nn.Module]:
    found = (m for root in roots if isinstance(root, nn.Module) for m in root.modules())
    return list({id(module): module for module in found}.values())


def _roots(model: nn.Module, others: Iterable[object]) -> list[tuple[str, object]]:
    beside = [(type(one).__name__, one) for one in others if _has_attributes(one)]
    return [("model", model), *beside]


def _has_attributes(one: object) -> bool:
    if isinstance(one, types.MethodType):
        return isinstance(one.__self__, nn.Module)
    functions = (type, types.FunctionType, types.BuiltinFunctionType)
    return one is not None and not isinstance(one, functions) and not _by_itself(one)


def _by_itself(one: object) -> bool:
    """Whether it is put back by its own methods; modules and optimizers have more than those."""
    more = (nn.Module, torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler, type)
    if isinstance(one, (*more, torch.amp.GradScaler)) or of_trainer(one):
        return False
    return isinstance(one, Stateful)


def _cannot_be_put_back(name: str) -> InvalidArgument:
    return InvalidArgument.of(
        name,
        Words("an iterator or generator, which cannot be set back"),
        "attributes that can be put back after a search",
        "Keep a position and make it anew from that; or give an object that sets it back, with "
        "state_dict and load_state_dict, in stateful=[...].",
    )


def _nesting() -> int:
    torch.autocast_increment_nesting()
    return int(torch.autocast_decrement_nesting())
