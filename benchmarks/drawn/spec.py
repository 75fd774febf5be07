"""What a drawn training run is, and how its parts are drawn."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from lrsearch.core.schedule import SHAPES

Weights = Mapping[str, float]

DATA: Weights = {
    "clusters": 0.16,  # Gaussian clusters at corners of a hypercube, some labels wrong
    "teacher": 0.12,  # the output of a random network, with noise
    "friedman": 0.08,
    "moons": 0.04,
    "wine": 0.05,
    "breast_cancer": 0.07,
    "diabetes": 0.07,
    "digits": 0.20,
    "prose": 0.06,
    "code": 0.06,
    "words": 0.05,
    "lines": 0.04,
}
MODELS: Mapping[str, Weights] = {
    "digits": {"linear": 1, "mlp": 3, "cnn": 2, "resnet": 1, "gru": 1, "autoencoder": 1},
    "prose": {"transformer": 2, "lstm": 1, "window": 1},
    "code": {"transformer": 2, "lstm": 1, "window": 1},
    "words": {"bag": 1},
    "lines": {"classifier": 1},
}
VECTOR_MODELS: Weights = {"linear": 1, "mlp": 3}
OPTIMIZERS: Weights = {
    "sgd": 3,
    "heavy ball": 2,
    "nesterov": 2,
    "adam": 3,
    "adamw": 4,
    "rmsprop": 1.5,
    "adagrad": 1.5,
    "nadam": 0.5,
    "adamax": 0.5,
}
ACTIVATIONS = ("ReLU", "Tanh", "GELU", "SiLU")
BATCHES = (1, 4, 8, 16, 32, 64, 128)


@dataclass(frozen=True)
class Spec:
    """A drawn training run: everything that decides it but the seed.

    Attributes:
        number: of the draw; also the seed of made-up data.
        data: one of `DATA`.
        examples: to train on, at most; as many as there are, if that is less.
        features: of made-up data.
        noise: share of labels made random, or of the target's deviation.
        scale: the inputs are multiplied by it.
        model: one of `MODELS`.
        width: of the hidden layers.
        depth: number of hidden layers.
        activation: of them.
        dropout: after each of them.
        norm: whether a fully connected net has layer norms.
        weights: the initial weights are multiplied by it.
        optimizer: one of `OPTIMIZERS`.
        weight_decay: of it.
        head: learning rate of the last layer, in that of the others.
        schedule: name of the learning rate's shape.
        train_steps: of the planned run.
        batch_size: examples per update; at most all of them.
        pretrained: updates on another problem of the same form before.
    """

    number: int
    data: str
    examples: int
    features: int
    noise: float
    scale: float
    model: str
    width: int
    depth: int
    activation: str
    dropout: float
    norm: bool
    weights: float
    optimizer: str
    weight_decay: float
    head: float
    schedule: str
    train_steps: int
    batch_size: int
    pretrained: int

    @property
    def name(self) -> str:
        """Number, data, model and optimizer."""
        words = f"{self.data} {self.model} {self.optimizer}".replace("_", " ").split()
        return "-".join([f"drawn{self.number:03d}", *words])


def draw(number: int) -> Spec:
    """The training run of that number, always the same.

    Example:
        >>> draw(3) == draw(3), draw(3) == draw(4)
        (True, False)
    """
    random = np.random.default_rng([20261126, number])
    data = _one_of(random, DATA)
    model = _one_of(random, MODELS.get(data, VECTOR_MODELS))
    text = data in ("prose", "code", "words", "lines")
    low, high = (300, 8000) if text else (60, 4000)
    examples = round(_log_uniform(random, low, high))
    whole = random.random() < 0.08
    batch_size = examples if whole and not text else int(random.choice(BATCHES[text * 2 :]))
    pretrained = random.random() < 0.2
    return Spec(
        number=number,
        data=data,
        examples=examples,
        features=int(random.integers(4, 41)),
        noise=_one_or(random, 0.3, 0.0, float(random.uniform(0.05, 0.4))),
        scale=_one_or(random, 0.85, 1.0, _log_uniform(random, 0.03, 20.0)),
        model=model,
        width=int(random.choice([8, 16, 32, 64, 96])) if not text else 32,
        depth=int(random.integers(1, 4)) if not text else int(random.integers(1, 3)),
        activation=str(random.choice(ACTIVATIONS)),
        dropout=_one_or(random, 0.7, 0.0, float(random.uniform(0.1, 0.5))),
        norm=bool(random.random() < 0.2),
        weights=_one_or(random, 0.85, 1.0, _log_uniform(random, 0.2, 4.0)),
        optimizer=_one_of(random, OPTIMIZERS),
        weight_decay=_one_or(random, 0.5, 0.0, _log_uniform(random, 1e-5, 1e-1)),
        head=_one_or(random, 0.9, 1.0, 10.0),
        schedule=str(random.choice(sorted(SHAPES))),
        train_steps=round(_log_uniform(random, 100, 400 if text else 1500)),
        batch_size=batch_size,
        pretrained=round(_log_uniform(random, 50, 500)) if pretrained else 0,
    )


def _one_of(random: np.random.Generator, weights: Weights) -> str:
    share = np.array(list(weights.values()), dtype=float)
    return str(random.choice(list(weights), p=share / share.sum()))


def _one_or(random: np.random.Generator, chance: float, one: float, other: float) -> float:
    return one if random.random() < chance else other


def _log_uniform(random: np.random.Generator, low: float, high: float) -> float:
    return float(np.exp(random.uniform(np.log(low), np.log(high))))
