"""Model, optimizer and loaders of drawn training runs."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.drawn.data import CONTEXT, LENGTH, split_of
from benchmarks.drawn.spec import Spec, draw
from benchmarks.regret.data import CHARACTERS, Split
from benchmarks.regret.losses import half_mse, token_cross_entropy
from benchmarks.regret.models import (
    BagOfWords,
    CharLSTM,
    CharMLP,
    LanguageModel,
    RowGRU,
    SequenceClassifier,
    Transformer,
    cnn,
    resnet,
)
from benchmarks.regret.problem import LossFn, Problem, Task, loaders

WORDS, LINE_CLASSES = 2000, 6
Groups = list[dict[str, Any]]

OPTIMIZERS: dict[str, Callable[[Groups, float], torch.optim.Optimizer]] = {
    "sgd": lambda groups, decay: torch.optim.SGD(groups, 0.1, weight_decay=decay),
    "heavy ball": lambda groups, decay: torch.optim.SGD(groups, 0.1, 0.9, weight_decay=decay),
    "nesterov": lambda groups, decay: torch.optim.SGD(
        groups, 0.1, 0.9, weight_decay=decay, nesterov=True
    ),
    "adam": lambda groups, decay: torch.optim.Adam(groups, 1e-3),
    "adamw": lambda groups, decay: torch.optim.AdamW(groups, 1e-3, weight_decay=decay),
    "rmsprop": lambda groups, decay: torch.optim.RMSprop(groups, 1e-3),
    "adagrad": lambda groups, decay: torch.optim.Adagrad(groups, 1e-2),
    "nadam": lambda groups, decay: torch.optim.NAdam(groups, 1e-3),
    "adamax": lambda groups, decay: torch.optim.Adamax(groups, 1e-3),
}


def task(number: int) -> Task:
    """The drawn training run of that number, as a task of the regret benchmark would be."""
    spec = draw(number)
    return Task(
        name=spec.name,
        model=spec.model,
        family=spec.optimizer,
        train_steps=spec.train_steps,
        schedule=spec.schedule,
        batch_size=spec.batch_size,
        build=functools.partial(build, spec),
    )


def build(spec: Spec, seed: int) -> Problem:
    """Initial weights, data order and dropout by `seed`; everything else by `spec`."""
    data = split_of(spec)
    state = _pretrained(spec) if spec.pretrained else None
    torch.manual_seed(seed)
    model = _model(spec, data)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(spec.weights)
    if state is not None:
        model.load_state_dict(state)
    optimizer = OPTIMIZERS[spec.optimizer](_groups(model, spec.head), spec.weight_decay)
    batch_size = min(spec.batch_size, len(data[0][0]))
    return Problem(model, optimizer, _loss(spec, data), *loaders(*data, batch_size, seed))


def _groups(model: nn.Module, head: float) -> Groups:
    """One group of parameters, or two with the last layer's learning rate a multiple."""
    parameters = list(model.parameters())
    if head == 1.0:
        return [{"params": parameters}]
    return [{"params": parameters[:-2]}, {"params": parameters[-2:], "lr": 1e-2 * head}]


def _model(spec: Spec, data: Split) -> nn.Module:
    (x, y), _ = data
    outputs = y[0].numel() if y.is_floating_point() else int(max(y.max(), data[1][1].max())) + 1
    makers: dict[str, Callable[[], nn.Module]] = {
        "linear": lambda: nn.Sequential(nn.Flatten(), nn.Linear(x[0].numel(), outputs)),
        "mlp": lambda: _mlp(spec, x[0].numel(), outputs),
        "autoencoder": lambda: _mlp(spec, x[0].numel(), outputs),
        "cnn": lambda: cnn(max(4, spec.width // 8)),
        "resnet": lambda: resnet(max(4, spec.width // 8)),
        "gru": lambda: RowGRU(min(spec.width, 32)),
        "window": lambda: CharMLP(CHARACTERS, CONTEXT, hidden=2 * spec.width),
        "lstm": lambda: CharLSTM(CHARACTERS, hidden=spec.width),
        "bag": lambda: BagOfWords(WORDS, LINE_CLASSES),
        "transformer": lambda: LanguageModel(_transformer(spec), CHARACTERS),
        "classifier": lambda: SequenceClassifier(_transformer(spec), LINE_CLASSES),
    }
    return makers[spec.model]()


def _transformer(spec: Spec) -> Transformer:
    return Transformer(CHARACTERS, LENGTH, spec.width, spec.depth, spec.dropout)


def _mlp(spec: Spec, inputs: int, outputs: int) -> nn.Module:
    layers: list[nn.Module] = [nn.Flatten()]
    for _ in range(spec.depth):
        layers.append(nn.Linear(inputs, spec.width))
        layers += [nn.LayerNorm(spec.width)] * spec.norm
        layers.append(getattr(nn, spec.activation)())
        layers += [nn.Dropout(spec.dropout)] * (spec.dropout > 0)
        inputs = spec.width
    # The same object twice would share its weights.
    return nn.Sequential(*copy.deepcopy(layers), nn.Linear(inputs, outputs))


def _loss(spec: Spec, data: Split) -> LossFn:
    if data[0][1].is_floating_point():
        return half_mse
    return token_cross_entropy if spec.model in ("transformer", "lstm") else _cross_entropy


def _cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    return F.cross_entropy(logits, labels)


@functools.lru_cache(maxsize=2)
def _pretrained(spec: Spec) -> dict[str, Tensor]:
    """The state of the model after Adam, falling in a line, on another problem of this form."""
    data = split_of(spec, other=1)
    torch.manual_seed(spec.number)
    model = _model(spec, data)
    train, _ = loaders(*data, min(32, len(data[0][0])), spec.number)
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    loss_fn = _loss(spec, data)
    for step, (inputs, targets) in zip(range(spec.pretrained), _forever(train), strict=False):
        optimizer.param_groups[0]["lr"] = 3e-3 * (1.0 - step / spec.pretrained)
        optimizer.zero_grad()
        loss_fn(model(inputs), targets).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return {name: value.clone() for name, value in model.state_dict().items()}


def _forever(loader: Iterable[Any]) -> Iterator[Any]:
    while True:
        yield from loader
