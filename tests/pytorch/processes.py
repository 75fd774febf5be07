"""Run a scenario on several processes that form a gloo group, and bring back what each returns.

Starting a process is the dear part, so one group runs many scenarios; torch is imported once,
by the server that the processes are forked from.
"""

from __future__ import annotations

import contextlib
import faulthandler
import multiprocessing
import pickle
import time
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

LIMIT = 60.0  # seconds without any result after which a group hangs

# What the scenarios import is imported once, before the server forks.
PRELOAD = ["torch._dynamo", "torch.distributed.fsdp", "lrsearch.pytorch.trainable"]

Scenario = Callable[[int, int], Any]  # (rank, world size) -> anything that can be pickled


@dataclass(frozen=True)
class Returned:
    """What one rank made of a scenario: its value, or the error that it ended with."""

    value: Any
    error: str | None


class Group:
    """The results of scenarios, by name and rank; a rank that ended early lacks the rest."""

    def __init__(self, folder: Path, world: int, exit_codes: Sequence[int | None]) -> None:
        self._folder = folder
        self.world = world
        self.exit_codes = exit_codes

    def returned(self, name: str, ranks: Iterable[int] | None = None) -> list[Returned]:
        """Return what came of a scenario on every rank, or on some."""
        return [
            pickle.loads((self._folder / f"{name}.{rank}").read_bytes())
            for rank in (range(self.world) if ranks is None else ranks)
        ]

    def values(self, name: str) -> list[Any]:
        """Return the value of a scenario on every rank; an error on any fails."""
        returned = self.returned(name)
        for rank, one in enumerate(returned):
            assert one.error is None, f"{name} on rank {rank}: {one.error}"
        return [one.value for one in returned]


def run(world: int, scenarios: Mapping[str, Scenario], folder: Path) -> Group:
    """Run scenarios one after the other on ``world`` processes.

    Raises:
        AssertionError: some did not end; with what each of them was doing.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOAD)
    processes: list[BaseProcess] = [
        context.Process(target=_work, args=(rank, world, scenarios, folder))
        for rank in range(world)
    ]
    for process in processes:
        process.start()
    progress = Progress(folder)
    while any(process.is_alive() for process in processes) and not progress.stalled:
        time.sleep(0.05)
    hung = [rank for rank, process in enumerate(processes) if process.is_alive()]
    for process in processes:
        process.kill()
        process.join()
    stacks = [(folder / f"stack.{rank}").read_text() for rank in hung]
    assert not hung, f"ranks {hung} hang:\n" + "\n".join(stacks)
    return Group(folder, world, [process.exitcode for process in processes])


class Progress:
    """Watches a folder: a group in which no rank comes to a result for long hangs."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files = 0
        self._since = time.monotonic()

    @property
    def stalled(self) -> bool:
        files = sum(1 for _ in self._folder.iterdir())
        if files != self._files:
            self._files, self._since = files, time.monotonic()
        return time.monotonic() - self._since > LIMIT


def _work(rank: int, world: int, scenarios: Mapping[str, Scenario], folder: Path) -> None:
    import torch
    import torch.distributed as dist

    torch.set_num_threads(1)
    stack = (folder / f"stack.{rank}").open("w")  # stays open: a timer writes to it
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/.meeting", rank=rank, world_size=world
    )
    for name, scenario in scenarios.items():
        faulthandler.dump_traceback_later(LIMIT - 5.0, file=stack)
        try:
            returned = Returned(scenario(rank, world), None)
        except BaseException:
            returned = Returned(None, traceback.format_exc())
        (folder / f"{name}.{rank}").write_bytes(pickle.dumps(returned))
    faulthandler.cancel_dump_traceback_later()
    with contextlib.suppress(Exception):
        dist.destroy_process_group()
