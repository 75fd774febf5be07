"""Losses `loss_fn(model(inputs), targets) -> scalar` of the benchmark."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F


def half_mse(prediction: Tensor, target: Tensor) -> Tensor:
    """Half the mean squared error: its Hessian for a linear model is X'X / n."""
    return 0.5 * F.mse_loss(prediction, target)


def token_cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean cross entropy per character; logits (n, length, vocabulary), targets (n, length)."""
    return F.cross_entropy(logits.flatten(0, 1), targets.flatten())


def one_hot_mse(prediction: Tensor, labels: Tensor) -> Tensor:
    """Least squares on the labels' indicators; prediction (n, classes), labels (n,)."""
    return half_mse(prediction, F.one_hot(labels, prediction.shape[1]).to(prediction.dtype))


def negative_elbo(output: tuple[Tensor, Tensor, Tensor], images: Tensor) -> Tensor:
    """Negative evidence lower bound per image, Gaussian decoder of unit variance, up to a constant.

    Kingma & Welling, arXiv 1312.6114, equation 10.
    """
    reconstruction, mean, log_variance = output
    error = 0.5 * (reconstruction - images.flatten(1)).square().sum(1)
    divergence = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(1)
    return (error + divergence).mean()
