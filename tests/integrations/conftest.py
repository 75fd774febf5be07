"""Accelerate keeps its settings for the whole process; every test starts without any."""

from __future__ import annotations

import sys

import pytest


@pytest.fixture(autouse=True)
def _fresh_accelerate() -> None:
    if "accelerate" in sys.modules:
        from accelerate.state import AcceleratorState, GradientState

        AcceleratorState._reset_state(reset_partial_state=True)
        GradientState._reset_state()
