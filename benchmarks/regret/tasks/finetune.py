"""Fine-tuning of models that the benchmark pretrains itself, once, and keeps under `.cache`."""

from __future__ import annotations

import logging
import os
import pathlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.regret.data import (
    CHARACTERS,
    PACKAGES,
    Split,
    code,
    digits,
    lines_as_characters,
    prose,
    windows,
)
from benchmarks.regret.fingerprint import fingerprint
from benchmarks.regret.losses import token_cross_entropy
from benchmarks.regret.models import LanguageModel, SequenceClassifier, Transformer, cnn
from benchmarks.regret.problem import Loader, LossFn, Problem, Task, loaders

logger = logging.getLogger(__name__)

CACHE = pathlib.Path(__file__).parents[1] / ".cache"
LENGTH = 32
State = dict[str, Any]


def _forever(loader: Loader) -> Iterator[Any]:
    while True:
        yield from loader


def _train(model: nn.Module, train_loader: Loader, loss_fn: LossFn, steps: int) -> State:
    """Adam at 3e-3 falling in a line to zero; the state of the trained model."""
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    batches = _forever(train_loader)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 3e-3 * (1 - step / steps)
        inputs, targets = next(batches)
        optimizer.zero_grad()
        loss_fn(model(inputs), targets).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return model.state_dict()


def pretrain_language_model() -> State:
    """A character transformer trained on prose."""
    torch.manual_seed(0)
    model = LanguageModel(Transformer(CHARACTERS, LENGTH), CHARACTERS)
    train_loader, _ = loaders(*windows(prose(), LENGTH), batch_size=32, seed=0)
    return _train(model, train_loader, token_cross_entropy, steps=2500)


def _digits(low: int, high: int, held_out_from: Split) -> Split:
    def keep(pair: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        images, labels = pair
        chosen = (labels >= low) & (labels <= high)
        return images[chosen], labels[chosen] - low

    return keep(held_out_from[0]), keep(held_out_from[1])


def pretrain_low_digits() -> State:
    """A CNN that tells 0, 1, 2, 3 and 4 apart."""
    torch.manual_seed(0)
    train_loader, _ = loaders(*_digits(0, 4, digits(noise=0.0)), batch_size=32, seed=0)
    return _train(cnn(classes=5), train_loader, nn.CrossEntropyLoss(), steps=500)


def pretrained(recipe: Callable[[], State]) -> State:
    """The state that `recipe` returns, computed once and then read from the cache.

    The file's name holds the recipe's fingerprint and torch's version, so a changed recipe is
    trained again. The random state of the caller is left as it was.
    """
    version = ".".join(torch.__version__.split(".")[:2])
    path = CACHE / f"{recipe.__name__}-{fingerprint(recipe)}-torch{version}.pt"
    if not path.exists():
        logger.info("pretraining %s into %s", recipe.__name__, path)
        threads = torch.get_num_threads()
        with torch.random.fork_rng(devices=[]):
            torch.set_num_threads(1)  # sums in another order would give other weights
            state = recipe()
        torch.set_num_threads(threads)
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(f".{os.getpid()}.part")
        torch.save(state, part)
        part.replace(path)  # whole or not at all, when two processes come here at once
    loaded: State = torch.load(path, weights_only=True)
    return loaded


def language_model_adamw(seed: int) -> Problem:
    state = pretrained(pretrain_language_model)
    torch.manual_seed(seed)
    train, val = windows(code(), LENGTH)
    model = LanguageModel(Transformer(CHARACTERS, LENGTH, dropout=0.1), CHARACTERS)
    model.load_state_dict(state)
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-5, weight_decay=0.01)
    return Problem(model, optimizer, token_cross_entropy, *loaders(train, val, 16, seed))


def classifier_groups_adamw(seed: int) -> Problem:
    state = pretrained(pretrain_language_model)
    torch.manual_seed(seed)
    train, val = lines_as_characters(LENGTH)
    model = SequenceClassifier(Transformer(CHARACTERS, LENGTH, dropout=0.1), len(PACKAGES))
    prefix = "backbone."
    part = {k[len(prefix) :]: v for k, v in state.items() if k.startswith(prefix)}
    model.backbone.load_state_dict(part)
    groups = [
        {"params": list(model.backbone.parameters()), "lr": 1e-4},
        {"params": list(model.head.parameters()), "lr": 1e-3},
    ]
    optimizer = torch.optim.AdamW(groups, weight_decay=0.01)
    return Problem(model, optimizer, nn.CrossEntropyLoss(), *loaders(train, val, 16, seed))


def frozen_cnn_heavyball(seed: int) -> Problem:
    state = pretrained(pretrain_low_digits)
    torch.manual_seed(seed)
    train, val = _digits(5, 9, digits())
    model = cnn(classes=5)
    features, head = model[0], model[1]
    assert isinstance(features, nn.Sequential)
    body = {k.removeprefix("0."): v for k, v in state.items() if k.startswith("0.")}
    features.load_state_dict(body)
    first, second = features[0], features[3]
    first.requires_grad_(False)
    groups = [
        {"params": list(head.parameters()), "lr": 1e-2},
        {"params": list(second.parameters()), "lr": 1e-3},
    ]
    optimizer = torch.optim.SGD(groups, momentum=0.9)
    return Problem(model, optimizer, nn.CrossEntropyLoss(), *loaders(train, val, 32, seed))


TASKS = (
    Task(
        name="finetune-transformer-adamw",
        model="fine-tuned transformer",
        family="AdamW",
        train_steps=300,
        schedule="linear",
        batch_size=16,
        build=language_model_adamw,
        note="pretrained on prose, fine-tuned on code",
    ),
    Task(
        name="finetune-classifier-adamw",
        model="fine-tuned transformer",
        family="AdamW",
        train_steps=300,
        schedule="linear",
        batch_size=16,
        build=classifier_groups_adamw,
        note="two groups: backbone at a tenth of the head's lr",
    ),
    Task(
        name="finetune-frozencnn-heavyball",
        model="fine-tuned CNN, frozen layer",
        family="heavy ball",
        train_steps=150,
        schedule="one-cycle",
        batch_size=32,
        build=frozen_cnn_heavyball,
        note="two groups, first layer frozen",
    ),
)
