"""A GAN has two optimizers: here the generator's learning rate is searched.

The trainable below is all that ``lrsearch.search`` needs: ``step``, ``snapshot``, ``restore``
and, because the losses of a GAN say little, ``evaluate``: how far the generated points are from
real ones. The critic keeps its own learning rate throughout.

Run it with ``python examples/gan.py``.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

import lrsearch

TRAIN_STEPS = 200


def real_points(count: int) -> Tensor:
    """Points on a noisy circle, shape ``(count, 2)``."""
    angles = 2 * torch.pi * torch.rand(count)
    return torch.stack([angles.cos(), angles.sin()], 1) + 0.05 * torch.randn(count, 2)


def layers(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, 32), nn.LeakyReLU(0.2), nn.Linear(32, outputs))


class GAN:
    """The trainable. ``self.searched`` names the optimizer whose learning rate is looked for."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.generator, self.critic = layers(4, 2), layers(2, 1)
        self.searched = torch.optim.Adam(self.generator.parameters(), betas=(0.5, 0.9))
        self.other = torch.optim.Adam(self.critic.parameters(), lr=3e-3, betas=(0.5, 0.9))
        self.parts: list[Any] = [self.generator, self.critic, self.searched, self.other]
        self.held_out = real_points(512), torch.randn(512, 4)

    def step(self, lr: float) -> float:
        """Update the critic at its own learning rate, the generator at ``lr``."""
        self.searched.param_groups[0]["lr"] = lr
        real, fake = real_points(64), self.generator(torch.randn(64, 4))
        self.update(self.other, self.hinge(self.critic(fake.detach()), self.critic(real)))
        return self.update(self.searched, -self.critic(fake).mean())

    def snapshot(self) -> Any:
        return copy.deepcopy([part.state_dict() for part in self.parts]), torch.get_rng_state()

    def restore(self, snapshot: Any) -> None:
        for part, state in zip(self.parts, copy.deepcopy(snapshot[0]), strict=True):
            part.load_state_dict(state)
        torch.set_rng_state(snapshot[1])

    @torch.no_grad()
    def evaluate(self) -> float:
        """The energy distance between generated points and held-out real ones."""
        real, noise = self.held_out
        fake = self.generator(noise)
        between, within = (
            torch.cdist(fake, real),
            (torch.cdist(fake, fake), torch.cdist(real, real)),
        )
        return float(2 * between.mean() - within[0].mean() - within[1].mean())

    @staticmethod
    def hinge(fake: Tensor, real: Tensor) -> Tensor:
        return (1 + fake).relu().mean() + (1 - real).relu().mean()

    @staticmethod
    def update(optimizer: torch.optim.Optimizer, loss: Tensor) -> float:
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        return loss.item()


def main() -> lrsearch.Result:
    result = lrsearch.search(GAN(), train_steps=TRAIN_STEPS, progress=False)
    print(f"learning rate of the generator: {result.lr:.2g}")
    print(result.why)
    return result


if __name__ == "__main__":
    main()
