"""The benchmarks of snapshots and of memory measure what they say, on small models."""

from __future__ import annotations

import random

import pytest

from benchmarks import memory_transformer, overhead, overhead_snapshot


def test_a_snapshot_is_compared_with_a_plain_copy_of_the_same_tensors() -> None:
    setting = overhead.small_mlp()
    found = overhead_snapshot.compare(setting, 2, random.Random(0))
    assert found["tensors"] == 4  # the optimizer has no moments yet
    for place in ("device", "cpu", "disk"):
        for part in ("snapshot", "restore"):
            assert found[place][part]["plain_ms"] > 0
            assert found[place][part]["ratio"] > 0


def test_the_transformer_has_its_moments_and_no_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"CHARACTERS": 50, "WIDTH": 16, "LAYERS": 1, "HEADS": 2}.items():
        monkeypatch.setattr(memory_transformer, name, value)
    setting = memory_transformer.transformer()
    parameters = list(setting.model.parameters())
    assert all(parameter.grad is None for parameter in parameters)
    assert len(setting.optimizer.state) == len(parameters)
    for tool in memory_transformer.TOOLS.values():
        assert tool(setting, memory_transformer.STEPS) == memory_transformer.STEPS
