"""A second search in a process is refused by name before it starts."""

from __future__ import annotations

import threading

import pytest
import torch
from torch import nn

import lrsearch
from lrsearch.core.one_search import one_search

LOSS = nn.functional.cross_entropy
BATCHES = [(torch.randn(8, 4), torch.randint(0, 2, (8,))) for _ in range(4)]


def find(loss: object = LOSS) -> lrsearch.Result:
    model = nn.utils.skip_init(nn.Linear, 4, 2)  # which would draw random numbers
    with torch.no_grad():
        model.weight.fill_(0.1)
        model.bias.zero_()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    method = lrsearch.RangeTest(steps=10)
    return lrsearch.find_lr(
        model, optimizer, loss, BATCHES, method=method, progress=False, throw=False  # type: ignore[arg-type]
    )  # fmt: skip


def test_one_in_another_thread_is_refused_and_the_first_goes_on() -> None:
    said: list[BaseException] = []

    def other() -> None:
        before = torch.get_rng_state()
        try:
            find()
        except lrsearch.LRSearchError as error:
            said.append(error)
        assert torch.equal(torch.get_rng_state(), before)

    def loss(out: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        if not said:
            thread = threading.Thread(target=other)
            thread.start()
            thread.join()
        return LOSS(out, y)

    assert find(loss).curves == find().curves
    assert [type(error) for error in said] == [lrsearch.InvalidArgument]
    assert "search: got a second one" in str(said[0])


def test_one_within_another_is_refused() -> None:
    def loss(out: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        find()
        return LOSS(out, y)

    with pytest.raises(lrsearch.InvalidArgument, match="got a second one while one runs"):
        find(loss)


@pytest.mark.parametrize("error", [None, RuntimeError, KeyboardInterrupt])
def test_the_next_one_may_begin_however_the_last_one_ended(error: type[BaseException]) -> None:
    def loss(out: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        if error is not None:
            raise error
        return LOSS(out, y)

    for _ in range(2):
        if error is None:
            find(loss)
        else:
            with pytest.raises(error):
                find(loss)


def test_what_is_made_ready_holds_one_search_and_no_second_one() -> None:
    with one_search(ready=False):
        with one_search():
            pass
        with pytest.raises(lrsearch.InvalidArgument, match="one at a time"), one_search():
            pass
    with one_search():
        pass
