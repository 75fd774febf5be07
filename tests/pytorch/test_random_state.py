"""Seeding touches what is put back afterwards, and nothing else."""

from __future__ import annotations

import random

import numpy as np
import torch

import lrsearch
from lrsearch.pytorch.random_state import read_random_state, seed_everything


def draws() -> tuple[float, float, float]:
    """One number from each of the global generators."""
    return random.random(), float(np.random.rand()), float(torch.rand(()))  # noqa: NPY002


def test_the_same_seed_gives_the_same_draws_as_torchs_own_seeding() -> None:
    before = read_random_state()
    try:
        seed_everything(7)
        first = draws()
        seed_everything(7)
        assert draws() == first
        torch.manual_seed(7)
        assert float(torch.rand(())) == first[2]
    finally:
        before.restore()


def test_a_search_leaves_no_seed_waiting_for_a_device_that_is_not_in_use() -> None:
    # torch.manual_seed keeps the last seed for CUDA until CUDA is first used, however much later.
    torch.manual_seed(11)
    waiting = torch.cuda._lazy_seed_tracker.get_calls()
    model = torch.nn.Linear(2, 1)
    batches = [(torch.ones(4, 2), torch.ones(4, 1))]
    lrsearch.find_lr(
        model,
        torch.optim.SGD(model.parameters(), lr=0.1),
        torch.nn.functional.mse_loss,
        batches,
        progress=False,
        throw=False,
    )
    assert torch.cuda._lazy_seed_tracker.get_calls() == waiting
