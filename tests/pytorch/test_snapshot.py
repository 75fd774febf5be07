"""One copy of the training state, beside it, in main memory or on disk; restored bit for bit."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import lrsearch
from lrsearch.pytorch import room, store
from lrsearch.pytorch.snapshot import restore, take
from lrsearch.pytorch.store import PLACES, check_room, copies, remember
from tests.pytorch.fingerprint import fingerprint
from tests.pytorch.problems import OPTIMIZERS, loader, network, train

LOSS = nn.functional.cross_entropy
GIB = 2**30
places = pytest.mark.parametrize("place", PLACES)
on_linux = pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="reads /proc")


def find(model: nn.Module, optimizer: Any, **options: Any) -> lrsearch.Result:
    defaults = {"method": lrsearch.RangeTest(20), "progress": False, "throw": False}
    return lrsearch.find_lr(model, optimizer, LOSS, loader(), **{**defaults, **options})


# ------------------------------------------------------------------------------- copies of tensors

TENSORS: dict[str, torch.Tensor] = {
    "matrix": torch.randn(5, 7),
    "scalar": torch.tensor(3.0, dtype=torch.float64),
    "empty": torch.empty(0, 3),
    "transposed": torch.randn(5, 7).t(),
    "channels last": torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last),
    "strided": torch.randn(10)[::3],
    "expanded": torch.randn(3, 1).expand(3, 4),
    "half": torch.randn(9).bfloat16(),
    "float8": torch.randn(9).to(torch.float8_e4m3fn),
    "bools": torch.tensor([True, False]),
    "complex": torch.randn(3, dtype=torch.complex64),
    "integers": torch.arange(5),
    "NaN and infinity": torch.tensor([float("nan"), float("inf"), -0.0]),
    "sparse": torch.eye(3).to_sparse(),
    "parameter": nn.Parameter(torch.randn(4)),
}


def raw(tensor: torch.Tensor) -> bytes:
    dense = tensor.detach().to_dense() if tensor.is_sparse else tensor.detach()
    return dense.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


@places
def test_tensors_of_every_kind_come_back_bit_for_bit_and_twice(place: store.Place) -> None:
    tensors = [
        t.clone() if name != "expanded" else t.clone().narrow(1, 0, 1).expand(3, 4)
        for name, t in TENSORS.items()
    ]
    before = [raw(tensor) for tensor in tensors]
    state = remember(list(enumerate(tensors)), place)
    for _ in range(2):
        for name, tensor in zip(TENSORS, tensors, strict=True):
            if name != "expanded" and not tensor.is_sparse:
                with torch.no_grad():
                    tensor.copy_(torch.zeros_like(tensor))
        assert state.restore() == []
        assert [raw(tensor) for tensor in tensors] == before


@places
def test_a_copy_is_of_its_own(place: store.Place) -> None:
    tensor = torch.zeros(3)
    (value,) = copies([tensor], place)
    tensor.add_(1)
    assert value.tolist() == [0.0, 0.0, 0.0]


# ------------------------------------------------------------------------------ in a whole search


@places
@pytest.mark.parametrize("method", ["range", "race"])
@pytest.mark.parametrize("name", ["momentum", "adam"])
def test_the_search_is_the_same_wherever_the_copy_is(
    name: str, method: str, place: store.Place
) -> None:
    options: dict[str, Any] = {} if method == "range" else {"method": "race", "train_steps": 40}
    model = network()
    optimizer = OPTIMIZERS[name](model.parameters())
    train(model, optimizer, loader(), 3)
    before = fingerprint(model, optimizer)
    expected = find(model, optimizer, **options)
    result = find(model, optimizer, snapshot_to=place, **options)
    assert result.curves == expected.curves
    assert fingerprint(model, optimizer) == before


@places
def test_what_appeared_since_is_gone_and_what_was_replaced_is_back(place: store.Place) -> None:
    model = network()
    optimizer = torch.optim.Adam(model.parameters())
    fresh = take(model, optimizer, place=place)
    train(model, optimizer, loader(), 2)
    used = take(model, optimizer, place=place)
    known = fingerprint(model, optimizer)
    moments = {id(v) for entry in optimizer.state.values() for v in entry.values()}
    restore(fresh)
    assert len(optimizer.state) == 0
    restore(used)
    assert fingerprint(model, optimizer) == known
    assert {id(v) for entry in optimizer.state.values() for v in entry.values()} == moments


def test_another_place_is_refused() -> None:
    model = network()
    with pytest.raises(lrsearch.InvalidArgument, match="snapshot_to: got 'disc', expected 'dev"):
        find(model, OPTIMIZERS["sgd"](model.parameters()), snapshot_to="disc")


# --------------------------------------------------------------------------------- not enough room


@pytest.mark.parametrize(
    ("place", "way_out"), [("device", '"cpu"'), ("cpu", '"disk"'), ("disk", "TMPDIR")]
)
def test_what_does_not_fit_is_told_before_training(
    place: store.Place, way_out: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "_NOTABLE", 1)
    monkeypatch.setattr(store, "free_memory", lambda device: 1000)
    monkeypatch.setattr(store.shutil, "disk_usage", lambda path: _Usage())
    model = network()
    optimizer = OPTIMIZERS["adam"](model.parameters())
    steps: list[int] = []
    optimizer.register_step_pre_hook(lambda *_: steps.append(1))
    before = fingerprint(model, optimizer)
    with pytest.raises(
        lrsearch.InvalidArgument, match=rf"snapshot_to: got '{place}', expected room.*{way_out}"
    ):
        find(model, optimizer, snapshot_to=place)
    assert steps == []
    assert fingerprint(model, optimizer) == before


class _Usage:
    free = 1000


def test_the_state_of_the_optimizer_counts_as_soon_as_there_is_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = network()
    optimizer = OPTIMIZERS["adam"](model.parameters())
    size = sum(tensor.nbytes for tensor in (*model.parameters(), *model.buffers()))
    monkeypatch.setattr(store, "_NOTABLE", 1)
    monkeypatch.setattr(store, "free_memory", lambda device: size)
    take(model, optimizer)
    train(model, optimizer, loader(), 1)
    with pytest.raises(lrsearch.InvalidArgument, match="GiB free"):
        take(model, optimizer)


def test_a_disk_that_fills_up_is_told_like_one_that_is_full(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(store, "_reserve", full)
    with pytest.raises(lrsearch.InvalidArgument, match="snapshot_to: got 'disk'"):
        copies([torch.ones(3)], "disk")


def test_room_on_disk_can_be_taken_without_the_systems_help(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delattr(os, "posix_fallocate", raising=False)
    monkeypatch.setattr(store, "_BLOCK", 1000)
    (value,) = copies([torch.arange(5000)], "disk")
    assert value.tolist() == list(range(5000))


def test_tensors_without_memory_need_no_room() -> None:
    check_room([torch.empty(2**40, device="meta")], "device")
    check_room([], "disk")


def test_free_memory_is_what_the_machine_and_its_container_leave(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cpu = torch.device("cpu")
    (tmp_path / "meminfo").write_text("MemTotal: 100 kB\nMemAvailable:   64 kB\nOther 1\n")
    monkeypatch.setattr(room, "_MEMINFO", tmp_path / "meminfo")
    for version in ("_CGROUP_1", "_CGROUP_2"):
        monkeypatch.setattr(room, version, tmp_path / version)
    assert room.free_memory(cpu) == 64 * 1024
    for version, limit, usage in (
        ("_CGROUP_1", "memory.limit_in_bytes", "memory.usage_in_bytes"),
        ("_CGROUP_2", "memory.max", "memory.current"),
    ):
        folder = tmp_path / version
        folder.mkdir()
        (folder / limit).write_text("50000\n")
        (folder / usage).write_text("30000\n")
        (folder / "memory.stat").write_text("active_file 5\ninactive_file 7000\n")
        assert room.free_memory(cpu) == 50_000 - 30_000 + 7000
        (folder / limit).write_text("max\n")  # no limit
        assert room.free_memory(cpu) == 64 * 1024
    monkeypatch.setattr(room, "_MEMINFO", tmp_path / "none")
    assert room.free_memory(cpu) is None
    assert room.free_memory(torch.device("meta")) is None


# ------------------------------------------------------------------------- nothing left on the disk


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    yield tmp_path
    gc.collect()


def mapped(folder: Path) -> int:
    """Files of the folder that this process maps, deleted ones included."""
    lines = Path("/proc/self/maps").read_text().splitlines()
    return sum(str(folder) in line for line in lines)


@on_linux
@pytest.mark.parametrize("error", [None, RuntimeError, KeyboardInterrupt])
def test_the_file_is_gone_after_success_error_and_ctrl_c(
    error: type[BaseException] | None, folder: Path
) -> None:
    model = network()
    seen: list[tuple[int, list[Path]]] = []

    def loss_fn(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        seen.append((mapped(folder), list(folder.iterdir())))
        if error is not None and len(seen) == 5:
            raise error("on purpose")
        return LOSS(outputs, targets)

    caught: BaseException | None = None
    try:
        lrsearch.find_lr(
            model,
            OPTIMIZERS["adam"](model.parameters()),
            loss_fn,
            loader(),
            snapshot_to="disk",
            progress=False,
            throw=False,
        )
    except BaseException as raised:
        caught = raised
    assert type(caught) is (error or type(None))
    assert {maps for maps, _ in seen} == {1}  # one copy in all, and it is there
    assert all(names == [] for _, names in seen)  # without a name
    # Even a traceback that is kept does not keep the copy.
    assert mapped(folder) == 0
    assert list(folder.iterdir()) == []


def test_nothing_is_left_of_a_process_that_is_killed(tmp_path: Path) -> None:
    script = textwrap.dedent("""
        import itertools, torch, lrsearch
        model = torch.nn.Linear(64, 64)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        calls = itertools.count()
        def loss_fn(out, y):
            if next(calls) == 3:
                print("training", flush=True)
                import time; time.sleep(60)
            return (out - y).square().mean()
        data = [(torch.ones(4, 64), torch.ones(4, 64))]
        lrsearch.find_lr(model, optimizer, loss_fn, data, snapshot_to="disk", progress=False)
    """)
    process = subprocess.Popen(
        [sys.executable, "-c", script],
        env={**os.environ, "TMPDIR": str(tmp_path)},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "training\n"
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    deadline = time.monotonic() + 10
    while list(tmp_path.iterdir()) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert list(tmp_path.iterdir()) == []


# ------------------------------------------------------------------------------------- one copy


@places
def test_every_tensor_is_copied_once(place: store.Place) -> None:
    model = nn.Sequential(nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 8))
    model[2].weight = model[0].weight
    optimizer = torch.optim.AdamW(model.parameters(), lr=torch.tensor(1e-3))
    train(model, optimizer, loader(), 1)
    taken = take(model, optimizer, place=place)
    tensors = [kept.tensor for kept in taken.objects.tensors.kept]
    assert len({id(tensor) for tensor in tensors}) == len(tensors)
    # Three parameters, their two moments and counts, and the learning rate.
    assert len(tensors) == 3 + 3 * 3 + 1
