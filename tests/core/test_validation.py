"""Checks of arguments: what is accepted comes back plain, what is refused is named."""

from __future__ import annotations

import itertools
import math
import os
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lrsearch.core import validation
from lrsearch.errors import InvalidArgument


class Hostile:
    """Raises whatever is asked of it."""

    def __repr__(self) -> str:
        raise RuntimeError("no words")

    def __float__(self) -> float:
        raise RuntimeError("no number")

    def __iter__(self) -> Any:
        raise RuntimeError("no items")

    def __fspath__(self) -> str:
        raise TypeError("no path")


NO_NUMBERS: list[Any] = [
    "0.1", b"1", None, [0.1], (1,), {}, True, np.True_, 1j, np.complex128(1), object(), Hostile(),
    np.array([1.0]), np.timedelta64(3), torch.tensor([1.0]), torch.tensor(True),
    torch.tensor(1j), torch.empty((), device="meta"), np.array("1"), int, Decimal("nan"),
]  # fmt: skip


@pytest.mark.parametrize("bad", [0, -1e-3, math.nan, math.inf, 10**400, *NO_NUMBERS])
def test_only_a_positive_finite_number_is_a_learning_rate(bad: object) -> None:
    with pytest.raises(InvalidArgument, match=r"lr: got .* expected a positive, finite number"):
        validation.positive("lr", bad)


@pytest.mark.parametrize(
    "good",
    [
        *(1, 0.5, np.float32(0.5), np.float64(2), np.int8(2), np.array(0.5), Decimal("0.1")),
        *(Fraction(1, 3), torch.tensor(0.5), torch.tensor(2), torch.tensor(2, dtype=torch.half)),
    ],
)
def test_any_real_number_type_is_accepted_as_a_learning_rate(good: Any) -> None:
    value = validation.positive("lr", good)
    assert type(value) is float
    assert value == float(good)


@pytest.mark.parametrize("bad", [0, 1.5, math.nan, math.inf, Decimal("1.5"), *NO_NUMBERS])
def test_only_a_whole_number_counts(bad: object) -> None:
    with pytest.raises(InvalidArgument, match=r"steps: got .* expected a whole number from 1"):
        validation.whole("steps", bad, 1)


@pytest.mark.parametrize("good", [3, 3.0, np.int64(3), Decimal(3), torch.tensor(3)])
def test_a_whole_number_of_any_type_becomes_an_int(good: object) -> None:
    assert type(validation.whole("steps", good, 1)) is int
    assert validation.whole("steps", good, 1) == 3


def test_a_number_too_large_to_count_to_is_refused_with_the_largest() -> None:
    with pytest.raises(InvalidArgument, match=r"steps: got .* from 1 to 1000000000\.$"):
        validation.whole("steps", 10**12, 1)


@pytest.mark.parametrize("good", [-(2**63), -1, 0, 2**63, 2**64 - 1, np.uint64(2**64 - 1)])
def test_a_seed_is_what_torch_takes(good: Any) -> None:
    torch.Generator().manual_seed(validation.seed("seed", good))


@pytest.mark.parametrize("bad", [-(2**63) - 1, 2**64, 2**70, 10**400, 1.5, math.nan])
def test_no_other_seed_is(bad: Any) -> None:
    with pytest.raises(InvalidArgument, match=r"^seed: got"):
        validation.seed("seed", bad)


@pytest.mark.parametrize("bad", [0, 1, "yes", None, [], Hostile(), torch.tensor(True)])
def test_a_flag_is_true_or_false(bad: object) -> None:
    assert validation.flag("zoom", np.bool_(1)) is True
    with pytest.raises(InvalidArgument, match=r"^zoom: got .* expected True or False"):
        validation.flag("zoom", bad)


@pytest.mark.parametrize("bad", [5, "mse", None, [], Hostile()])
def test_a_function_is_called_and_no_class(bad: object) -> None:
    assert validation.function("loss_fn", len) is len
    with pytest.raises(InvalidArgument, match=r"^loss_fn: got .* expected a function"):
        validation.function("loss_fn", bad)
    with pytest.raises(InvalidArgument, match=r"got the class Hostile.* loss_fn=Hostile\(\.\.\.\)"):
        validation.function("loss_fn", Hostile)


@pytest.mark.parametrize("bad", ["fast", None, 3, ["valley"], {}, np.array(["valley"]), Hostile()])
def test_one_of_some_words_lists_them(bad: object) -> None:
    check = validation.one_of(("valley", "slide"))
    assert check("rule", "slide") == "slide"
    with pytest.raises(InvalidArgument, match=r"^rule: got .* expected one of 'valley', 'slide'"):
        check("rule", bad)


@pytest.mark.parametrize("bad", [5, None, "text", np.array(3), Hostile(), itertools.count()])
def test_a_list_ends_and_can_be_read(bad: object) -> None:
    assert validation.listed("lrs", iter([1, 2]), "numbers") == (1, 2)
    with pytest.raises(InvalidArgument, match=r"^lrs: got .* expected numbers"):
        validation.listed("lrs", bad, "numbers")


@pytest.mark.parametrize(
    "bad", [b"r.json", "a\0b", Path("a\0b"), "", 3, None, Hostile(), "\ud800", os.DirEntry]
)
def test_a_path_that_no_file_can_have_is_refused_by_name(bad: object) -> None:
    assert validation.file_path("path", Path("r.json")) == Path("r.json")
    with pytest.raises(InvalidArgument, match=r"^path: got .* expected a path"):
        validation.file_path("path", bad)


def test_bounds_are_floats_in_order() -> None:
    assert validation.lr_bounds(np.float32(0.5), Decimal(2)) == (0.5, 2.0)
    assert validation.lr_bounds(None, 1) == (None, 1.0)
    assert validation.lr_bounds(5e-324, None) == (5e-324, None)
    for bounds, name in (
        ((1, 0.5), "max_lr"), ((1, 1), "max_lr"), ((None, 5e-324), "max_lr"),
        ((1.7e308, None), "min_lr"), (("a", None), "min_lr"), ((None, 0), "max_lr"),
    ):  # fmt: skip
        with pytest.raises(InvalidArgument, match=f"^{name}: got"):
            validation.lr_bounds(*bounds)
