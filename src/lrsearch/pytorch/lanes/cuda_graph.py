"""A replay as a CUDA graph: one launch for all its kernels.

Written to the documentation of ``torch.cuda.graph`` and not yet run on a GPU, so lanes use it
only when asked to, and only after comparing its results with ``vmap``.

Source: CUDA C++ Programming Guide, section on CUDA graphs; M. Carilli et al., "Accelerating
PyTorch with CUDA Graphs", pytorch.org, 2021.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from lrsearch.pytorch.lanes.compiled import Replay

__all__ = ["captured"]

_WARMUP = 2  # runs in which libraries choose their kernels and workspaces


def captured(replay: Replay, leaves: Sequence[Tensor], again: Callable[[], None]) -> Replay:
    """Return a function like ``replay`` that launches a graph of its kernels.

    Its results lie at fixed places and are overwritten by the next call.

    Args:
        replay: the calls to capture; they must not wait for the device.
        leaves: inputs of the shapes that will come.
        again: takes back what the warmup does to buffers and random states.
    """
    inputs = [leaf.clone() for leaf in leaves]
    present = torch.cuda.current_stream()
    beside = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    with torch.inference_mode():
        beside.wait_stream(present)
        with torch.cuda.stream(beside):
            for _ in range(_WARMUP):
                replay(*inputs)
        present.wait_stream(beside)
        again()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            results = replay(*inputs)

    def launched(*given: Tensor) -> tuple[Tensor, ...]:
        for place, value in zip(inputs, given, strict=True):
            place.copy_(value, non_blocking=True)
        graph.replay()
        return results

    return launched
