"""The benchmark of range tests through trainers: it times what it says."""

from __future__ import annotations

import dataclasses

import pytest

from benchmarks import integrations
from benchmarks.integrations_case import Case


def counted() -> tuple[Case, list[str]]:
    calls: list[str] = []

    def made(word: str, steps: int) -> int:
        calls.append(word)
        return steps

    case = Case(
        "a trainer",
        make=lambda steps: calls.append("make"),
        train=lambda _, steps: made("train", steps),
        search=lambda _, steps: made("search", steps),
    )
    return case, calls


def test_every_search_is_paired_with_a_training_of_a_trainer_of_its_own() -> None:
    case, calls = counted()
    integrations.compare(case, 5, 4)
    made, done = calls[::2], calls[1::2]
    assert made == ["make"] * 10
    assert {tuple(sorted(pair)) for pair in zip(done[::2], done[1::2], strict=True)} == {
        ("search", "train")
    }


def test_a_trainer_that_stops_early_is_not_measured() -> None:
    case, _ = counted()
    with pytest.raises(RuntimeError, match="3 steps were made, expected 5"):
        integrations.compare(dataclasses.replace(case, search=lambda *_: 3), 5, 2)


@pytest.mark.parametrize("name", [name for name in integrations.CASES if "transformers" in name])
def test_trainings_and_searches_make_the_steps_asked_for(name: str) -> None:
    found = integrations.compare(integrations.CASES[name], 10, 2)
    assert found["wall_ratio"]["median"] > 0.0
    assert name in integrations.page({name: found})
