"""The first Ctrl-C waits for a safe place; what the program had set up for it stays."""

from __future__ import annotations

import gc
import signal
import sys
import threading

import pytest

from lrsearch.core.interrupt import interrupt_later, interruptible, raise_held, uninterrupted


def ctrl_c() -> None:
    signal.raise_signal(signal.SIGINT)


def interrupted(times: int) -> list[int]:
    """Return how many of the Ctrl-C in a search were survived."""
    survived: list[int] = []

    def search() -> None:
        with interrupt_later():
            for number in range(1, times + 1):
                ctrl_c()
                survived.append(number)

    with pytest.raises(KeyboardInterrupt):
        search()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    return survived


def test_one_that_nobody_asked_for_comes_at_the_end() -> None:
    assert interrupted(1) == [1]


def test_the_second_does_not_wait() -> None:
    assert interrupted(2) == [1]


def test_it_is_raised_once() -> None:
    with interrupt_later() as interrupt_now:
        ctrl_c()
        with pytest.raises(KeyboardInterrupt):
            interrupt_now()
        interrupt_now()


def test_a_handler_of_the_program_is_left_alone() -> None:
    caught: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _: caught.append(number))
    try:
        with interrupt_later() as interrupt_now:
            ctrl_c()
            interrupt_now()
    finally:
        signal.signal(signal.SIGINT, before)
    assert caught == [signal.SIGINT]


def test_other_threads_may_search_too() -> None:
    done: list[bool] = []

    def search() -> None:
        with interrupt_later() as interrupt_now:
            interrupt_now()
            done.append(True)

    thread = threading.Thread(target=search)
    thread.start()
    thread.join()
    assert done == [True]


def test_one_that_is_dropped_is_raised_again(monkeypatch: pytest.MonkeyPatch) -> None:
    class Deleted:
        def __del__(self) -> None:
            ctrl_c()  # nothing can be raised from here

    done: list[str] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda _: None)
    with pytest.raises(KeyboardInterrupt):
        drop_one(Deleted, done)
    assert done == ["dropped"]


def drop_one(kind: type, done: list[str]) -> None:
    with interruptible():
        kind()
        gc.collect()
        done.append("dropped")
        raise_held()
        done.append("not raised")


def test_what_must_be_whole_is_whole_however_often_it_comes() -> None:
    def whole() -> None:
        with interruptible(), uninterrupted():
            for _ in range(5):
                ctrl_c()
                done.append("went on")

    done: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        whole()
    assert done == ["went on"] * 5
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_second_one_on_the_way_out_says_nothing_new() -> None:
    def search() -> None:
        try:
            with interruptible():
                ctrl_c()
        finally:
            done.append("left")

    done: list[str] = []

    def twice() -> None:
        with interruptible():
            try:
                ctrl_c()
            finally:
                ctrl_c()
                done.append("tidied up")

    with pytest.raises(KeyboardInterrupt):
        search()
    with pytest.raises(KeyboardInterrupt):
        twice()
    assert done == ["left", "tidied up"]


def test_an_error_that_follows_from_it_is_not_what_the_user_sees() -> None:
    def search() -> None:
        with interruptible(), uninterrupted():
            ctrl_c()
            raise RuntimeError("a worker has ended")

    with pytest.raises(KeyboardInterrupt) as caught:
        search()
    assert isinstance(caught.value.__cause__, RuntimeError)
