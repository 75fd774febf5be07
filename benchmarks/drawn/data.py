"""The data of drawn training runs: made up, bundled with scikit-learn, or shipped with Python."""

from __future__ import annotations

import dataclasses
import functools

import torch
from sklearn import datasets
from torch import Tensor

from benchmarks.drawn.spec import Spec
from benchmarks.regret.data import (
    Split,
    code,
    digits,
    flip_labels,
    lines_as_characters,
    lines_as_words,
    prose,
    split,
    tabular,
    windows,
)

HELD_OUT = 500  # made-up examples to judge by
CONTEXT = 8  # characters from which the next one is told
LENGTH = 24  # characters of a window
TABLES = {"wine": 60, "breast_cancer": 180, "diabetes": 140}  # examples held out


def split_of(spec: Spec, other: int = 0) -> Split:
    """Training and held-out examples of `spec`.

    Args:
        spec: names the data.
        other: not 0: another problem of the same form, to pretrain on.
    """
    whole = _whole(_source(spec), other)
    return (_cut(whole[0], spec), whole[1]) if spec.scale == 1.0 else _scaled(whole, spec)


def _source(spec: Spec) -> Spec:
    """The spec with nothing left but what decides the whole data set, so that it is cached."""
    return dataclasses.replace(
        spec, model=spec.model if spec.model in ("autoencoder", "window") else "", scale=1.0
    )


def _cut(pair: tuple[Tensor, Tensor], spec: Spec) -> tuple[Tensor, Tensor]:
    return pair[0][: spec.examples], pair[1][: spec.examples]


def _scaled(whole: Split, spec: Spec) -> Split:
    train, (x_val, y_val) = _cut(whole[0], spec), whole[1]
    if train[0].dtype != torch.float32:
        return train, (x_val, y_val)
    targets = [spec.scale * y if spec.model == "autoencoder" else y for y in (train[1], y_val)]
    return (spec.scale * train[0], targets[0]), (spec.scale * x_val, targets[1])


@functools.lru_cache(maxsize=4)
def _whole(spec: Spec, other: int) -> Split:
    makers = {
        "clusters": _clusters,
        "teacher": _teacher,
        "friedman": _friedman,
        "moons": _moons,
        "digits": _digits,
        "words": _words,
        "lines": _lines,
    }
    if spec.data in TABLES:
        return _table(spec, other)
    if spec.data in ("prose", "code"):
        return _text(spec, other)
    return makers[spec.data](spec, spec.number + 1000 * other)


def _clusters(spec: Spec, seed: int) -> Split:
    classes = 2 + seed % 5
    informative = max(4, spec.features // 2)
    x, y = datasets.make_classification(
        spec.examples + HELD_OUT,
        max(spec.features, informative),
        n_informative=informative,
        n_redundant=0,
        n_classes=classes,
        flip_y=spec.noise,
        random_state=seed,
    )
    return _as_split(torch.tensor(x), torch.tensor(y), HELD_OUT)


def _teacher(spec: Spec, seed: int) -> Split:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(spec.examples + HELD_OUT, spec.features, generator=generator)
    first = torch.randn(spec.features, 8, generator=generator) / spec.features**0.5
    second = torch.randn(8, 1, generator=generator)
    y = torch.tanh(2.0 * x @ first) @ second
    y = (y - y.mean()) / y.std() + spec.noise * torch.randn(len(y), 1, generator=generator)
    return _as_split(x, y, HELD_OUT)


def _friedman(spec: Spec, seed: int) -> Split:
    x, y = datasets.make_friedman1(
        spec.examples + HELD_OUT, max(5, spec.features), noise=5.0 * spec.noise, random_state=seed
    )
    targets = torch.tensor((y - 14.4) / 5.0).unsqueeze(1)
    return _as_split(torch.tensor(2.0 * x - 1.0), targets, HELD_OUT)


def _moons(spec: Spec, seed: int) -> Split:
    x, y = datasets.make_moons(spec.examples + HELD_OUT, noise=spec.noise + 0.1, random_state=seed)
    return _as_split(torch.tensor(x), torch.tensor(y), HELD_OUT)


def _table(spec: Spec, other: int) -> Split:
    train, val = tabular(spec.data, TABLES[spec.data], noise=spec.noise)
    if not other:
        return train, val
    return _permuted(train), _permuted(val)


def _digits(spec: Spec, seed: int) -> Split:
    (x, y), (x_val, y_val) = digits(spec.noise)
    if spec.model == "autoencoder":
        return (x.flatten(1), x.flatten(1)), (x_val.flatten(1), x_val.flatten(1))
    if seed >= 1000:
        return _permuted((x, y)), _permuted((x_val, y_val))
    return (x, y), (x_val, y_val)


def _permuted(pair: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """The same inputs, with classes renamed in a circle, or with targets turned about."""
    x, y = pair
    return x, (-y if y.is_floating_point() else (y + 1) % (int(y.max()) + 1))


def _text(spec: Spec, other: int) -> Split:
    text = prose() if (spec.data == "prose") != bool(other) else code()
    if spec.model == "window":
        (x, y), (x_val, y_val) = windows(text, CONTEXT, held_out=1000)
        return (x, y[:, -1]), (x_val, y_val[:, -1])
    return windows(text, LENGTH)


def _words(spec: Spec, seed: int) -> Split:
    return _relabelled(lines_as_words(), spec, seed)


def _lines(spec: Spec, seed: int) -> Split:
    return _relabelled(lines_as_characters(LENGTH), spec, seed)


def _relabelled(whole: Split, spec: Spec, seed: int) -> Split:
    (x, y), (x_val, y_val) = whole
    kept = slice(0, 600)  # a quarter of what is held out does, and is quicker
    train, val = (x, flip_labels(y, spec.noise, 6)), (x_val[kept], y_val[kept])
    return (_permuted(train), _permuted(val)) if seed >= 1000 else (train, val)


def _as_split(x: Tensor, y: Tensor, held_out: int) -> Split:
    targets = y.to(torch.float32) if y.is_floating_point() else y.to(torch.int64)
    return split(x.to(torch.float32), targets, held_out)
