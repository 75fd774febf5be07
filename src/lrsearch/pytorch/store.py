"""Copies of tensors: beside them, in main memory, or on disk; and whether there is room.

A copy on disk lies in a temporary file without a name, mapped into memory: nobody else can
open it, and the system takes it back when the last tensor on it is gone or the process ends,
however it ends. So there is no directory to clean up.
"""

from __future__ import annotations

import errno
import itertools
import mmap
import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import IO, Any, Literal

import torch
from torch import Tensor, nn

from lrsearch.errors import InvalidArgument
from lrsearch.pytorch.room import free_memory

__all__ = [
    "PLACES",
    "Place",
    "TensorState",
    "check_place",
    "check_room",
    "copies",
    "remember",
    "tried",
]

Place = Literal["device", "cpu", "disk"]
PLACES: tuple[Place, ...] = ("device", "cpu", "disk")

_NOTABLE = 2**26  # bytes: below these, asking for the free memory takes longer than copying
_ALIGNMENT = 64  # bytes
_BLOCK = 2**20  # bytes
_BITS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
_WAY_OUT = {
    "device": 'Pass snapshot_to="cpu" or snapshot_to="disk".',
    "cpu": 'Pass snapshot_to="disk".',
    "disk": "Name a folder on a larger disk in the environment variable TMPDIR.",
}


def check_place(place: object) -> None:
    """Raise unless ``place`` is one of :data:`PLACES`."""
    if not isinstance(place, str) or place not in PLACES:
        raise InvalidArgument.of("snapshot_to", place, "'device', 'cpu' or 'disk'")


@torch.no_grad()
def copies(tensors: Sequence[Tensor], place: Place) -> list[Tensor]:
    """Return a copy of every tensor, kept in ``place``.

    Copies between a GPU and main memory are queued, not waited for: what is queued after them
    finds them done.

    Args:
        tensors: of any device, type, shape and strides; of a sharded one the shard that this
            process holds.
        place: ``"device"``: where the tensor is; ``"cpu"``: main memory, pinned for tensors of
            a GPU; ``"disk"``: a temporary file in ``tempfile.gettempdir()``.

    Raises:
        InvalidArgument: there is not enough room.
    """
    memory = [_memory(tensor) for tensor in tensors]
    check_room(memory, place)
    rooms = _on_disk(memory) if place == "disk" else [_in_memory(t, place) for t in memory]
    for room, tensor in zip(rooms, memory, strict=True):
        room.copy_(tensor, non_blocking=True)
    return rooms


@dataclass(frozen=True)
class _Kept:
    """A tensor, a copy of its values, and what else belongs to it.

    Attributes:
        same: another view of its memory, where it can be pointed to another.
        size: bytes of that memory.
    """

    name: object
    tensor: Tensor
    value: Tensor
    same: Tensor | None
    size: int
    grad: Tensor | None
    hooks: Any
    is_leaf: bool
    requires_grad: bool

    @classmethod
    def of(cls, name: object, tensor: Tensor, value: Tensor) -> _Kept:
        same = tensor.detach() if _has_memory(tensor) else None
        size = 0 if same is None else same.untyped_storage().nbytes()
        is_leaf = tensor.is_leaf
        grad = tensor.grad if is_leaf else None
        hooks = tensor._backward_hooks if is_leaf else None
        return cls(name, tensor, value, same, size, grad, hooks, is_leaf, tensor.requires_grad)

    def put_back(self, untouched: bool) -> None:
        """Write what has changed; ``untouched``: torch knows of no change of the values."""
        tensor = self.tensor
        if self.is_leaf and not tensor.is_leaf:
            tensor.detach_()
        moved = self.same is not None and self._point_back(self.same)
        here = _memory(tensor)
        # Reading is no harm where the memory is read-only, and on the CPU it costs less.
        compare = (untouched and not moved) and here.device.type == "cpu"
        if not (compare and _same_bits(here, self.value)):
            with torch.inference_mode() if tensor.is_inference() else nullcontext():
                here.copy_(self.value, non_blocking=True)
        if self.is_leaf:
            if tensor.requires_grad != self.requires_grad:
                tensor.requires_grad_(self.requires_grad)
            if tensor._backward_hooks is not self.hooks:
                tensor._backward_hooks = self.hooks
            if tensor.grad is not self.grad:
                tensor.grad = self.grad

    def _point_back(self, same: Tensor) -> bool:
        """Give the tensor its own memory, of the old size; return whether it had another."""
        storage = same.untyped_storage()
        resized = storage.nbytes() != self.size
        if resized:
            storage.resize_(self.size)
        tensor = self.tensor
        moved = tensor.device != same.device or tensor.dtype != same.dtype
        moved = moved or tensor.shape != same.shape or tensor.stride() != same.stride()
        if moved or tensor.data_ptr() != same.data_ptr():
            tensor.data = same
            return True
        return resized


@dataclass(frozen=True)
class TensorState:
    """What :func:`remember` copied. It can be put back any number of times."""

    kept: tuple[_Kept, ...]
    versions: list[int | None]  # torch's counters of changes, when values were last the same

    @torch.no_grad()
    def restore(self) -> list[tuple[object, Exception]]:
        """Write back what has changed; return the names of what could not be, and why."""
        failures = [(k.name, tried(self._put_back, n)) for n, k in enumerate(self.kept)]
        return [(name, error) for name, error in failures if error is not None]

    def _put_back(self, place: int) -> None:
        kept = self.kept[place]
        kept.put_back(untouched=_version(kept.tensor) == self.versions[place])
        self.versions[place] = _version(kept.tensor)

    def changed(self) -> list[object]:
        """Return the names of the tensors whose values are not what they were."""
        return [kept.name for kept in self.kept if not _same_bits(kept.tensor, kept.value)]


def remember(tensors: Sequence[tuple[object, Tensor]], place: Place) -> TensorState:
    """Copy tensors, each with a name for errors, as :func:`copies` does."""
    values = copies([tensor for _, tensor in tensors], place)
    kept = (_Kept.of(*named, value) for named, value in zip(tensors, values, strict=True))
    return TensorState(tuple(kept), [_version(tensor) for _, tensor in tensors])


def tried(action: Callable[..., object], *arguments: object) -> Exception | None:
    """Call it and return its error: one thing that fails does not keep others from being done."""
    try:
        action(*arguments)
    except Exception as error:
        return error
    return None


def _version(tensor: Tensor) -> int | None:
    return None if tensor.is_inference() else tensor._version


def _has_memory(tensor: Tensor) -> bool:
    """Whether it is plain memory, that it can be pointed away from."""
    plain = type(tensor) in (Tensor, nn.Parameter) and not tensor.is_quantized
    return plain and tensor.layout is torch.strided and not tensor.is_meta


def _same_bits(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors hold the same; NaN is the same as itself, and 0 is not -0."""
    one, other = _memory(one).detach(), other.detach()
    if one.shape != other.shape or one.dtype != other.dtype or one.device != other.device:
        return False
    size = one.element_size()
    if one.layout is not torch.strided or one.is_quantized or size not in _BITS:
        return False
    if one.dtype.is_floating_point or one.dtype.is_complex:
        one, other = one.view(_BITS[size]), other.view(_BITS[size])
    return torch.equal(one, other)


def check_room(tensors: Sequence[Tensor], place: Place) -> None:
    """Raise if copies of the tensors do not fit.

    Raises:
        InvalidArgument: with what is needed, what is free, and where there may be more.
    """
    wanted: dict[torch.device, int] = {}
    for tensor in tensors:
        device = tensor.device if place == "device" else torch.device("cpu")
        wanted[device] = wanted.get(device, 0) + _bytes(tensor)
    for device, size in wanted.items():
        if size < _NOTABLE:
            continue
        free = free_memory(device) if place != "disk" else shutil.disk_usage(_folder()).free
        if free is not None and size > free:
            raise _no_room(place, size, free, _folder() if place == "disk" else str(device))


def _in_memory(tensor: Tensor, place: Place) -> Tensor:
    if place == "device" or tensor.device.type == "cpu":
        return torch.empty_like(tensor)
    return torch.empty_like(tensor, device="cpu", pin_memory=tensor.is_cuda)


def _on_disk(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Return tensors of these shapes and types in one file; of what has no bytes, in memory."""
    sizes = [-(-_bytes(tensor) // _ALIGNMENT) * _ALIGNMENT for tensor in tensors]
    starts = list(itertools.accumulate(sizes, initial=0))
    file = None if starts[-1] == 0 else _mapped_file(starts[-1])
    return [
        _in_memory(tensor, "cpu")
        if file is None or _bytes(tensor) == 0
        else torch.frombuffer(file, dtype=torch.uint8, count=_bytes(tensor), offset=start)
        .view(tensor.dtype)
        .view(tensor.shape)
        for tensor, start in zip(tensors, starts, strict=False)
    ]


def _mapped_file(size: int) -> Any:
    try:
        with tempfile.TemporaryFile(prefix="lrsearch-", dir=_folder()) as file:
            _reserve(file, size)
            return mmap.mmap(file.fileno(), size)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        raise _no_room("disk", size, shutil.disk_usage(_folder()).free, _folder()) from error


def _reserve(file: IO[bytes], size: int) -> None:
    """Take the space now: on a full disk, writing to a mapping would end the process."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file.fileno(), 0, size)
        return
    for start in range(0, size, _BLOCK):
        file.write(bytes(min(_BLOCK, size - start)))
    file.flush()


def _memory(tensor: Tensor) -> Tensor:
    """The memory of a tensor on this process: a sharded one's own shard, every element once."""
    if hasattr(tensor, "to_local"):
        tensor = tensor.to_local()
    if tensor.layout is torch.strided and 0 in tensor.stride():
        for dim, stride in enumerate(tensor.stride()):
            if stride == 0 and tensor.shape[dim] > 1:
                tensor = tensor.narrow(dim, 0, 1)
    return tensor


def _bytes(tensor: Tensor) -> int:
    plain = tensor.layout is torch.strided and not tensor.is_meta and not tensor.is_quantized
    return tensor.numel() * tensor.element_size() if plain else 0


def _folder() -> str:
    return tempfile.gettempdir()


def _no_room(place: Place, size: int, free: int, where: str) -> InvalidArgument:
    return InvalidArgument.of(
        "snapshot_to",
        place,
        f"room for {_gib(size)}, a copy of weights, buffers and optimizer state",
        f"{where} has {_gib(free)} free. {_WAY_OUT[place]}",
    )


def _gib(size: int) -> str:
    return f"{size / 2**30:.2f} GiB"
