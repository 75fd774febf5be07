"""Handwritten digits: a small convolutional network on scikit-learn's bundled images.

1,797 images of 8 x 8 pixels, ten classes; nothing is downloaded.

Source of the data: E. Alpaydin, C. Kaynak, "Optical Recognition of Handwritten Digits", UCI
Machine Learning Repository (1998), as bundled with scikit-learn (``load_digits``).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from lrsearch.errors import MissingDependency

__all__ = ["digits"]

_TRAIN = 1437  # four fifths; the rest is held out
_BATCH = 64
_SPLIT_SEED = 0  # the split is the same for every seed of the network


def digits(seed: int = 0) -> dict[str, Any]:
    """Return arguments for :func:`lrsearch.find_lr`: network, optimizer, loss and data.

    A fifth of the images, the same one for every seed, is held out.

    Args:
        seed: seed of the network's weights and of the order of the batches.

    Returns:
        ``model``, ``optimizer``, ``loss_fn``, ``train_loader`` (batches of 64: images of shape
        ``(64, 1, 8, 8)`` in [0, 1] and labels of shape ``(64,)``) and ``val_loader``.

    Raises:
        MissingDependency: scikit-learn is not installed.

    Example:
        >>> images, labels = next(iter(digits()["train_loader"]))
        >>> tuple(images.shape), tuple(labels.shape)
        ((64, 1, 8, 8), (64,))
    """
    images, labels = _load()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = _network()
    order = torch.Generator().manual_seed(seed)
    return {
        "model": model,
        "optimizer": torch.optim.Adam(model.parameters()),
        "loss_fn": nn.CrossEntropyLoss(),
        "train_loader": DataLoader(
            TensorDataset(images[:_TRAIN], labels[:_TRAIN]),
            batch_size=_BATCH,
            shuffle=True,
            drop_last=True,
            generator=order,
        ),
        "val_loader": DataLoader(
            TensorDataset(images[_TRAIN:], labels[_TRAIN:]), batch_size=len(labels) - _TRAIN
        ),
    }


def _load() -> tuple[Tensor, Tensor]:
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise MissingDependency(
            "The digits demo reads scikit-learn's images: pip install 'lrsearch[demo]'."
        ) from error
    data = load_digits()
    images = torch.tensor(data.images, dtype=torch.float32).unsqueeze(1) / 16.0
    labels = torch.tensor(data.target, dtype=torch.int64)
    shuffled = torch.randperm(len(labels), generator=torch.Generator().manual_seed(_SPLIT_SEED))
    return images[shuffled], labels[shuffled]


def _network() -> nn.Module:
    return nn.Sequential(  # (n, 1, 8, 8)
        nn.Conv2d(1, 16, kernel_size=3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),  # (n, 16, 4, 4)
        nn.Conv2d(16, 32, kernel_size=3, padding=1),
        nn.ReLU(),
        nn.Flatten(),  # (n, 512)
        nn.Linear(512, 10),
    )
