"""The first Ctrl-C waits for a safe place; what the program had set up for it stays."""

from __future__ import annotations

import signal
import threading

import pytest

from lrsearch.core.interrupt import interrupt_later


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
