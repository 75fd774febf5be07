"""Further kinds of training on images, and one on a graph."""

from __future__ import annotations

import functools

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.regret.data import Pair, Split, digits
from benchmarks.regret.kinds import Kind, warmup_cosine
from benchmarks.regret.models import mlp, resnet
from benchmarks.regret.problem import Loader, Problem, loaders

NODES, FEATURES, TOPICS = 900, 120, 6


class VisionTransformer(nn.Module):
    """Patches of 2 x 2 pixels through two encoder layers (Dosovitskiy et al., arXiv 2010.11929)."""

    def __init__(self, width: int = 32, depth: int = 2) -> None:
        super().__init__()
        self.patches = nn.Conv2d(1, width, kernel_size=2, stride=2)
        self.token = nn.Parameter(torch.zeros(1, 1, width))
        self.position = nn.Parameter(0.02 * torch.randn(1, 17, width))
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(
                width, 4, 2 * width, 0.1, "gelu", batch_first=True, norm_first=True
            )
            for _ in range(depth)
        )
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, 10)

    def forward(self, images: Tensor) -> Tensor:
        x = self.patches(images).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(len(x), -1, -1), x], dim=1) + self.position
        for layer in self.layers:
            x = layer(x)
        logits: Tensor = self.head(self.norm(x[:, 0]))
        return logits


def vision_transformer(seed: int) -> Problem:
    torch.manual_seed(seed)
    model = VisionTransformer()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.05)
    return Problem(model, optimizer, nn.CrossEntropyLoss(), *loaders(*digits(0.1), 32, seed))


class Siamese(nn.Module):
    """Distance of the embeddings of two images by the same net; images (n, 2, 1, 8, 8)."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = resnet(classes=8)

    def forward(self, images: Tensor) -> Tensor:
        distance: Tensor = F.pairwise_distance(self.embed(images[:, 0]), self.embed(images[:, 1]))
        return distance


def contrastive(distance: Tensor, same: Tensor) -> Tensor:
    """Pull what is the same together, push the rest apart up to a margin of 1.

    R. Hadsell, S. Chopra, Y. LeCun, "Dimensionality Reduction by Learning an Invariant Mapping".
    """
    return (same * distance**2 + (1 - same) * (1 - distance).clamp(min=0) ** 2).mean()


@functools.cache
def pairs_of_digits() -> Split:
    """Pairs of images, half of them of the same digit, and whether they are."""

    def pairs(data: Pair, seed: int) -> Pair:
        images, labels = data
        generator = torch.Generator().manual_seed(seed)
        others = []
        for row, label in enumerate(labels.tolist()):
            wanted = labels == label if row % 2 else labels != label
            rows = wanted.nonzero()[:, 0]
            others.append(rows[torch.randint(len(rows), (), generator=generator)])
        other = torch.stack(others)
        same = (labels == labels[other]).float()
        return torch.stack([images, images[other]], dim=1), same

    train, val = digits(0.0)
    return pairs(train, 1), pairs(val, 2)


def siamese(seed: int) -> Problem:
    torch.manual_seed(seed)
    model = Siamese()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    return Problem(model, optimizer, contrastive, *loaders(*pairs_of_digits(), 32, seed))


class Towers(nn.Module):
    """Unit embeddings (n, 2, d) of the upper and the lower half of an image, by a tower each."""

    def __init__(self) -> None:
        super().__init__()
        self.upper, self.lower = (
            nn.Sequential(
                nn.Linear(32, 64), nn.LayerNorm(64), nn.GELU(), nn.Linear(64, 64), nn.GELU(),
                nn.Linear(64, 24),
            )
            for _ in range(2)
        )  # fmt: skip

    def forward(self, images: Tensor) -> Tensor:
        upper, lower = self.upper(images[:, :32]), self.lower(images[:, 32:])
        return F.normalize(torch.stack([upper, lower], dim=1), dim=2)


def info_nce(embeddings: Tensor, _: Tensor) -> Tensor:
    """Which lower half belongs to which upper half, both ways, at a temperature of 0.07.

    A. Radford et al., arXiv 2103.00020, figure 3. Embeddings of equal pairs cost log(n).
    """
    scores = embeddings[:, 0] @ embeddings[:, 1].T / 0.07
    right = torch.arange(len(scores))
    return 0.5 * (F.cross_entropy(scores, right) + F.cross_entropy(scores.T, right))


def towers(seed: int) -> Problem:
    torch.manual_seed(seed)
    (x, y), (x_val, y_val) = digits(0.0)
    model = Towers()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.01)
    train_loader, _ = loaders((x.flatten(1), y), (x_val, y_val), 64, seed)
    in_batches = loaders((x_val.flatten(1), y_val), (x_val, y_val), 64, 0)[0]
    fixed: Loader = list(in_batches)  # type: ignore[assignment]  # a loss among 64 again
    return Problem(model, optimizer, info_nce, train_loader, fixed)


@functools.cache
def graph() -> tuple[Tensor, Tensor, Tensor]:
    """Papers that cite each other by topic: words (n, words), links (n, n), topics (n,).

    Returns:
        rows of the words sum to 1; links are normalised on both sides, with themselves.
    """
    generator = torch.Generator().manual_seed(0)
    topics = torch.randint(TOPICS, (NODES,), generator=generator)
    likely = torch.rand(TOPICS, FEATURES, generator=generator) ** 2
    words = torch.rand(NODES, FEATURES, generator=generator) < 0.03 + 0.1 * likely[topics]
    rate = torch.where(topics[:, None] == topics[None], 0.012, 0.002)
    links = torch.rand(NODES, NODES, generator=generator) < rate
    links = (links | links.T).float() + torch.eye(NODES)
    scale = links.clamp(max=1).sum(1).rsqrt()
    bag = words.float() / words.sum(1, keepdim=True).clamp(min=1)
    return bag, scale[:, None] * links.clamp(max=1) * scale[None], topics


class GraphNet(nn.Module):
    """Two graph convolutions over all nodes, read at some (Kipf & Welling, arXiv 1609.02907)."""

    words: Tensor
    links: Tensor

    def __init__(self, words: Tensor, links: Tensor, hidden: int = 16) -> None:
        super().__init__()
        self.register_buffer("words", words, persistent=False)
        self.register_buffer("links", links, persistent=False)
        self.first, self.second = nn.Linear(FEATURES, hidden), nn.Linear(hidden, TOPICS)
        for layer in (self.first, self.second):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, nodes: Tensor) -> Tensor:
        x = self.links @ self.first(F.dropout(self.words, 0.5, self.training))
        x = self.links @ self.second(F.dropout(x.relu(), 0.5, self.training))
        logits: Tensor = x[nodes]
        return logits


def few_labels(seed: int) -> Problem:
    torch.manual_seed(seed)
    words, links, topics = graph()
    order = torch.randperm(NODES, generator=torch.Generator().manual_seed(1))
    train, val = order[:120], order[120:420]
    model = GraphNet(words, links)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01, weight_decay=5e-4)
    split = loaders((train, topics[train]), (val, topics[val]), len(train), seed)
    return Problem(model, optimizer, nn.CrossEntropyLoss(), *split)


class BernoulliVAE(nn.Module):
    """The variational autoencoder of PyTorch's examples: probabilities, mean, log variance.

    In eval mode the latent noise is a fixed table.
    """

    fixed: Tensor

    def __init__(self, latent: int = 8) -> None:
        super().__init__()
        self.encoder = mlp(64, 64, 2 * latent)
        self.decoder = mlp(latent, 64, 64)
        table = torch.randn(1024, latent, generator=torch.Generator().manual_seed(0))
        self.register_buffer("fixed", table, persistent=False)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        mean, log_variance = self.encoder(images).chunk(2, dim=1)
        noise = torch.randn_like(mean) if self.training else self.fixed[: len(mean)]
        latent = mean + (0.5 * log_variance).exp() * noise
        return self.decoder(latent).sigmoid(), mean, log_variance


def summed_elbo(output: tuple[Tensor, Tensor, Tensor], images: Tensor) -> Tensor:
    """Cross entropy of the pixels and divergence of the latents, summed over the whole batch."""
    probabilities, mean, log_variance = output
    entropy = F.binary_cross_entropy(probabilities, images, reduction="sum")
    return entropy - 0.5 * (1 + log_variance - mean**2 - log_variance.exp()).sum()


def summed_vae(seed: int) -> Problem:
    torch.manual_seed(seed)
    model = BernoulliVAE()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    (x, _), (x_val, _) = digits(0.0)
    pixels, held_out = (((part * 0.376 + 0.305).clamp(0, 1)).flatten(1) for part in (x, x_val))
    return Problem(
        model, optimizer, summed_elbo, *loaders((pixels, pixels), (held_out, held_out), 64, seed)
    )


KINDS = (
    Kind(
        name="kind-vit-adamw",
        model="vision transformer",
        family="AdamW",
        train_steps=80,
        schedule=warmup_cosine,
        batch_size=32,
        build=vision_transformer,
        note="warmup over a fifth",
    ),
    Kind(
        name="kind-siamese-adam",
        model="siamese ResNet, BatchNorm",
        family="Adam",
        train_steps=120,
        schedule="constant",
        batch_size=32,
        build=siamese,
        note="running statistics alone lower the held-out loss by a third",
    ),
    Kind(
        name="kind-infonce-adamw",
        model="InfoNCE embeddings",
        family="AdamW",
        train_steps=300,
        schedule="cosine",
        batch_size=64,
        build=towers,
        note="a loss that cannot diverge",
    ),
    Kind(
        name="kind-graph-adam",
        model="graph net, few labels",
        family="Adam",
        train_steps=100,
        schedule="constant",
        batch_size=120,
        build=few_labels,
        note="full batch, 120 labels of 900",
    ),
    Kind(
        name="kind-vae-adam",
        model="VAE, summed loss",
        family="Adam",
        train_steps=300,
        schedule="constant",
        batch_size=64,
        build=summed_vae,
        note="a loss that raises where it diverges",
    ),
)
