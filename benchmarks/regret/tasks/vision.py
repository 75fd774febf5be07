"""scikit-learn's 8x8 digits."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from benchmarks.regret.data import Split, digits
from benchmarks.regret.losses import half_mse, negative_elbo
from benchmarks.regret.models import VAE, RowGRU, cnn, mlp, resnet
from benchmarks.regret.problem import LossFn, Problem, Task, loaders


def _classify(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    batch_size: int,
    seed: int,
    noise: float = 0.1,
) -> Problem:
    train, val = digits(noise)
    return Problem(model, optimizer, nn.CrossEntropyLoss(), *loaders(train, val, batch_size, seed))


def _reconstruct(
    model: nn.Module, optimizer: torch.optim.Optimizer, loss_fn: LossFn, seed: int
) -> Problem:
    (x, _), (x_val, _) = digits()
    train, val = (x.flatten(1), x.flatten(1)), (x_val.flatten(1), x_val.flatten(1))
    return Problem(model, optimizer, loss_fn, *loaders(train, val, 32, seed))


def _dimmed(inputs: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    return 0.05 * inputs[0], inputs[1]


def dim_softmax_sgd(seed: int) -> Problem:
    torch.manual_seed(seed)
    dim: Split = (_dimmed(digits()[0]), _dimmed(digits()[1]))
    model = mlp(64, 10)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    return Problem(model, optimizer, nn.CrossEntropyLoss(), *loaders(*dim, 64, seed))


def mlp_sgd_batch1(seed: int) -> Problem:
    torch.manual_seed(seed)
    model = mlp(64, 32, 10)
    return _classify(model, torch.optim.SGD(model.parameters(), lr=0.01), 1, seed)


def mlp_adam(seed: int) -> Problem:
    torch.manual_seed(seed)
    model = mlp(64, 64, 64, 10)
    return _classify(model, torch.optim.Adam(model.parameters(), lr=1e-3), 64, seed)


def mlp_heavyball_full(seed: int) -> Problem:
    torch.manual_seed(seed)
    model = mlp(64, 32, 10, activation=nn.Tanh)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    return _classify(model, optimizer, 1197, seed)


def cnn_nesterov(seed: int) -> Problem:
    torch.manual_seed(seed)
    model = cnn()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, nesterov=True)
    return _classify(model, optimizer, 32, seed)


def cnn_adagrad(seed: int) -> Problem:
    torch.manual_seed(seed)
    model = cnn()
    return _classify(model, torch.optim.Adagrad(model.parameters(), lr=0.01), 32, seed)


def resnet_heavyball(seed: int) -> Problem:
    torch.manual_seed(seed)
    model = resnet()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)
    return _classify(model, optimizer, 32, seed)


def dropout_adamw(seed: int) -> Problem:
    torch.manual_seed(seed)
    model = mlp(64, 128, 10, dropout=0.5)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.01)
    return _classify(model, optimizer, 32, seed)


def mlp_muon(seed: int) -> Problem:
    torch.manual_seed(seed)
    model = mlp(64, 48, 48, 10, bias=False)  # Muon takes matrices only
    return _classify(model, torch.optim.Muon(model.parameters(), lr=1e-3), 64, seed)


def gru_adam(seed: int) -> Problem:
    torch.manual_seed(seed)
    model = RowGRU()
    return _classify(model, torch.optim.Adam(model.parameters(), lr=1e-3), 64, seed)


def autoencoder_rmsprop(seed: int) -> Problem:
    torch.manual_seed(seed)
    model = mlp(64, 32, 6, 32, 64, activation=nn.Tanh)
    optimizer = torch.optim.RMSprop(model.parameters(), lr=1e-3)
    return _reconstruct(model, optimizer, half_mse, seed)


def vae_adam(seed: int) -> Problem:
    torch.manual_seed(seed)
    model = VAE(64)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    return _reconstruct(model, optimizer, negative_elbo, seed)


TASKS = (
    Task(
        name="dimdigits-softmax-sgd",
        model="logistic regression",
        family="SGD",
        train_steps=500,
        schedule="constant",
        batch_size=64,
        build=dim_softmax_sgd,
        note="edge of the usual ranges: small inputs, lr above 10",
    ),
    Task(
        name="digits-mlp-sgd-batch1",
        model="MLP",
        family="SGD",
        train_steps=3000,
        schedule="cosine",
        batch_size=1,
        build=mlp_sgd_batch1,
    ),
    Task(
        name="digits-mlp-adam",
        model="MLP",
        family="Adam",
        train_steps=400,
        schedule="cosine",
        batch_size=64,
        build=mlp_adam,
    ),
    Task(
        name="digits-mlp-heavyball",
        model="MLP",
        family="heavy ball",
        train_steps=200,
        schedule="constant",
        batch_size=1197,
        build=mlp_heavyball_full,
        note="full batch",
    ),
    Task(
        name="digits-cnn-nesterov",
        model="CNN",
        family="Nesterov",
        train_steps=300,
        schedule="one-cycle",
        batch_size=32,
        build=cnn_nesterov,
    ),
    Task(
        name="digits-cnn-adagrad",
        model="CNN",
        family="Adagrad",
        train_steps=300,
        schedule="linear",
        batch_size=32,
        build=cnn_adagrad,
    ),
    Task(
        name="digits-resnet-heavyball",
        model="ResNet with BatchNorm",
        family="heavy ball",
        train_steps=300,
        schedule="cosine",
        batch_size=32,
        build=resnet_heavyball,
    ),
    Task(
        name="digits-dropout-adamw",
        model="MLP with dropout",
        family="AdamW",
        train_steps=1500,
        schedule="linear",
        batch_size=32,
        build=dropout_adamw,
    ),
    Task(
        name="digits-mlp-muon",
        model="MLP",
        family="Muon",
        train_steps=300,
        schedule="wsd",
        batch_size=64,
        build=mlp_muon,
    ),
    Task(
        name="digits-gru-adam",
        model="GRU",
        family="Adam",
        train_steps=300,
        schedule="one-cycle",
        batch_size=64,
        build=gru_adam,
    ),
    Task(
        name="digits-autoencoder-rmsprop",
        model="autoencoder",
        family="RMSprop",
        train_steps=800,
        schedule="constant",
        batch_size=32,
        build=autoencoder_rmsprop,
    ),
    Task(
        name="digits-vae-adam",
        model="VAE",
        family="Adam",
        train_steps=1500,
        schedule="wsd",
        batch_size=32,
        build=vae_adam,
    ),
)
