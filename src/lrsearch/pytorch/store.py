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
from collections.abc import Sequence
from typing import IO, Any, Literal

import torch
from torch import Tensor

from lrsearch.errors import InvalidArgument
from lrsearch.pytorch.room import free_memory

__all__ = ["PLACES", "Place", "check_place", "check_room", "copies", "put_back"]

Place = Literal["device", "cpu", "disk"]
PLACES: tuple[Place, ...] = ("device", "cpu", "disk")

_NOTABLE = 2**26  # bytes: below these, asking for the free memory takes longer than copying
_ALIGNMENT = 64  # bytes
_BLOCK = 2**20  # bytes
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


@torch.no_grad()
def put_back(tensors: Sequence[Tensor], values: Sequence[Tensor]) -> None:
    """Write copies back into the tensors that they were made of, in the same order."""
    for tensor, value in zip(tensors, values, strict=True):
        _memory(tensor).copy_(value, non_blocking=True)


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
