"""Data sets of the benchmark: nothing is downloaded, and every split is fixed."""

from __future__ import annotations

import functools
import importlib.util
import pathlib
import re
import zlib

import numpy as np
import torch
from sklearn import datasets
from torch import Tensor

Pair = tuple[Tensor, Tensor]
Split = tuple[Pair, Pair]  # ((train inputs, train targets), (held-out inputs, targets))

CHARACTERS = 96  # newline and the 95 printable ASCII characters


def split(inputs: Tensor, targets: Tensor, held_out: int, seed: int = 0) -> Split:
    """Shuffle once with a fixed seed and hold out the last `held_out` examples."""
    order = torch.randperm(len(inputs), generator=torch.Generator().manual_seed(seed))
    train, val = order[:-held_out], order[-held_out:]
    return (inputs[train], targets[train]), (inputs[val], targets[val])


def flip_labels(labels: Tensor, fraction: float, classes: int, seed: int = 0) -> Tensor:
    """Replace a fixed `fraction` of the labels by random ones: an irreducible loss.

    Without it the best loss of an easy problem is almost 0 and the excess over it says nothing.
    """
    generator = torch.Generator().manual_seed(seed)
    flipped = torch.rand(len(labels), generator=generator) < fraction
    random = torch.randint(classes, labels.shape, generator=generator)
    return torch.where(flipped, random, labels)


@functools.cache
def digits(noise: float = 0.1) -> Split:
    """scikit-learn's 8x8 digits, 1,197 to train on and 600 held out; pixels standardised.

    Returns:
        images (n, 1, 8, 8) and labels (n,) in 0..9, a fraction `noise` of them random.
    """
    bunch = datasets.load_digits()
    images = torch.tensor(bunch.images, dtype=torch.float32).unsqueeze(1) / 16.0
    labels = flip_labels(torch.tensor(bunch.target, dtype=torch.int64), noise, 10)
    return split((images - 0.305) / 0.376, labels, held_out=600)


def _standardised(train: Tensor, val: Tensor) -> tuple[Tensor, Tensor]:
    mean, std = train.mean(0), train.std(0)
    return (train - mean) / std, (val - mean) / std


@functools.cache
def tabular(name: str, held_out: int, noise: float = 0.0, scaled: bool = True) -> Split:
    """One of scikit-learn's bundled tables: "breast_cancer" or "wine" (classes), "diabetes".

    Args:
        name: of the table.
        held_out: examples kept for validation.
        noise: fraction of class labels made random.
        scaled: standardise the features with the training set's mean and deviation; otherwise
            they stay in their own units. The diabetes target is standardised always.

    Returns:
        features (n, d); labels (n,) for classes, targets (n, 1) for diabetes.
    """
    loader = {"breast_cancer": datasets.load_breast_cancer, "wine": datasets.load_wine}
    if name == "diabetes":
        features, target = datasets.load_diabetes(return_X_y=True, scaled=False)
        targets = torch.tensor((target - 152.0) / 77.0, dtype=torch.float32).unsqueeze(1)
    else:
        features, target = loader[name](return_X_y=True)
        labels = torch.tensor(target, dtype=torch.int64)
        targets = flip_labels(labels, noise, int(labels.max()) + 1)
    inputs = torch.tensor(features, dtype=torch.float32)
    (x, y), (x_val, y_val) = split(inputs, targets, held_out)
    if scaled:
        x, x_val = _standardised(x, x_val)
    return (x, y), (x_val, y_val)


def encode(text: str) -> Tensor:
    """Characters as integers in 0..95: newline is 0, space 1; anything unknown becomes '?'."""
    raw = np.frombuffer(text.encode("ascii", "replace"), dtype=np.uint8).astype(np.int64)
    codes = np.where(raw == ord("\n"), 0, raw - 31)
    codes = np.where((codes < 0) | (codes >= CHARACTERS), ord("?") - 31, codes)
    return torch.from_numpy(codes)


@functools.cache
def prose() -> Tensor:
    """The language reference that ships with Python (`pydoc_data.topics`), encoded."""
    from pydoc_data.topics import topics

    return encode("\n".join(topics[key] for key in sorted(topics)))


def _shipped(module: str) -> pathlib.Path:
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        raise RuntimeError(
            f"this Python ships without the source of {module!r}: the text tasks need a full "
            "standard library. Use a Python that has it."
        )
    return pathlib.Path(spec.origin)


@functools.cache
def code() -> Tensor:
    """Source code of the standard library, encoded."""
    modules = ("argparse", "ast", "dataclasses", "difflib", "doctest", "pickle", "shutil")
    return encode("\n".join(_shipped(module).read_text(encoding="utf-8") for module in modules))


def windows(text: Tensor, length: int, held_out: int = 256) -> Split:
    """Next-character prediction: windows of `length` characters, the last ones held out.

    Returns:
        inputs (n, length) and targets (n, length), the inputs moved on by one character.
    """
    count = (len(text) - 1) // length
    inputs = text[: count * length].view(count, length)
    targets = text[1 : count * length + 1].view(count, length)
    cut = count - held_out
    return (inputs[:cut], targets[:cut]), (inputs[cut:], targets[cut:])


PACKAGES = ("asyncio", "email", "http", "logging", "multiprocessing", "unittest")


def _package_lines(package: str, at_least: int = 20) -> list[str]:
    lines: list[str] = []
    for path in sorted(_shipped(package).parent.glob("*.py")):
        text = path.read_text(encoding="utf-8")
        lines += [line.strip() for line in text.splitlines() if len(line.strip()) >= at_least]
    return lines[:1500]


def _words(line: str, vocabulary: int, length: int) -> list[int]:
    found = re.findall(r"[A-Za-z]+", line.lower())[:length]
    # crc32, because Python's own hash changes from process to process
    ids = [1 + zlib.crc32(word.encode()) % (vocabulary - 1) for word in found]
    return ids + [0] * (length - len(ids))


@functools.cache
def lines_as_words(vocabulary: int = 2000, length: int = 12) -> Split:
    """Which of six standard packages does a line of code come from? Hashed words, padded with 0.

    Returns:
        word ids (n, length) in 0..vocabulary-1 and labels (n,) in 0..5.
    """
    rows, labels = [], []
    for label, package in enumerate(PACKAGES):
        for line in _package_lines(package):
            rows.append(_words(line, vocabulary, length))
            labels.append(label)
    return split(torch.tensor(rows), torch.tensor(labels), held_out=1500)


@functools.cache
def lines_as_characters(length: int = 32) -> Split:
    """The same question on the first `length` characters of the line, padded with newlines."""
    rows, labels = [], []
    for label, package in enumerate(PACKAGES):
        for line in _package_lines(package):
            rows.append(encode(line[:length].ljust(length, "\n")))
            labels.append(label)
    return split(torch.stack(rows), torch.tensor(labels), held_out=1000)
