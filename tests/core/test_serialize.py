from __future__ import annotations

import dataclasses
import errno
import json
import math
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lrsearch.core.curve import Curve, Stop
from lrsearch.core.outcome import Cost, Outcome, Status
from lrsearch.core.search import Plan, run_search
from lrsearch.core.serialize import FORMAT, FORMAT_VERSION, from_json, to_json, write_atomically
from lrsearch.errors import InvalidArgument, InvalidResultFile
from lrsearch.methods.range_test import RangeTest
from lrsearch.result import Result
from tests.core.toys import Quadratic

numbers = st.floats(allow_nan=True, allow_infinity=True)
rates = st.floats(0.0, exclude_min=True, allow_infinity=False)
counts = st.integers(0, 2**53 - 1)
plain = st.none() | st.booleans() | st.integers() | st.text() | st.floats(allow_nan=False)


@st.composite
def curves(draw: st.DrawFn) -> Curve:
    points = draw(st.lists(st.tuples(st.just(0.0) | rates, numbers), max_size=8))
    pairs = st.lists(st.tuples(counts, numbers), max_size=3)
    return Curve(
        [lr for lr, _ in points],
        [loss for _, loss in points],
        draw(st.sampled_from(Stop)),
        draw(counts),
        tuple(draw(pairs)),
    )


@st.composite
def outcomes_of_any_kind(draw: st.DrawFn) -> Outcome:
    outcome = draw(any_outcomes)
    if not outcome.status.found:
        return outcome
    low, lr, high = sorted(draw(st.tuples(rates, rates, rates)))
    return dataclasses.replace(outcome, low=low, lr=lr, high=high)


outcomes = outcomes_of_any_kind()
any_outcomes = st.builds(
    Outcome,
    lr=numbers,
    low=numbers,
    high=numbers,
    status=st.sampled_from(Status),
    why=st.text(),
    rule=st.text(),
    curves=st.lists(curves(), max_size=3).map(tuple),
    cost=st.builds(
        Cost, steps=counts, evaluations=counts, seconds=numbers, runs=st.none() | numbers
    ),
    settings=st.dictionaries(
        st.text(),
        st.recursive(
            plain.filter(lambda value: value not in (math.inf, -math.inf)),
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner),
            max_leaves=5,
        ),
        max_size=3,
    ),
    multipliers=st.lists(rates, min_size=1, max_size=3).map(tuple),
    spread=st.none() | numbers,
    noise=st.none() | numbers,
    correction=st.none() | numbers,
)


def an_outcome() -> Outcome:
    return run_search(Quadratic(noise=0.1), RangeTest(steps=60), Plan(train_steps=100))


# --------------------------------------------------------------------------------- there and back


@given(outcome=outcomes)
def test_every_outcome_comes_back_as_it_was(outcome: Outcome) -> None:
    again = from_json(to_json(outcome))
    assert repr(again) == repr(outcome)  # NaN is not equal to itself, and reads the same
    assert again.curves == outcome.curves  # bit for bit
    assert to_json(again) == to_json(outcome)


def test_a_real_search_comes_back_as_it_was_from_text_and_bytes() -> None:
    outcome = an_outcome()
    assert outcome.status.found
    assert from_json(to_json(outcome)) == outcome
    assert from_json(to_json(outcome).encode()) == outcome


def test_the_text_is_strict_json_even_with_nan_and_infinity() -> None:
    curve = Curve([0.1, 0.2, 0.3], [1.0, math.nan, -math.inf], evaluations=((3, math.inf),))
    nan = math.nan
    outcome = Outcome(nan, nan, nan, Status.DIVERGED, "", "", (curve,), Cost(3, 1, 0.0))

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    content = json.loads(to_json(outcome), parse_constant=refuse)
    assert content["lr"] == "nan"
    assert content["curves"][0]["loss"] == [1.0, "nan", "-inf"]
    assert content["format"] == FORMAT
    assert content["version"] == FORMAT_VERSION


def test_settings_that_json_cannot_hold_are_described() -> None:
    settings = {"array": np.arange(2), "seed": np.int64(3), "nan": math.nan, "pair": (1, 2)}
    outcome = Outcome(0.1, 0.1, 0.1, Status.FOUND, "", "", (), Cost(0, 0, 0.0), settings)
    again = from_json(to_json(outcome))
    assert again.settings["array"] == "array([0, 1])"
    assert again.settings["nan"] == "nan"
    assert again.settings["pair"] == [1, 2]
    assert "3" in str(again.settings["seed"])


# ------------------------------------------------------------------------------------- damage


@settings(max_examples=300)
@given(content=st.binary(max_size=200))
def test_any_bytes_are_a_result_or_an_error_of_ours(content: bytes) -> None:
    with pytest.raises(InvalidResultFile):
        from_json(content)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=10,
)
BLANK = to_json(
    Outcome(
        0.1, 0.05, 0.2, Status.FOUND, "why", "rule",
        (Curve([0.1, 0.2], [2.0, 1.0], evaluations=((2, 1.0),)),), Cost(2, 1, 0.5, 0.1),
        {"seed": 0},
    )
)  # fmt: skip


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in nested JSON that holds something."""
    items: Any = ()
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, list):
        items = enumerate(value)
    return [path] * bool(path) + [
        place for key, item in items for place in places(item, (*path, key))
    ]


@settings(max_examples=500)
@given(place=st.sampled_from(places(json.loads(BLANK))), value=json_values)
def test_a_result_with_any_value_anywhere_is_read_or_refused_by_our_error(place, value) -> None:
    content = json.loads(BLANK)
    inner = content
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    try:
        outcome = from_json(json.dumps(content))
    except InvalidResultFile:
        return
    assert from_json(to_json(outcome)).curves == outcome.curves
    assert all(isinstance(curve, Curve) for curve in outcome.curves)


def test_a_huge_value_is_not_repeated_in_the_message() -> None:
    content = {**json.loads(BLANK), "status": "x" * 100_000}
    with pytest.raises(InvalidResultFile) as caught:
        from_json(json.dumps(content))
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    "place", [place for place in places(json.loads(BLANK)) if isinstance(place[-1], str)]
)
def test_a_result_with_anything_missing_is_refused_by_name(place) -> None:
    content = json.loads(BLANK)
    inner = content
    for key in place[:-1]:
        inner = inner[key]
    del inner[place[-1]]
    if place[0] == "settings" and len(place) > 1:
        assert from_json(json.dumps(content)).settings == {}
        return
    with pytest.raises(InvalidResultFile, match=str(place[-1])):
        from_json(json.dumps(content))


@pytest.mark.parametrize("cut", [0, 1, 10, 100, -2])
def test_a_file_that_was_cut_short_says_so(cut: int) -> None:
    with pytest.raises(InvalidResultFile, match=r"This is not JSON .* cut short\?"):
        from_json(BLANK[:cut])


@pytest.mark.parametrize("text", ["null", "[]", "3", '"text"', "{}", '{"format": "other"}'])
def test_json_of_something_else_says_what_was_expected(text: str) -> None:
    with pytest.raises(InvalidResultFile, match='expected an object with "format"'):
        from_json(text)


def test_a_newer_version_says_to_upgrade() -> None:
    content = {**json.loads(BLANK), "version": FORMAT_VERSION + 1}
    with pytest.raises(InvalidResultFile, match=r"format version 2, .* Upgrade lrsearch"):
        from_json(json.dumps(content))


@pytest.mark.parametrize("version", [None, "1", 0, -1, 1.0, True, []])
def test_a_version_that_is_none_is_refused(version: object) -> None:
    with pytest.raises(InvalidResultFile, match=r"^version: got"):
        from_json(json.dumps({**json.loads(BLANK), "version": version}))


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        '{"format":' * 50_000,
        BLANK.replace('"seed": 0', '"seed": ' + "[" * 900 + "]" * 900),
    ],
    ids=["brackets", "objects", "deep settings"],
)
def test_json_nested_without_end_is_read_or_refused_by_our_error(text: str) -> None:
    try:
        outcome = from_json(text)
    except InvalidResultFile:
        return
    assert outcome.rule == "rule"


# -------------------------------------------------------------------------------- files


def test_a_file_is_written_whole_and_with_the_usual_rights(tmp_path: Path) -> None:
    target = tmp_path / "new" / "result.json"
    umask = os.umask(0o022)
    try:
        written = write_atomically(target, lambda path: path.write_text("whole"))
    finally:
        os.umask(umask)
    assert written == target
    assert target.read_text() == "whole"
    assert [path.name for path in target.parent.iterdir()] == ["result.json"]
    if sys.platform != "win32":
        assert stat.S_IMODE(target.stat().st_mode) == 0o644


def test_the_temporary_file_keeps_the_suffix_by_which_formats_are_told(tmp_path: Path) -> None:
    seen = []
    write_atomically(tmp_path / "plot.svg", lambda path: seen.append(path.suffix))
    assert seen == [".svg"]


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt(), ValueError()])
def test_an_error_midway_keeps_the_old_file_and_leaves_nothing_else(error, tmp_path) -> None:
    target = tmp_path / "result.json"
    target.write_text("old")

    def half(path: Path) -> None:
        path.write_text("hal")
        raise error

    with pytest.raises(type(error)):
        write_atomically(target, half)
    assert target.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["result.json"]


def test_a_directory_in_the_way_is_an_error_and_stays(tmp_path: Path) -> None:
    (tmp_path / "result.json" / "inside").mkdir(parents=True)
    with pytest.raises(OSError, match=r"result\.json"):
        write_atomically(tmp_path / "result.json", lambda path: path.write_text("new"))
    assert [path.name for path in tmp_path.iterdir()] == ["result.json"]


FULL = """
import resource, sys
from pathlib import Path
from lrsearch.core.serialize import write_atomically
target = Path(sys.argv[1])
# The kernel refuses to let any file grow beyond 100 bytes, as it does on a full disk.
resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
try:
    write_atomically(target, lambda path: path.write_text("x" * 100_000))
except OSError as error:
    print(type(error).__name__, error.errno)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="resource limits are of POSIX")
@pytest.mark.parametrize("there_before", [True, False])
def test_a_disk_that_is_full_keeps_the_old_file_and_leaves_nothing_else(
    there_before: bool, tmp_path: Path
) -> None:
    target = tmp_path / "result.json"
    if there_before:
        target.write_text("old")
    run = subprocess.run(
        [sys.executable, "-c", FULL, str(target)], capture_output=True, text=True, check=True
    )
    assert run.stdout.split() == ["OSError", str(errno.EFBIG)]
    assert [path.read_text() for path in tmp_path.iterdir()] == ["old"] * there_before


def write(target: Path, text: str = "new") -> None:
    write_atomically(target, lambda path: path.write_text(text))


posix = pytest.mark.skipif(sys.platform == "win32", reason="modes, links and pipes of POSIX")


@posix
@pytest.mark.parametrize("mode", [0o600, 0o640, 0o666, 0o755])
def test_a_file_keeps_its_mode(mode: int, tmp_path: Path) -> None:
    target = tmp_path / "r.json"
    target.write_text("old")
    target.chmod(mode)
    write(target)
    assert target.read_text() == "new"
    assert stat.S_IMODE(target.stat().st_mode) == mode


@posix
def test_the_umask_is_not_touched_even_for_a_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "umask")
    write(tmp_path / "r.json")


@posix
def test_a_link_is_written_through_and_stays(tmp_path: Path) -> None:
    behind, link, twin = (tmp_path / name for name in ("behind.json", "link.json", "twin.json"))
    link.symlink_to(behind)  # leads nowhere yet
    write(link)
    assert behind.read_text() == "new"
    twin.hardlink_to(behind)
    write(twin, "newer")
    assert behind.read_text() == link.read_text() == "newer"
    assert link.is_symlink()
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "behind.json", "link.json", "twin.json"
    ]  # fmt: skip


@posix
def test_a_device_stays_a_device() -> None:
    before = Path(os.devnull).stat()
    write(Path(os.devnull))
    after = Path(os.devnull).stat()
    assert stat.S_ISCHR(after.st_mode)
    assert (after.st_ino, after.st_mode) == (before.st_ino, before.st_mode)
    with pytest.raises(OSError, match="No space left"):
        write(Path("/dev/full"))


@posix
def test_a_pipe_is_written_into(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.json"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    write(pipe)
    assert os.read(reader, 100) == b"new"
    os.close(reader)
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    readable, writable = os.pipe()
    write(Path(f"/dev/fd/{writable}"))
    assert os.read(readable, 100) == b"new"
    os.close(readable)
    os.close(writable)


@posix
@pytest.mark.parametrize("kind", ["device", "link"])
def test_an_error_before_a_special_file_is_reached_leaves_nothing(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    (tmp_path / "r.json").write_text("old")
    (tmp_path / "link.json").symlink_to(tmp_path / "r.json")

    def fail(path: Path) -> None:
        path.write_text("hal")
        raise OSError("disk on fire")

    with pytest.raises(OSError, match="on fire"):
        write_atomically(os.devnull if kind == "device" else tmp_path / "link.json", fail)
    assert (tmp_path / "r.json").read_text() == "old"
    assert list((tmp_path / "temporary").iterdir()) == []


@pytest.mark.parametrize("bad", [b"r.json", "a\0b", "", 3, None, "\ud800.json"])
def test_a_path_that_no_file_can_have_is_refused_by_name(bad: Any) -> None:
    result = Result.from_outcome(from_json(BLANK))
    for call in (result.to_json, result.plot, result.report, Result.from_json):
        if bad is None and call in (result.to_json, result.plot):
            continue
        with pytest.raises(InvalidArgument, match=r"^path: got"):
            call(bad)
