"""The benchmarks of time and memory, on small models; and what they promise about memory."""

from __future__ import annotations

import json
import pathlib

import pytest

from benchmarks import import_time, memory, overhead
from benchmarks.environment import environment, version
from benchmarks.overhead_tools import bare_loop, ours
from benchmarks.results_file import write_json


def test_a_range_test_adds_one_copy_of_the_state_and_nothing_that_grows_with_its_steps(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(memory, "WIDTH", 512)
    found = memory.measure_memory({"bare loop": bare_loop, "lrsearch": ours})
    weights = 3 * 512 * 512 * 4 / 1e6  # MB; Adam has two moments of the same size
    assert found["state_mb"] == pytest.approx(3 * weights, rel=0.02)
    assert found["extra_copies_of_the_state"]["lrsearch"] <= 1.02
    few, many = (found["peak_mb"]["lrsearch"][str(steps)] for steps in memory.STEPS)
    assert many <= 1.01 * few


def test_every_tool_is_compared_with_the_bare_loop_of_the_same_round() -> None:
    found = overhead.compare(overhead.small_mlp, 2, {"bare loop": bare_loop, "lrsearch": ours})
    assert set(found["wall_ratio_to_bare_loop"]) == {"lrsearch"}
    assert set(found["processor_ms_per_step"]) == {"bare loop", "lrsearch"}
    assert found["wall_ratio_to_bare_loop"]["lrsearch"]["median"] > 0


def test_a_tool_that_stops_early_is_not_timed() -> None:
    with pytest.raises(RuntimeError, match="made 7 steps, expected 100"):
        overhead.compare(
            overhead.small_mlp, 1, {"bare loop": bare_loop, "early": lambda setting, steps: 7}
        )


def test_import_times_are_differences_to_the_bare_interpreter() -> None:
    found = import_time.measure(rounds=1)
    assert found["rounds"] == 1
    assert float(str(found["interpreter_ms"])) > 0


def test_the_environment_names_versions_and_the_missing(tmp_path: pathlib.Path) -> None:
    found = environment("numpy", "no-such-package")
    versions = found["versions"]
    assert isinstance(versions, dict)
    assert versions == {"numpy": version("numpy"), "no-such-package": None}
    assert versions["numpy"]
    assert write_json("some", found, tmp_path) == "some.json"
    assert json.loads((tmp_path / "some.json").read_text()) == found
