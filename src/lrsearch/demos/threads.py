"""How many processor threads the demos train with: one."""

from __future__ import annotations

import torch

__all__ = ["use_one_thread"]


def use_one_thread() -> None:
    """Let torch compute on one thread, for the rest of the process.

    Networks as small as the demos' gain nothing from more, and on a machine that is busy
    with other work the threads spend most of their time waiting for each other.
    """
    torch.set_num_threads(1)
