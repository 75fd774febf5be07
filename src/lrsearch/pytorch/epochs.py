"""The epoch that samplers and data sets shuffle by: told at every pass, and put back."""

from __future__ import annotations

from typing import Any

from lrsearch.pytorch.attributes import Attributes

__all__ = ["Epochs", "tell_epoch"]

# Where a loader keeps what decides on the order. Accelerate's loaders also note in a state that
# all of them share which loader is being read.
_PARTS = ("loader", "base_dataloader", "batch_sampler", "sampler", "dataset", "gradient_state")


class Epochs:
    """What a loader and its parts know about the passes made over them.

    Example:
        >>> class Sampler:
        ...     epoch = 7
        ...     def __iter__(self):
        ...         return iter([self.epoch])
        ...     def set_epoch(self, epoch):
        ...         self.epoch = epoch
        >>> sampler = Sampler()
        >>> before = Epochs(sampler)
        >>> tell_epoch(sampler, 0)
        >>> list(sampler)
        [0]
        >>> before.restore()
        >>> sampler.epoch
        7
    """

    def __init__(self, loader: object) -> None:
        self._before = Attributes.of(
            part for name, part in _parts(loader) if _counts(part) or name == "gradient_state"
        )

    def restore(self) -> None:
        """Put back what was there when this was made."""
        self._before.restore()


def tell_epoch(loader: object, epoch: int) -> None:
    """Call ``set_epoch`` on the loader and every part of it that has one."""
    for _, part in _parts(loader):
        if _counts(part):
            part.set_epoch(epoch)


def _counts(part: Any) -> bool:
    return callable(getattr(part, "set_epoch", None))


def _parts(loader: object) -> list[tuple[str, Any]]:
    found: dict[int, tuple[str, Any]] = {}
    pending: list[tuple[str, Any]] = [("loader", loader)]
    while pending:
        name, part = pending.pop()
        if id(part) in found or not hasattr(part, "__dict__"):
            continue
        found[id(part)] = (name, part)
        own = vars(part)
        pending += [(inner, own[inner]) for inner in _PARTS if inner in own]
    return list(found.values())
