"""Two processes under Lightning's DDP: one answer, no hang, and training as without a search."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys
from typing import Any

import pytest

ROOT = pathlib.Path(__file__).parents[2]


# Importing the libraries in four processes takes minutes on a machine that is busy otherwise.
pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What both processes saw, with and without searches."""
    folder = tmp_path_factory.mktemp("ranks")
    script = [sys.executable, "-m", "tests.integrations.lightning_two_processes"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    for word in ("search", "plain"):
        run = subprocess.run(
            [*script, str(folder), word],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            timeout=400,
        )
        assert run.returncode == 0, run.stderr[-2000:]
    return {path.stem: json.loads(path.read_text("utf-8")) for path in folder.glob("*.json")}


def test_every_process_sees_the_same_losses_and_gets_the_same_learning_rate(
    ranks: dict[str, Any],
) -> None:
    first, second = ranks["True-0"], ranks["True-1"]
    for name in ("range", "race", "middle"):
        assert first[name] == second[name]
    assert first["range"]["lr"] > 0
    assert len(first["race"]["losses"]) > 3
    assert first["lanes"].startswith("in turn")


def test_training_is_bit_for_bit_that_without_a_search(ranks: dict[str, Any]) -> None:
    for rank in (0, 1):
        searched, plain = ranks[f"True-{rank}"], ranks[f"False-{rank}"]
        assert searched["fit"] == plain["fit"]
        assert searched["trained"] == plain["trained"]
    assert ranks["True-0"]["fit"] != ranks["True-1"]["fit"]  # each has its own share of the data
