"""Reinforcement learning: the data depend on the policy, and the loss is not what is reported.

A policy learns to bring sledges on ice to rest at a goal, by the policy gradient (R. Williams,
"Simple statistical gradient-following algorithms for connectionist reinforcement learning",
Machine Learning 8, 1992). What ``step`` differentiates is the usual surrogate, which says nothing
about success; what it returns, and what the search compares, is minus the reward that was earned.

Run it with ``python examples/reinforcement_learning.py``.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

import lrsearch

TRAIN_STEPS = 200
SLEDGES, HORIZON, TIME, NOISE = 64, 20, 0.3, 0.2


class Sledges:
    """Sledges on ice, each to be brought to rest at zero by pushes of any strength."""

    def reset(self) -> Tensor:
        """Return what is seen of them, position and speed, shape ``(SLEDGES, 2)``."""
        self.seen = 2 * torch.rand(SLEDGES, 2) - 1
        return self.seen

    def step(self, pushes: Tensor) -> tuple[Tensor, Tensor]:
        """Push; return what is seen then and the rewards: minus the distance to zero."""
        speed = self.seen[:, 1] + pushes
        position = self.seen[:, 0] + TIME * speed
        self.seen = torch.stack([position, speed], 1)
        return self.seen, -position.abs()


class PolicyGradient:
    """The trainable."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.sledges = Sledges()
        self.policy = nn.Sequential(nn.Linear(2, 32), nn.Tanh(), nn.Linear(32, 1))
        self.optimizer = torch.optim.Adam(self.policy.parameters())

    def step(self, lr: float) -> float:
        """Play one episode with every sledge, update the policy, and return minus its reward."""
        self.optimizer.param_groups[0]["lr"] = lr
        log_probabilities, rewards = self.episode()
        to_come = rewards.flip(0).cumsum(0).flip(0)  # (HORIZON, SLEDGES)
        advantage = to_come - to_come.mean(1, keepdim=True)
        self.optimizer.zero_grad()
        (-(log_probabilities * advantage).mean()).backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        return -rewards.mean().item()

    def snapshot(self) -> Any:
        states = self.policy.state_dict(), self.optimizer.state_dict()
        return copy.deepcopy(states), torch.get_rng_state()

    def restore(self, snapshot: Any) -> None:
        (policy, optimizer), random = copy.deepcopy(snapshot)
        self.policy.load_state_dict(policy)
        self.optimizer.load_state_dict(optimizer)
        torch.set_rng_state(random)

    def episode(self) -> tuple[Tensor, Tensor]:
        """Log-probabilities of the pushes given and their rewards, ``(HORIZON, SLEDGES)``."""
        seen, log_probabilities, rewards = self.sledges.reset(), [], []
        for _ in range(HORIZON):
            mean = self.policy(seen).squeeze(1)
            pushes = (mean + NOISE * torch.randn(SLEDGES)).detach()
            log_probabilities.append(-0.5 * ((pushes - mean) / NOISE) ** 2)  # and a constant
            seen, reward = self.sledges.step(pushes)
            rewards.append(reward)
        return torch.stack(log_probabilities), torch.stack(rewards)


def main() -> lrsearch.Result:
    result = lrsearch.search(PolicyGradient(), train_steps=TRAIN_STEPS, progress=False)
    print(f"learning rate of the policy: {result.lr:.2g}")
    print(result.why)
    return result


if __name__ == "__main__":
    main()
