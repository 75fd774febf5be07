"""Kinds that were chosen after the methods were fixed, and are reported apart."""

from __future__ import annotations

import functools
import re
import zlib
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.regret.data import CHARACTERS, Split, digits, prose, split, windows
from benchmarks.regret.kinds import Kind, warmup_linear
from benchmarks.regret.losses import token_cross_entropy
from benchmarks.regret.models import LanguageModel, Transformer, cnn
from benchmarks.regret.problem import Loader, Problem, loaders

HASHES, WORDS = 4000, 16
TIMES = 100


@functools.cache
def halves_of_paragraphs() -> Split:
    """First and second words of the same paragraph, hashed and padded with 0: (n, 2, words)."""
    text = "".join(chr(31 + c) if c else "\n" for c in prose().tolist())
    rows = []
    for paragraph in text.split("\n\n"):
        found = re.findall(r"[a-z]+", paragraph.lower())
        if len(found) >= 2 * WORDS:
            numbers = [1 + zlib.crc32(word.encode()) % (HASHES - 1) for word in found]
            rows.append([numbers[:WORDS], numbers[WORDS : 2 * WORDS]])
    pairs = torch.tensor(rows)
    return split(pairs, torch.zeros(len(pairs)), held_out=256)


class StaticEmbeddings(nn.Module):
    """Mean word embeddings of unit length, (n, 2, d) from words (n, 2, words)."""

    def __init__(self) -> None:
        super().__init__()
        self.bag = nn.EmbeddingBag(HASHES, 64, mode="mean", padding_idx=0)

    def forward(self, words: Tensor) -> Tensor:
        flat = self.bag(words.flatten(0, 1))
        return F.normalize(flat.view(len(words), 2, -1), dim=2)


def ranking(embeddings: Tensor, _: Tensor) -> Tensor:
    """Which second half belongs to which first, at a scale of 20 (sentence-transformers)."""
    scores = 20.0 * embeddings[:, 0] @ embeddings[:, 1].T
    return F.cross_entropy(scores, torch.arange(len(scores)))


def static_embeddings(seed: int) -> Problem:
    torch.manual_seed(seed)
    train, val = halves_of_paragraphs()
    model = StaticEmbeddings()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.2)
    train_loader, _ = loaders(train, val, 64, seed)
    in_batches: Loader = list(loaders(val, val, 64, 0)[0])  # type: ignore[assignment]
    return Problem(model, optimizer, ranking, train_loader, in_batches)


class Denoiser(nn.Module):
    """The error of its guess of the noise in images, (n, 64), noised to random degrees.

    In eval mode noise and degrees are fixed tables. J. Ho et al., arXiv 2006.11239, with the
    cosine schedule of arXiv 2102.09672.
    """

    noise: Tensor
    times: Tensor
    kept: Tensor

    def __init__(self, hidden: int = 128) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        angle = (torch.arange(TIMES) + 0.5) / TIMES * torch.pi / 2
        fixed = {
            "noise": torch.randn(1024, 64, generator=generator),
            "times": torch.randint(TIMES, (1024,), generator=generator),
            "kept": angle.cos() ** 2,
        }
        for name, value in fixed.items():
            self.register_buffer(name, value, persistent=False)
        self.embed = nn.Embedding(TIMES, 32)
        self.first = nn.Linear(64 + 32, hidden)
        self.second = nn.Linear(hidden + 32, hidden)
        self.last = nn.Linear(hidden, 64)

    def forward(self, images: Tensor) -> Tensor:
        noise, times = self.noise[: len(images)], self.times[: len(images)]
        if self.training:
            noise, times = torch.randn_like(images), torch.randint(TIMES, (len(images),))
        kept, when = self.kept[times][:, None], self.embed(times)
        noised = kept.sqrt() * images + (1 - kept).sqrt() * noise
        x = F.silu(self.first(torch.cat([noised, when], dim=1)))
        x = F.silu(self.second(torch.cat([x, when], dim=1)))
        error: Tensor = self.last(x) - noise
        return error


def squared(error: Tensor, _: Tensor) -> Tensor:
    """Mean square of what the model calls its error."""
    return error.square().mean()


def diffusion(seed: int) -> Problem:
    torch.manual_seed(seed)
    (x, _), (x_val, _) = digits(0.0)
    train, val = (x.flatten(1), x.flatten(1)), (x_val.flatten(1), x_val.flatten(1))
    model = Denoiser()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    return Problem(model, optimizer, squared, *loaders(train, val, 64, seed))


def schedule_free(seed: int) -> Problem:
    import schedulefree

    torch.manual_seed(seed)
    model = cnn()
    optimizer = schedulefree.AdamWScheduleFree(model.parameters(), lr=2.5e-3, warmup_steps=30)
    return Problem(model, optimizer, nn.CrossEntropyLoss(), *loaders(*digits(0.1), 32, seed))


class MuonWithAdamW(torch.optim.Optimizer):
    """Muon for hidden matrices and AdamW for the rest, as one optimizer with two groups.

    After K. Jordan's ``SingleDeviceMuonWithAuxAdam``; the groups' states are those of torch's
    own optimizers, which share the parameter groups.
    """

    def __init__(self, matrices: Sequence[Tensor], rest: Sequence[Tensor]) -> None:
        groups: list[dict[str, Any]] = [
            {"params": list(matrices), "lr": 0.02, "muon": True},
            {"params": list(rest), "lr": 3e-3, "muon": False},
        ]
        super().__init__(groups, {"momentum": 0.95, "betas": (0.9, 0.95), "eps": 1e-8})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Make one update."""
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    (self._muon if group["muon"] else self._adam)(p, p.grad, group)

    def _muon(self, p: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        state = self.state[p]
        if not state:
            state["momentum"] = torch.zeros_like(p)
        state["momentum"].lerp_(gradient, 1 - group["momentum"])
        x = gradient.lerp(state["momentum"], group["momentum"])
        x = x / (x.norm() + 1e-7)
        x = x.T if (tall := x.shape[0] > x.shape[1]) else x
        for _ in range(5):
            a = x @ x.T
            x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
        x = x.T if tall else x
        p.add_(x, alpha=-group["lr"] * max(1, p.shape[0] / p.shape[1]) ** 0.5)

    def _adam(self, p: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        state = self.state[p]
        if not state:
            state.update(step=0, first=torch.zeros_like(p), second=torch.zeros_like(p))
        state["step"] += 1
        first, second = group["betas"]
        state["first"].lerp_(gradient, 1 - first)
        state["second"].lerp_(gradient.square(), 1 - second)
        mean = state["first"] / (1 - first ** state["step"])
        scale = (state["second"] / (1 - second ** state["step"])).sqrt() + group["eps"]
        p.addcdiv_(mean, scale, value=-group["lr"])


def muon_with_adamw(seed: int) -> Problem:
    torch.manual_seed(seed)
    model = LanguageModel(Transformer(CHARACTERS, 32), CHARACTERS)
    hidden = [p for p in model.backbone.blocks.parameters() if p.ndim == 2]
    known = {id(p) for p in hidden}
    rest = [p for p in model.parameters() if id(p) not in known]
    optimizer = MuonWithAdamW(hidden, rest)
    return Problem(model, optimizer, token_cross_entropy, *loaders(*windows(prose(), 32), 16, seed))


KINDS = (
    Kind(
        name="kind-static-adamw",
        model="static embeddings",
        family="AdamW",
        train_steps=100,
        schedule=warmup_linear,
        batch_size=64,
        build=static_embeddings,
        note="a loss that cannot diverge",
        held_back=True,
    ),
    Kind(
        name="kind-diffusion-adamw",
        model="diffusion model",
        family="AdamW",
        train_steps=200,
        schedule="constant",
        batch_size=64,
        build=diffusion,
        held_back=True,
    ),
    Kind(
        name="kind-schedulefree-adamw",
        model="CNN by Schedule-Free",
        family="Schedule-Free AdamW",
        train_steps=200,
        schedule="constant",
        batch_size=32,
        build=schedule_free,
        note="warms up by itself, held-out losses on averaged weights",
        held_back=True,
    ),
    Kind(
        name="kind-muonadamw",
        model="transformer by Muon with AdamW",
        family="Muon with AdamW",
        train_steps=80,
        schedule="wsd",
        batch_size=16,
        build=muon_with_adamw,
        note="one optimizer over both, in two groups",
        held_back=True,
    ),
)
