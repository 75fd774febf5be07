"""scikit-learn's bundled tables: breast cancer, wine, diabetes."""

from __future__ import annotations

import torch
from torch import nn

from benchmarks.regret.data import tabular
from benchmarks.regret.losses import half_mse, one_hot_mse
from benchmarks.regret.models import mlp
from benchmarks.regret.problem import Problem, Task, loaders


def cancer_linear_raw_sgd(seed: int) -> Problem:
    torch.manual_seed(seed)
    train, val = tabular("breast_cancer", held_out=200, scaled=False)
    model = nn.Linear(30, 2)
    with torch.no_grad():  # tiny weights, because the inputs are large
        model.weight.copy_(1e-4 * torch.randn(2, 30))
        model.bias.zero_()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-7)
    return Problem(model, optimizer, one_hot_mse, *loaders(train, val, 32, seed))


def cancer_logistic_nesterov(seed: int) -> Problem:
    torch.manual_seed(seed)
    train, val = tabular("breast_cancer", held_out=200, noise=0.05)
    model = nn.Linear(30, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, nesterov=True)
    return Problem(model, optimizer, nn.CrossEntropyLoss(), *loaders(train, val, 32, seed))


def wine_mlp_adam(seed: int) -> Problem:
    torch.manual_seed(seed)
    train, val = tabular("wine", held_out=89, noise=0.1)
    model = mlp(13, 16, 3, activation=nn.Tanh)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    loss_fn = nn.CrossEntropyLoss()
    return Problem(model, optimizer, loss_fn, *loaders(train, val, len(train[0]), seed))


def diabetes_dropout_adamw(seed: int) -> Problem:
    torch.manual_seed(seed)
    train, val = tabular("diabetes", held_out=200)
    model = mlp(10, 32, 32, 1, dropout=0.2)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.01)
    return Problem(model, optimizer, half_mse, *loaders(train, val, 16, seed))


def diabetes_linear_adagrad(seed: int) -> Problem:
    torch.manual_seed(seed)
    train, val = tabular("diabetes", held_out=200)
    model = nn.Linear(10, 1)
    optimizer = torch.optim.Adagrad(model.parameters(), lr=0.01)
    return Problem(model, optimizer, half_mse, *loaders(train, val, 8, seed))


def cancer_mlp_rmsprop(seed: int) -> Problem:
    torch.manual_seed(seed)
    train, val = tabular("breast_cancer", held_out=200, noise=0.05)
    model = mlp(30, 32, 2)
    optimizer = torch.optim.RMSprop(model.parameters(), lr=1e-3)
    return Problem(model, optimizer, nn.CrossEntropyLoss(), *loaders(train, val, 16, seed))


TASKS = (
    Task(
        name="cancer-linear-raw-sgd",
        model="linear regression",
        family="SGD",
        train_steps=1000,
        schedule="constant",
        batch_size=32,
        build=cancer_linear_raw_sgd,
        note="edge of the usual ranges: features in their own units",
    ),
    Task(
        name="cancer-logistic-nesterov",
        model="logistic regression",
        family="Nesterov",
        train_steps=300,
        schedule="cosine",
        batch_size=32,
        build=cancer_logistic_nesterov,
    ),
    Task(
        name="wine-mlp-adam",
        model="MLP",
        family="Adam",
        train_steps=200,
        schedule="constant",
        batch_size=89,
        build=wine_mlp_adam,
        note="full batch",
    ),
    Task(
        name="diabetes-dropout-adamw",
        model="MLP with dropout",
        family="AdamW",
        train_steps=500,
        schedule="one-cycle",
        batch_size=16,
        build=diabetes_dropout_adamw,
    ),
    Task(
        name="diabetes-linear-adagrad",
        model="linear regression",
        family="Adagrad",
        train_steps=1000,
        schedule="constant",
        batch_size=8,
        build=diabetes_linear_adagrad,
    ),
    Task(
        name="cancer-mlp-rmsprop",
        model="MLP",
        family="RMSprop",
        train_steps=400,
        schedule="linear",
        batch_size=16,
        build=cancer_mlp_rmsprop,
    ),
)
