"""A search leaves everything bit for bit as it was, and training after it is unchanged."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

import lrsearch
from tests.pytorch.fingerprint import fingerprint
from tests.pytorch.problems import OPTIMIZERS, data, loader, network, train

LOSS = nn.functional.cross_entropy
METHODS: dict[str, Any] = {
    "range": lrsearch.RangeTest(steps=40),
    "ladder": lrsearch.Ladder(updates=1, zoom=5),
    "sweep": lrsearch.Sweep([1e-3, 1e-2, 1e-1]),
}


def find(
    model: nn.Module, optimizer: torch.optim.Optimizer, batches: Any, **options: Any
) -> lrsearch.Result:
    defaults = {"method": METHODS["range"], "progress": False, "throw": False, "train_steps": 20}
    return lrsearch.find_lr(model, optimizer, LOSS, batches, **{**defaults, **options})


@pytest.mark.parametrize("warm", [False, True], ids=["fresh", "trained"])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_everything_is_as_before(name: str, method: str, warm: bool) -> None:
    model = network()
    optimizer = OPTIMIZERS[name](model.parameters())
    batches = loader()
    if warm:
        train(model, optimizer, batches, 5)
    before = fingerprint(model, optimizer)
    find(model, optimizer, batches, method=METHODS[method], val_loader=loader(64, shuffle=False))
    assert fingerprint(model, optimizer) == before


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("twice", [False, True], ids=["once", "twice"])
def test_training_after_a_search_equals_training_without(name: str, twice: bool) -> None:
    def losses(searches: int) -> list[float]:
        model = network()
        optimizer = OPTIMIZERS[name](model.parameters())
        batches = loader()
        first = train(model, optimizer, batches, 7)
        for _ in range(searches):
            find(model, optimizer, batches)
        return first + train(model, optimizer, batches, 30)

    assert losses(2 if twice else 1) == losses(0)


def test_gradients_of_the_user_are_the_same_tensors() -> None:
    model = network()
    optimizer = OPTIMIZERS["sgd"](model.parameters())
    inputs, targets = next(iter(loader()))
    LOSS(model(inputs), targets).backward()
    before = fingerprint(model, optimizer)
    find(model, optimizer, loader())
    assert fingerprint(model, optimizer) == before


def test_modes_of_submodules_come_back() -> None:
    model = network()
    model.eval()
    model[3].train()  # type: ignore[index]
    before = {name: module.training for name, module in model.named_modules()}
    find(model, OPTIMIZERS["adam"](model.parameters()), loader())
    assert {name: module.training for name, module in model.named_modules()} == before


def test_a_frozen_batchnorm_stays_in_eval_mode_while_the_model_trains() -> None:
    model = network()
    model[1].eval()  # type: ignore[index]
    seen: list[bool] = []
    model[1].register_forward_pre_hook(  # type: ignore[index]
        lambda module, _: seen.append(module.training)
    )
    find(model, OPTIMIZERS["adam"](model.parameters()), loader())
    assert seen
    assert not any(seen)


@pytest.mark.parametrize("source", ["loader generator", "sampler generator", "global"])
def test_the_order_of_the_data_afterwards_is_the_order_without_a_search(source: str) -> None:
    def order(search: bool) -> list[float]:
        torch.manual_seed(3)
        generator = torch.Generator().manual_seed(5)
        dataset = data()
        if source == "loader generator":
            batches = DataLoader(dataset, 16, shuffle=True, generator=generator)
        elif source == "sampler generator":
            sampler = torch.utils.data.RandomSampler(dataset, generator=generator)
            batches = DataLoader(dataset, 16, sampler=sampler)
        else:
            batches = DataLoader(dataset, 16, shuffle=True)
        model = network()
        if search:
            find(model, OPTIMIZERS["sgd"](model.parameters()), batches)
        return [inputs.sum().item() for inputs, _ in batches]

    assert order(search=True) == order(search=False)


def test_random_states_that_the_data_draws_from_come_back() -> None:
    class Augmented(torch.utils.data.Dataset[Any]):
        def __len__(self) -> int:
            return 64

        def __getitem__(self, index: int) -> Any:
            jitter = random.random() + np.random.rand() + torch.rand(8)  # noqa: NPY002
            return jitter, index % 4

    model = network()
    optimizer = OPTIMIZERS["adam"](model.parameters())
    before = fingerprint(model, optimizer)
    find(model, optimizer, DataLoader(Augmented(), 16, shuffle=True))
    assert fingerprint(model, optimizer) == before


def test_a_buffer_replaced_in_forward_is_the_users_own_again() -> None:
    class Counting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(8, 4)
            self.register_buffer("seen", torch.zeros(()), persistent=False)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.seen = self.seen + len(x)  # a new tensor every time
            return self.layer(x)  # type: ignore[no-any-return]

    model = Counting()
    own = model.seen
    find(model, OPTIMIZERS["sgd"](model.parameters()), loader())
    assert model.seen is own
    assert model.seen.item() == 0.0


def test_tied_weights_stay_tied() -> None:
    model = nn.Sequential(nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 8))
    model[2].weight = model[0].weight
    optimizer = OPTIMIZERS["adam"](model.parameters())
    before = fingerprint(model, optimizer)
    find(model, optimizer, loader())
    assert model[2].weight is model[0].weight
    assert fingerprint(model, optimizer) == before


def test_the_loss_scaler_comes_back() -> None:
    model = network()
    optimizer = OPTIMIZERS["sgd"](model.parameters())
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10, growth_interval=3)
    before = fingerprint(model, optimizer, scaler)
    find(model, optimizer, loader(), grad_scaler=scaler, autocast=torch.bfloat16)
    assert fingerprint(model, optimizer, scaler) == before


def test_no_files_are_written(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    model = network()
    find(model, OPTIMIZERS["sgd"](model.parameters()), loader())
    assert list(tmp_path.iterdir()) == []


def test_memory_held_is_one_copy_of_the_training_state() -> None:
    from lrsearch.pytorch.snapshot import take

    model = network()
    optimizer = OPTIMIZERS["adam"](model.parameters())
    train(model, optimizer, loader(), 1)
    taken = take(model, optimizer)
    kept = [*model.parameters(), *model.buffers()]
    kept += [value for entry in optimizer.state.values() for value in entry.values()]
    assert sum(one.value.nbytes for one in taken.objects.tensors.kept) == sum(
        tensor.nbytes for tensor in kept
    )
