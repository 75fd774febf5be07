"""The models of the benchmark, small enough for one CPU core."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def mlp(
    *sizes: int, activation: type[nn.Module] = nn.ReLU, dropout: float = 0.0, bias: bool = True
) -> nn.Sequential:
    """Fully connected layers of the given sizes; inputs are flattened."""
    layers: list[nn.Module] = [nn.Flatten()]
    for fan_in, fan_out in itertools.pairwise(sizes[:-1]):
        layers += [nn.Linear(fan_in, fan_out, bias=bias), activation()]
        if dropout > 0:
            layers.append(nn.Dropout(dropout))
    return nn.Sequential(*layers, nn.Linear(sizes[-2], sizes[-1], bias=bias))


def cnn(channels: int = 8, classes: int = 10) -> nn.Sequential:
    """Two convolutions with pooling for images (n, 1, 8, 8)."""
    features = nn.Sequential(
        nn.Conv2d(1, channels, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(channels, 2 * channels, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
    )
    return nn.Sequential(features, nn.Linear(8 * channels, classes))


class ResidualBlock(nn.Module):
    """relu(x + bn(conv(relu(bn(conv(x)))))). He et al., arXiv 1512.03385, section 3.1."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.body(x))


def resnet(channels: int = 12, classes: int = 10) -> nn.Sequential:
    """A stem and two residual blocks with batch normalisation, for images (n, 1, 8, 8)."""
    return nn.Sequential(
        nn.Conv2d(1, channels, 3, padding=1, stride=2, bias=False),
        nn.BatchNorm2d(channels),
        nn.ReLU(),
        ResidualBlock(channels),
        ResidualBlock(channels),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(channels, classes),
    )


class RowGRU(nn.Module):
    """Reads an image (n, 1, 8, 8) row by row and classifies from the last state."""

    def __init__(self, hidden: int = 24, classes: int = 10) -> None:
        super().__init__()
        self.gru = nn.GRU(8, hidden, batch_first=True)
        self.head = nn.Linear(hidden, classes)

    def forward(self, images: Tensor) -> Tensor:
        states, _ = self.gru(images.squeeze(1))
        logits: Tensor = self.head(states[:, -1])
        return logits


class CharLSTM(nn.Module):
    """Next-character logits (n, length, vocabulary) from characters (n, length)."""

    def __init__(self, vocabulary: int, embedding: int = 16, hidden: int = 48) -> None:
        super().__init__()
        self.embed = nn.Embedding(vocabulary, embedding)
        self.lstm = nn.LSTM(embedding, hidden, batch_first=True)
        self.head = nn.Linear(hidden, vocabulary)

    def forward(self, characters: Tensor) -> Tensor:
        states, _ = self.lstm(self.embed(characters))
        logits: Tensor = self.head(states)
        return logits


class CharMLP(nn.Module):
    """The character after a context of fixed length. Bengio et al. 2003, section 2."""

    def __init__(self, vocabulary: int, context: int, embedding: int = 8, hidden: int = 64) -> None:
        super().__init__()
        self.embed = nn.Embedding(vocabulary, embedding)
        self.head = mlp(context * embedding, hidden, vocabulary, activation=nn.Tanh)

    def forward(self, characters: Tensor) -> Tensor:
        logits: Tensor = self.head(self.embed(characters))
        return logits


class BagOfWords(nn.Module):
    """Mean word embedding and a linear layer; word 0 is padding."""

    def __init__(self, vocabulary: int, classes: int, embedding: int = 16) -> None:
        super().__init__()
        self.bag = nn.EmbeddingBag(vocabulary, embedding, mode="mean", padding_idx=0)
        self.head = nn.Linear(embedding, classes)

    def forward(self, words: Tensor) -> Tensor:
        logits: Tensor = self.head(self.bag(words))
        return logits


class Block(nn.Module):
    """Pre-norm transformer block. Vaswani et al., arXiv 1706.03762; Xiong et al., 2002.04745."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.feed = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        n, length, width = x.shape
        qkv = self.qkv(self.norm1(x)).view(n, length, 3, self.heads, width // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # each (n, heads, length, width / heads)
        scores = q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5 + mask
        mixed = (scores.softmax(-1) @ v).transpose(1, 2).reshape(n, length, width)
        x = x + self.dropout(self.out(mixed))
        out: Tensor = x + self.dropout(self.feed(self.norm2(x)))
        return out


class Transformer(nn.Module):
    """Causal character transformer: states (n, length, width) from characters (n, length)."""

    mask: Tensor

    def __init__(
        self, vocabulary: int, length: int, width: int = 32, depth: int = 2, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.embed = nn.Embedding(vocabulary, width)
        self.position = nn.Parameter(0.02 * torch.randn(length, width))
        self.blocks = nn.ModuleList(Block(width, 4, dropout) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        nn.init.normal_(self.embed.weight, std=0.02)
        ahead = torch.full((length, length), float("-inf")).triu(1)
        self.register_buffer("mask", ahead, persistent=False)

    def forward(self, characters: Tensor) -> Tensor:
        x = self.embed(characters) + self.position
        for block in self.blocks:
            x = block(x, self.mask)
        states: Tensor = self.norm(x)
        return states


class LanguageModel(nn.Module):
    """Next-character logits (n, length, vocabulary) on top of a transformer."""

    def __init__(self, backbone: Transformer, vocabulary: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = nn.Linear(backbone.position.shape[1], vocabulary)

    def forward(self, characters: Tensor) -> Tensor:
        logits: Tensor = self.head(self.backbone(characters))
        return logits


class SequenceClassifier(nn.Module):
    """Class logits (n, classes) from the mean state of a transformer."""

    def __init__(self, backbone: Transformer, classes: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = nn.Linear(backbone.position.shape[1], classes)

    def forward(self, characters: Tensor) -> Tensor:
        logits: Tensor = self.head(self.backbone(characters).mean(1))
        return logits


class VAE(nn.Module):
    """Variational autoencoder of flattened images. Kingma & Welling, arXiv 1312.6114, appendix C.

    In eval mode the latent noise is a fixed table (one row per example of the batch, at most
    `eval_rows`), so that the held-out loss is a number and not a draw.
    """

    eval_noise: Tensor

    def __init__(
        self, pixels: int, hidden: int = 48, latent: int = 6, eval_rows: int = 1024
    ) -> None:
        super().__init__()
        self.encoder = mlp(pixels, hidden, 2 * latent, activation=nn.Tanh)
        self.decoder = mlp(latent, hidden, pixels, activation=nn.Tanh)
        fixed = torch.randn(eval_rows, latent, generator=torch.Generator().manual_seed(0))
        self.register_buffer("eval_noise", fixed, persistent=False)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        mean, log_variance = self.encoder(images).chunk(2, dim=1)
        noise = torch.randn_like(mean) if self.training else self.eval_noise[: len(mean)]
        latent = mean + (0.5 * log_variance).exp() * noise
        return self.decoder(latent), mean, log_variance
