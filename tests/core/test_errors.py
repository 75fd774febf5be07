from __future__ import annotations

import pytest

import lrsearch.errors as errors
from lrsearch.errors import InvalidArgument, LRSearchError, NoLearningRateFound


@pytest.mark.parametrize("name", errors.__all__)
def test_every_public_error_is_caught_by_the_base_class(name: str) -> None:
    assert issubclass(getattr(errors, name), LRSearchError)


@pytest.mark.parametrize(
    ("ours", "builtin"),
    [
        (errors.InvalidArgument, ValueError),
        (errors.InvalidResultFile, ValueError),
        (errors.MissingDependency, ImportError),
    ],
)
def test_an_error_is_also_the_builtin_that_python_users_expect(ours: type, builtin: type) -> None:
    assert issubclass(ours, builtin)


def test_an_argument_error_names_the_argument_the_value_and_what_was_expected() -> None:
    message = str(InvalidArgument.of("min_lr", -1, "a positive number", "Try 1e-5."))
    assert message == "min_lr: got -1, expected a positive number. Try 1e-5."


def test_a_very_long_value_is_cut_in_the_message() -> None:
    message = str(InvalidArgument.of("segments", list(range(10_000)), "a ladder"))
    assert len(message) < 150
    assert "..." in message


def test_the_error_without_an_answer_carries_the_partial_result() -> None:
    result = object()
    assert NoLearningRateFound("nothing", result).result is result
