"""Text that ships with Python, as tokens: what the models are pretrained and fine-tuned on."""

from __future__ import annotations

import functools
import io
import os
import pathlib
import tokenize
from typing import Any

import torch
from torch import Tensor

VOCABULARY = 512
LENGTH = 32  # tokens of a passage in pretraining, and the longest that the models take
PAD, CLS, MASK, SEP = range(4)
SPECIAL = ("[PAD]", "[CLS]", "[MASK]", "[SEP]")
PRINTABLE = range(32, 127)  # of ASCII
CHARACTERS = len(SPECIAL) + len(PRINTABLE)
KINDS = ("prose", "docstring", "comment", "code")

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


def characters(text: str) -> Tensor:
    """Ids (n,) of a text's characters, any white space one blank, anything but ASCII a ``?``."""
    known = " ".join(text.split()).encode("ascii", "replace").decode("ascii")
    ids = {chr(code): len(SPECIAL) + place for place, code in enumerate(PRINTABLE)}
    return torch.tensor([ids.get(one, ids["?"]) for one in known], dtype=torch.uint8)


def texts_by_kind() -> dict[str, str]:
    """Text of each of the `KINDS`, of which `standard_library` holds nothing.

    Prose is the language reference; the others are what the held out packages are made of.
    """
    parts: dict[str, list[str]] = {kind: [] for kind in KINDS}
    parts["prose"].append(language_reference())
    for package in PACKAGES:
        for path in sorted((_library() / package).rglob("*.py")):
            if "test" not in path.relative_to(_library()).parts:
                for kind, text in _kinds(path.read_text(encoding="utf-8")):
                    parts[kind].append(text)
    return {kind: "\n".join(texts) for kind, texts in parts.items()}


def _kinds(source: str) -> list[tuple[str, str]]:
    """Comments and docstrings without their marks, and the lines on which there is neither."""
    found = []
    lines = dict(enumerate(source.splitlines(), start=1))
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            found.append(("comment", token.string.strip("# ")))
        elif token.type == tokenize.STRING and token.string.startswith('"""'):
            found.append(("docstring", token.string.strip('"')))
        else:
            continue
        for number in range(token.start[0], token.end[0] + 1):
            lines.pop(number, None)
    return [*found, *(("code", line) for line in lines.values())]


def windows(tokens: Tensor, length: int) -> Tensor:
    """Cut tokens into consecutive rows (n, length)."""
    count = len(tokens) // length
    return tokens[: count * length].long().view(count, length)


def shuffled(rows: Tensor, seed: int = 0) -> Tensor:
    """The rows in a fixed random order."""
    return rows[torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed))]
