"""Problems made from formulas: for several of them the best or the last stable lr is known."""

from __future__ import annotations

import functools

import torch
from sklearn.datasets import make_moons
from torch import Tensor, nn

from benchmarks.regret.data import Split, flip_labels, split
from benchmarks.regret.losses import half_mse
from benchmarks.regret.models import mlp
from benchmarks.regret.problem import Problem, Task, loaders

# The spectrum of the quadratic: its best lr 2/(min+max) is 1.0 and its limit 2/max is 1.01.
CURVATURES = torch.logspace(-1.69897, 0.2966652, 10, dtype=torch.float64).float()


def quadratic_data(noise: float = 0.5) -> Split:
    """Least squares whose Hessian is exactly diag(`CURVATURES`) and whose least loss is known.

    Row i is e_i * sqrt(d * curvature_i); each row comes twice, with targets +noise and -noise,
    so that the minimum lies at 0 and half the mean squared error there is noise^2 / 2.
    """
    d = len(CURVATURES)
    rows = torch.diag((d * CURVATURES).sqrt())
    inputs = torch.cat([rows, rows])
    targets = torch.cat([torch.full((d, 1), noise), torch.full((d, 1), -noise)])
    return (inputs, targets), (inputs, targets)


def quadratic_sgd(seed: int) -> Problem:
    torch.manual_seed(seed)
    train, val = quadratic_data()
    model = nn.Linear(len(CURVATURES), 1, bias=False)
    with torch.no_grad():  # every direction carries about the same share of the loss
        size = 0.8 + 0.4 * torch.rand(1, len(CURVATURES))
        model.weight.copy_(size / CURVATURES.sqrt())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    return Problem(model, optimizer, half_mse, *loaders(train, val, len(train[0]), seed))


def linear_data(
    spectrum: Tensor, examples: int, noise: float, held_out: int = 1000, seed: int = 0
) -> Split:
    """Gaussian inputs with the given covariance spectrum, targets of unit size plus noise."""
    generator = torch.Generator().manual_seed(seed)
    d = len(spectrum)
    inputs = torch.randn(examples + held_out, d, generator=generator) * spectrum.sqrt()
    weights = torch.randn(d, 1, generator=generator) / (spectrum.sqrt().unsqueeze(1) * d**0.5)
    clean = inputs @ weights
    targets = clean + noise * torch.randn(clean.shape, generator=generator)
    return split(inputs, targets, held_out)


def correlated_heavyball(seed: int) -> Problem:
    torch.manual_seed(seed)
    train, val = linear_data(torch.logspace(-2, 0, 20), examples=2000, noise=0.4)
    model = nn.Linear(20, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    return Problem(model, optimizer, half_mse, *loaders(train, val, 8, seed))


def lms_sgd(seed: int) -> Problem:
    torch.manual_seed(seed)
    train, val = linear_data(torch.ones(10), examples=4000, noise=1.0, seed=1)
    model = nn.Linear(10, 1)
    nn.init.zeros_(model.weight)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    return Problem(model, optimizer, half_mse, *loaders(train, val, 1, seed))


@functools.cache
def noisy_sine() -> Split:
    """y = sin(x) + noise on [-pi, pi]; 200 examples to learn from, 1,000 held out."""
    generator = torch.Generator().manual_seed(0)
    x = (2 * torch.rand(1200, 1, generator=generator) - 1) * torch.pi
    y = torch.sin(x) + 0.2 * torch.randn(1200, 1, generator=generator)
    return split(x, y, held_out=1000)


def sine_two_layer_sgd(seed: int) -> Problem:
    torch.manual_seed(seed)
    train, val = noisy_sine()
    model = mlp(1, 20, 1, activation=nn.Sigmoid)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    return Problem(model, optimizer, half_mse, *loaders(train, val, 20, seed))


@functools.cache
def proportional() -> Split:
    """y = 3x + noise; a chain of weights learns the 3 as their product."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(700, 1, generator=generator)
    y = 3.0 * x + 0.8 * torch.randn(700, 1, generator=generator)
    return split(x, y, held_out=500)


def chain_sgd(seed: int) -> Problem:
    torch.manual_seed(seed)
    train, val = proportional()
    model = nn.Sequential(*(nn.Linear(1, 1, bias=False) for _ in range(6)))
    with torch.no_grad():
        for layer in model.parameters():
            layer.fill_(0.28 + 0.01 * float(torch.rand(())))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    return Problem(model, optimizer, half_mse, *loaders(train, val, len(train[0]), seed))


@functools.cache
def teacher() -> Split:
    """Targets of a fixed random ReLU network of 10 inputs and 8 hidden units, plus noise."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(4000, 10, generator=generator)
    hidden = (x @ torch.randn(10, 8, generator=generator)).relu()
    clean = hidden @ torch.randn(8, 1, generator=generator)
    clean = (clean - clean.mean()) / clean.std()
    return split(x, clean + 0.3 * torch.randn(clean.shape, generator=generator), held_out=1000)


def teacher_mlp_adam(seed: int) -> Problem:
    torch.manual_seed(seed)
    train, val = teacher()
    model = mlp(10, 32, 1)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    return Problem(model, optimizer, half_mse, *loaders(train, val, 64, seed))


@functools.cache
def moons() -> Split:
    """Two interleaving half circles, 5 % of the labels random."""
    x, y = make_moons(2000, noise=0.2, random_state=0)
    labels = flip_labels(torch.tensor(y, dtype=torch.int64), 0.05, 2)
    return split(torch.tensor(x, dtype=torch.float32), labels, held_out=1000)


def moons_mlp_adamw(seed: int) -> Problem:
    torch.manual_seed(seed)
    train, val = moons()
    model = mlp(2, 32, 32, 2, activation=nn.Tanh)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.01)
    return Problem(model, optimizer, nn.CrossEntropyLoss(), *loaders(train, val, 32, seed))


TASKS = (
    Task(
        name="quadratic-sgd",
        model="quadratic",
        family="SGD",
        train_steps=100,
        schedule="constant",
        batch_size=20,
        build=quadratic_sgd,
        note="closed form: best lr 2/(lmin+lmax), limit 2/lmax",
    ),
    Task(
        name="correlated-linear-heavyball",
        model="linear regression",
        family="heavy ball",
        train_steps=500,
        schedule="linear",
        batch_size=8,
        build=correlated_heavyball,
    ),
    Task(
        name="lms-linear-sgd",
        model="linear regression",
        family="SGD",
        train_steps=2000,
        schedule="constant",
        batch_size=1,
        build=lms_sgd,
        note="rank flip: the lr that wins early loses at the end",
    ),
    Task(
        name="sine-twolayer-sgd",
        model="two-layer sigmoid net",
        family="SGD",
        train_steps=5000,
        schedule="constant",
        batch_size=20,
        build=sine_two_layer_sgd,
        note="the textbook's example",
    ),
    Task(
        name="chain-linear-sgd",
        model="deep linear",
        family="SGD",
        train_steps=600,
        schedule="constant",
        batch_size=200,
        build=chain_sgd,
        note="diverges late: a plateau, then curvature that grows along the path",
    ),
    Task(
        name="teacher-mlp-adam",
        model="MLP",
        family="Adam",
        train_steps=2000,
        schedule="linear",
        batch_size=64,
        build=teacher_mlp_adam,
    ),
    Task(
        name="moons-mlp-adamw",
        model="MLP",
        family="AdamW",
        train_steps=600,
        schedule="wsd",
        batch_size=32,
        build=moons_mlp_adamw,
    ),
)
