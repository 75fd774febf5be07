"""Peak tensor memory of a range test beyond that of training.

The model is large (79 MB of weights) and its optimizer has made a step, so that its two moments
exist. What a tool adds to the peak of the bare loop is given in copies of weights + buffers +
optimizer state. Counted are torch's own allocations, as its profiler records them: the resident
size of a process depends on what else the machine does.
"""

from __future__ import annotations

import gc
import itertools
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile
from torch.utils.data import DataLoader, TensorDataset

from benchmarks.setting import Setting

STEPS = (10, 40)
WIDTH = 2560  # three square layers of this width: 3 * 2560^2 * 4 bytes = 79 MB

Tool = Callable[[Setting, int], int]


def measure_memory(tools: dict[str, Tool]) -> dict[str, Any]:
    """Peak memory in MB that every tool allocates, and what it adds to the bare loop's.

    Args:
        tools: ``tool(setting, steps)`` by name, "bare loop" among them.

    Returns:
        ``state_mb``; ``peak_mb`` by tool and number of steps; ``extra_copies_of_the_state`` by
        tool (at the larger number of steps).
    """
    state = state_bytes(large())
    peaks = {
        name: {steps: peak_bytes(tool, steps) for steps in STEPS} for name, tool in tools.items()
    }
    last = STEPS[-1]
    base = peaks["bare loop"][last]
    return {
        "state_mb": round(state / 1e6, 1),
        "peak_mb": {
            name: {str(steps): round(peak / 1e6, 1) for steps, peak in by_steps.items()}
            for name, by_steps in peaks.items()
        },
        "extra_copies_of_the_state": {
            name: round((by_steps[last] - base) / state, 3)
            for name, by_steps in peaks.items()
            if name != "bare loop"
        },
    }


def large() -> Setting:
    """A large model whose optimizer has its moments, and no gradients left over."""
    torch.manual_seed(0)
    model = nn.Sequential(*(nn.Linear(WIDTH, WIDTH, bias=False) for _ in range(3)))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-6)
    data = TensorDataset(torch.randn(16 * 50, WIDTH), torch.randn(16 * 50, WIDTH))
    loader = DataLoader(data, batch_size=16)
    inputs, targets = next(iter(loader))
    nn.functional.mse_loss(model(inputs), targets).backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    optimizer.zero_grad()
    return Setting(model, optimizer, nn.functional.mse_loss, loader)


def state_bytes(setting: Setting) -> int:
    """Size of weights, buffers and optimizer state."""
    moments = [value for state in setting.optimizer.state.values() for value in state.values()]
    tensors = (*setting.model.state_dict().values(), *moments)
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def peak_bytes(tool: Tool, steps: int) -> int:
    """The most that ``tool`` had allocated at once, beyond what there was before it."""
    setting = large()
    gc.collect()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        made = tool(setting, steps)
    if made != steps:
        raise RuntimeError(f"the tool made {made} steps, expected {steps}")
    events = profiler.profiler.kineto_results.events()
    changes = sorted((e.start_ns(), e.nbytes()) for e in events if e.name() == "[memory]")
    peak: int = max(itertools.accumulate(size for _, size in changes))
    return peak
