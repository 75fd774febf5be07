"""Text that ships with Python, as tokens: what the models are pretrained and fine-tuned on."""

from __future__ import annotations

import functools
import os
import pathlib
from typing import Any

import torch
from torch import Tensor

VOCABULARY = 512
LENGTH = 32  # tokens of a passage in pretraining, and the longest that the models take
PAD, CLS, MASK, SEP = range(4)
SPECIAL = ("[PAD]", "[CLS]", "[MASK]", "[SEP]")

# Kept out, for tasks on code that the model has not seen.
PACKAGES = ("asyncio", "email", "http", "logging", "multiprocessing", "unittest")
# Tables and toys, of which there is too much, and what is not in every Python.
LEFT_OUT = ("encodings", "ensurepip", "idlelib", "lib2to3", "pydoc_data", "site-packages", "test")


def _library() -> pathlib.Path:
    return pathlib.Path(os.__file__).parent


def _read(paths: list[pathlib.Path]) -> str:
    return "\n".join(path.read_text(encoding="utf-8", errors="replace") for path in paths)


def standard_library() -> str:
    """Source code of the standard library, docstrings and all, without what is held out."""
    root, skipped = _library(), {*PACKAGES, *LEFT_OUT, "tests"}
    paths = [
        path
        for path in sorted(root.rglob("*.py"))
        if not skipped.intersection(path.relative_to(root).parts)
    ]
    return _read(paths)


def language_reference() -> str:
    """The prose of the language reference (`pydoc_data.topics`)."""
    from pydoc_data.topics import topics

    return "\n".join(topics[key] for key in sorted(topics))


def tokenised_library() -> dict[str, Any]:
    """A byte-pair encoding learned from the standard library, and the library in it."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    text = standard_library()
    lines = text.splitlines(keepends=True)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(lines[::4], trainer)
    ids = [token for line in lines for token in tokenizer.encode(line).ids]
    return {"tokenizer": tokenizer.to_str(), "tokens": torch.tensor(ids, dtype=torch.int16)}


@functools.lru_cache(maxsize=2)
def _tokenizer(serialised: str) -> Any:
    from tokenizers import Tokenizer

    return Tokenizer.from_str(serialised)


def encode(text: str, tokenizer: str) -> Tensor:
    """Token ids (n,) of a text, by a serialised tokenizer."""
    return torch.tensor(_tokenizer(tokenizer).encode(text).ids, dtype=torch.int64)


def windows(tokens: Tensor, length: int) -> Tensor:
    """Cut tokens into consecutive rows (n, length)."""
    count = len(tokens) // length
    return tokens[: count * length].long().view(count, length)


def shuffled(rows: Tensor, seed: int = 0) -> Tensor:
    """The rows in a fixed random order."""
    return rows[torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed))]
