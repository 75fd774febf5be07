"""Whatever goes wrong, wherever: everything is as before, and the error says where it was."""

from __future__ import annotations

import math
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import lrsearch
from lrsearch.core.curve import Stop
from lrsearch.core.search import Plan, run_search
from lrsearch.pytorch.trainable import torch_trainable
from lrsearch.testing.failing import ctrl_c
from tests.pytorch.fingerprint import fingerprint
from tests.pytorch.problems import OPTIMIZERS, data, loader, network, train

ROOT = Path(__file__).parents[2]
LOSS = nn.functional.cross_entropy
METHODS: dict[str, Any] = {
    "range": lrsearch.RangeTest(steps=40),
    "race": lrsearch.Race(budget=1.0),
}


class Broken(RuntimeError):
    """What the user's own code raises in these tests."""


def broken() -> None:
    raise Broken("on purpose")


def pressed_ctrl_c() -> None:
    signal.raise_signal(signal.SIGINT)


@pytest.fixture(autouse=True)
def own_temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other programs of this machine have temporary files too."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))


class Setup:
    """A training in which ``place`` fails the ``at``-th time that it is reached."""

    def __init__(self, place: str, at: int, fail: Callable[[], None]) -> None:
        self.model = network()
        self.optimizer = OPTIMIZERS["momentum"](self.model.parameters())
        train(self.model, self.optimizer, loader(), 3)
        self._calls = iter(range(100_000))
        self._at, self._fail = at, fail
        boom = self._boom
        self.loss: Any = LOSS
        self.batches: Any = loader()
        self.held_out: Any = loader(64)
        self.observer: Any = None
        if place == "forward":
            self.model.register_forward_pre_hook(lambda *_: boom())
        elif place == "loss":
            self.loss = lambda outputs, targets: (boom(), LOSS(outputs, targets))[1]
        elif place == "backward":
            self.model[0].weight.register_hook(lambda _: boom())  # type: ignore[index,union-attr]
        elif place == "optimizer":
            self.optimizer.register_step_pre_hook(lambda *_: boom())
        elif place == "loader":
            self.batches = lambda: self._failing(loader())
        elif place == "evaluation":
            self.held_out = lambda: self._failing(loader(64))
        elif place == "progress":
            self.observer = lambda update: boom()

    def search(self, method: str) -> None:
        trainable = torch_trainable(
            self.model, self.optimizer, self.loss, self.batches, val_loader=self.held_out
        )
        run_search(trainable, METHODS[method], Plan(train_steps=60), self.observer)

    def _boom(self) -> None:
        if next(self._calls) == self._at:
            self._fail()

    def _failing(self, batches: Any) -> Iterator[Any]:
        for batch in batches:
            self._boom()
            yield batch


@contextmanager
def nothing_left(setup: Setup) -> Iterator[None]:
    """State, threads, hooks and temporary files are afterwards what they were."""
    before = fingerprint(setup.model, setup.optimizer), everything_around()
    yield
    assert (fingerprint(setup.model, setup.optimizer), everything_around()) == before


def everything_around() -> dict[str, Any]:
    return {
        "threads": {thread.ident for thread in threading.enumerate()},
        "files": {path.name for path in Path(tempfile.gettempdir()).glob("*lrsearch*")},
        "SIGINT": signal.getsignal(signal.SIGINT),
        "grad": torch.is_grad_enabled(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
    }


# The note of the innermost place, and that of the update.
PLACES = {
    "loader": "lrsearch: while reading a batch from train_loader",
    "forward": "lrsearch: while computing the loss",
    "loss": "lrsearch: while computing the loss",
    "backward": "lrsearch: while computing the gradients",
    "optimizer": "lrsearch: while stepping the optimizer",
    "progress": "lrsearch: in the progress display after update",
    "evaluation": "lrsearch: in the evaluation ",
}


@pytest.mark.parametrize("kind", ["error", "ctrl-c"])
@pytest.mark.parametrize("at", [0, 1, 17])
@pytest.mark.parametrize(
    ("place", "method"),
    [(place, "range") for place in PLACES if place != "evaluation"]  # it measures four
    + [(place, "race") for place in PLACES],
)
def test_everything_is_as_before_and_the_error_says_where(
    place: str, method: str, at: int, kind: str
) -> None:
    setup = Setup(place, at, broken if kind == "error" else pressed_ctrl_c)
    expected = Broken if kind == "error" else KeyboardInterrupt
    with ctrl_c(), nothing_left(setup), pytest.raises(expected) as caught:
        setup.search(method)
    notes = getattr(caught.value, "__notes__", [])
    # Both evaluate before they train, and that has a forward pass and a loss too.
    evaluating = place in ("forward", "loss") and at < 17
    assert notes[0].startswith(PLACES["evaluation" if evaluating else place])
    assert notes[-1].startswith("lrsearch: in ")
    assert ", lane " in notes[-1]


@pytest.mark.parametrize("at", [0, 1, 17])
def test_the_note_counts_updates_from_one_and_tells_the_rate(at: int) -> None:
    setup = Setup("loss", at, broken)
    with pytest.raises(Broken) as caught:
        lrsearch.find_lr(
            setup.model,
            setup.optimizer,
            setup.loss,
            setup.batches,
            method=lrsearch.RangeTest(steps=40, min_lr=1e-3, max_lr=1e-1),
            progress=False,
        )
    lr = 1e-3 * 100 ** (at / 39)
    assert caught.value.__notes__[-1] == f"lrsearch: in update {at + 1} of 40, lane 0, lr {lr:.3g}"


def test_an_error_that_is_caught_does_not_keep_the_next_search_from_the_same_answer() -> None:
    def curves(fail_first: bool) -> Any:
        setup = Setup("loss", 9 if fail_first else -1, broken)
        if fail_first:
            with pytest.raises(Broken):
                setup.search("range")
        trainable = torch_trainable(setup.model, setup.optimizer, LOSS, setup.batches)
        return run_search(trainable, METHODS["range"], Plan(60)).curves

    assert curves(fail_first=True) == curves(fail_first=False)


# ------------------------------------------------------------------------------- not a number


@pytest.mark.parametrize("what", ["loss", "gradient", "weights"])
@pytest.mark.parametrize("at", [0, 1, 9])
@pytest.mark.parametrize("method", METHODS)
def test_nan_at_one_update_only_ends_one_lane_and_is_undone(
    method: str, at: int, what: str
) -> None:
    model = network()
    optimizer = OPTIMIZERS["adam"](model.parameters())
    train(model, optimizer, loader(), 3)
    calls = iter(range(100_000))

    def loss_fn(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        loss = LOSS(outputs, targets)
        if next(calls) != at:
            return loss
        if what == "gradient":
            outputs.register_hook(lambda gradient: gradient * math.nan)
        elif what == "weights":
            with torch.no_grad():
                model[0].weight.fill_(math.nan)  # type: ignore[index,union-attr,operator]
        return loss * math.nan if what == "loss" else loss

    before = fingerprint(model, optimizer)
    result = lrsearch.find_lr(
        model, optimizer, loss_fn, loader(), method=METHODS[method], train_steps=60,
        progress=False, throw=False,
    )  # fmt: skip
    assert fingerprint(model, optimizer) == before
    first, *others = result.curves
    assert first.stop is Stop.NOT_FINITE
    assert len(first) == at + (1 if what == "loss" else 2)
    assert all(curve.stop is not Stop.NOT_FINITE for curve in others)
    assert others or result.status is lrsearch.Status.NOT_FINITE or at == 9


# ------------------------------------------------------------------------------ real processes


class KillsItsWorker(torch.utils.data.Dataset[Any]):
    """The worker process that loads example 100 dies without a word."""

    def __init__(self) -> None:
        self.examples = data()

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, index: int) -> Any:
        if index == 100 and torch.utils.data.get_worker_info() is not None:
            os.kill(os.getpid(), signal.SIGKILL)
        return self.examples[index]


SEARCH = """
import gc, signal, time
import lrsearch
from torch.utils.data import DataLoader
from tests.pytorch.test_errors import *

signal.signal(signal.SIGINT, signal.default_int_handler)
setup = Setup("nowhere", -1, broken)
begun = []

def slow(outputs, targets):
    if not begun:
        begun.append(print("training", flush=True))
    time.sleep({pause})
    return LOSS(outputs, targets)

before = fingerprint(setup.model, setup.optimizer), everything_around()
errors = []
for attempt in range(2):  # PyTorch may raise once more, from a signal, as soon as we are here
    try:
        if not attempt:
            lrsearch.find_lr(setup.model, setup.optimizer, slow, {batches}, progress=False,
                             method=lrsearch.RangeTest(steps={steps}))
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    except BaseException as error:
        errors.append(error)
print(type(errors[0]).__name__, str(errors[0]).splitlines()[:1])
print(*getattr(errors[0], "__notes__", []), sep="; ")
errors.clear()  # their frames hold the loader's iterator, and that its processes
gc.collect()
print((fingerprint(setup.model, setup.optimizer), everything_around()) == before)
"""


@contextmanager
def searching(**given: Any) -> Iterator[subprocess.Popen[str]]:
    """Another Python that has begun a search on ``batches``."""
    script = SEARCH.format(**given)
    with subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, cwd=ROOT
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "training\n"
        yield process


def test_ctrl_c_in_a_terminal_ends_the_search_with_everything_as_before() -> None:
    with searching(batches="setup.batches", pause=0.01, steps=100_000) as process:
        process.send_signal(signal.SIGINT)
        error, notes, same = process.communicate(timeout=100)[0].splitlines()
    assert error == "KeyboardInterrupt []"
    assert "lrsearch: in update " in notes
    assert same == "True"


def test_a_worker_process_of_the_loader_that_is_killed_is_an_error_that_says_so() -> None:
    batches = "DataLoader(KillsItsWorker(), 16, num_workers=1)"
    with searching(batches=batches, pause=0.0, steps=40) as process:
        error, notes, same = process.communicate(timeout=100)[0].splitlines()
    # PyTorch has several words for it: its handler of SIGCHLD raises wherever the program is.
    assert re.match(r"RuntimeError .*DataLoader worker|ConnectionResetError|EOFError", error)
    assert notes == "" or "lrsearch: in " in notes
    assert same == "True"
