"""Next-character prediction: a small transformer on the text of Python's own documentation.

The text is that of ``help()``: the topics of the standard library's ``pydoc_data``, some
hundred thousand characters; nothing is downloaded. Its exact length depends on the version of
Python, and so do the losses.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

__all__ = ["CharTransformer", "char_lm"]

_CONTEXT = 64  # characters
_BATCH = 16
_HELD_OUT = 0.1  # share of the text, at its end
_HELD_OUT_BATCHES = 4


def char_lm(seed: int = 0) -> dict[str, Any]:
    """Return arguments for :func:`lrsearch.find_lr`: transformer, optimizer, loss and data.

    Args:
        seed: seed of the weights and of the windows of text that are drawn.

    Returns:
        ``model``, ``optimizer`` (AdamW), ``loss_fn``, ``train_loader`` (batches of characters
        and the characters that follow them, both int64 of shape ``(16, 64)``) and
        ``val_loader``.

    Example:
        >>> now, following = next(iter(char_lm()["train_loader"]))
        >>> tuple(now.shape), bool((now[:, 1:] == following[:, :-1]).all())
        ((16, 64), True)
    """
    text, characters = _load()
    cut = int(len(text) * (1.0 - _HELD_OUT))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = CharTransformer(characters)
    held_out = _Windows(text[cut:], stride=_CONTEXT)
    return {
        "model": model,
        "optimizer": torch.optim.AdamW(model.parameters()),
        "loss_fn": next_character_loss,
        "train_loader": DataLoader(
            _Windows(text[:cut]),
            batch_size=_BATCH,
            shuffle=True,
            drop_last=True,
            generator=torch.Generator().manual_seed(seed),
        ),
        "val_loader": DataLoader(held_out, batch_size=-(-len(held_out) // _HELD_OUT_BATCHES)),
    }


def next_character_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the mean cross-entropy in nats of logits ``(n, t, characters)``."""
    return nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten())


class CharTransformer(nn.Module):
    """A decoder-only transformer with pre-normalisation and learned positions.

    Args:
        characters: size of the alphabet.
        width: width of the residual stream.
        layers: number of blocks.
        heads: attention heads of each block.

    Source: A. Radford et al., "Language Models are Unsupervised Multitask Learners" (2019),
    section 2.3, at a small size.
    """

    def __init__(self, characters: int, width: int = 64, layers: int = 3, heads: int = 4) -> None:
        super().__init__()
        self.token = nn.Embedding(characters, width)
        self.position = nn.Embedding(_CONTEXT, width)
        self.blocks = nn.ModuleList(
            nn.TransformerEncoderLayer(
                width,
                heads,
                4 * width,
                dropout=0.0,
                activation="gelu",
                batch_first=True,
                norm_first=True,
            )
            for _ in range(layers)
        )
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, characters, bias=False)
        for parameter in self.parameters():
            if parameter.dim() > 1:
                nn.init.normal_(parameter, std=0.02)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return logits ``(n, t, characters)`` for tokens ``(n, t)``, each from its past only."""
        length = tokens.shape[1]
        mask = nn.Transformer.generate_square_subsequent_mask(length, device=tokens.device)
        x = self.token(tokens) + self.position(torch.arange(length, device=tokens.device))
        for block in self.blocks:
            x = block(x, src_mask=mask, is_causal=True)  # (n, t, width)
        return self.head(self.norm(x))  # type: ignore[no-any-return]


class _Windows(Dataset[tuple[Tensor, Tensor]]):
    """Stretches of the text, each with the same stretch one character later."""

    def __init__(self, text: Tensor, stride: int = 1) -> None:
        self._text = text
        self._stride = stride

    def __len__(self) -> int:
        return (len(self._text) - _CONTEXT - 1) // self._stride + 1

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        begin = index * self._stride
        window = self._text[begin : begin + _CONTEXT + 1]
        return window[:-1], window[1:]


def _load() -> tuple[Tensor, int]:
    """Return the text as character numbers, shape ``(length,)``, and the alphabet's size."""
    from pydoc_data.topics import topics

    text = "\n\n".join(topics[name] for name in sorted(topics))
    alphabet = {character: number for number, character in enumerate(sorted(set(text)))}
    return torch.tensor([alphabet[character] for character in text]), len(alphabet)
