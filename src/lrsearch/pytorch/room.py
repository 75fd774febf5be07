"""How much memory is free, as far as the system tells."""

from __future__ import annotations

from pathlib import Path

import torch

__all__ = ["free_memory"]

_MEMINFO = Path("/proc/meminfo")
_CGROUP_2 = Path("/sys/fs/cgroup")
_CGROUP_1 = Path("/sys/fs/cgroup/memory")


def free_memory(device: torch.device) -> int | None:
    """Return the bytes that can still be allocated on ``device``, ``None`` where nobody knows.

    On a GPU, memory that torch holds for later use counts as free. In main memory, files that
    are merely cached do, and the limit of a container is respected.
    """
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return free + kept
    if device.type != "cpu":
        return None
    known = [free for free in (_of_machine(), _of_container()) if free is not None]
    return min(known, default=None)


def _of_machine() -> int | None:
    """Linux's own estimate, which counts what can be dropped from caches."""
    available = _table(_MEMINFO).get("MemAvailable:")
    return None if available is None else available * 1024


def _of_container() -> int | None:
    """What the control group (version 2 or 1) leaves; a container sees its own at the top."""
    for folder, limit_name, usage_name in (
        (_CGROUP_2, "memory.max", "memory.current"),
        (_CGROUP_1, "memory.limit_in_bytes", "memory.usage_in_bytes"),
    ):
        limit, usage = _number(folder / limit_name), _number(folder / usage_name)
        if limit is not None and usage is not None:
            return max(0, limit - usage + _table(folder / "memory.stat").get("inactive_file", 0))
    return None


def _table(path: Path) -> dict[str, int]:
    """Lines of a name and a number."""
    try:
        lines = [line.split() for line in path.read_text("ascii").splitlines()]
    except OSError:
        return {}
    return {words[0]: int(words[1]) for words in lines if len(words) > 1 and words[1].isdigit()}


def _number(path: Path) -> int | None:
    try:
        text = path.read_text("ascii").strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None
