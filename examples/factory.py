"""A factory for the command line: ``lrsearch find examples/factory.py:make``.

``make`` returns what ``lrsearch.find_lr`` takes, by name. Replace its parts by your own. A
tuple ``(model, optimizer, loss_fn, train_loader)`` does too.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


def make() -> dict[str, object]:
    """Return a small regression: five inputs, one noisy target."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(2048, 5, generator=generator)
    noise = 0.1 * torch.randn(2048, generator=generator)
    targets = (torch.sin(inputs[:, 0]) + inputs[:, 1] - inputs[:, 2] + noise).unsqueeze(1)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 64), nn.Tanh(), nn.Linear(64, 1))
    return {
        "model": model,
        "optimizer": torch.optim.AdamW(model.parameters()),
        "loss_fn": nn.MSELoss(),
        "train_loader": DataLoader(TensorDataset(inputs, targets), batch_size=64, shuffle=True),
    }
