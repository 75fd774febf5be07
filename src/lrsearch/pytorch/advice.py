"""What to change when torch or Python raises in the middle of a search: a note for the error."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from lrsearch.errors import LRSearchError, add_note

__all__ = ["advice", "advised"]

# Words of the error, and what to do. The first that fits counts.
_KNOWN: tuple[tuple[tuple[str, ...], str], ...] = (
    (
        ("mark a variable ready only once", "marked as ready twice"),
        "a weight that is used more than once in a pass, as shared weights or checkpointed layers "
        "are, needs DistributedDataParallel(..., static_graph=True); the training itself needs it "
        "too.",
    ),
    (
        ("finished reduction in the prior iteration", "did not receive grad"),
        "parameters without a gradient need DistributedDataParallel(..., "
        "find_unused_parameters=True); the training itself needs it too.",
    ),
    (
        ("modified by an inplace operation",),
        "a tensor that the gradient needs was written to: by two forward passes through shared "
        "weights or buffers under DistributedDataParallel (broadcast_buffers=False leaves buffers "
        "alone), or by code that changes weights before the backward pass.",
    ),
    (
        ("backward through the graph a second time",),
        "something keeps the graph of an earlier batch, as a hidden state does: detach it. Pass "
        "train_step=... if the update makes several backward passes.",
    ),
    (
        ("create_graph", "does not have a grad_fn", "does not require grad"),
        "a gradient was wanted where none is kept. Inside an evaluation, with "
        "torch.enable_grad(): in val_loss= or evaluate= keeps them; in an update, train_step=... "
        "is a function (model, optimizer, batch) -> loss that makes all of it.",
    ),
    (
        ("out of memory", "not enough memory", "can't allocate memory"),
        'the search keeps one copy of the state: snapshot_to="cpu" or "disk" keeps it elsewhere. '
        "If the training itself needs this memory, make the batches smaller.",
    ),
    (
        ("to be on the same device", "on different devices", "same device"),
        "move the model to its device before its optimizer is made. Batches are moved to the "
        "model's device in tensors, containers and objects with .to(device).",
    ),
    (
        ("worker", "pickle", "spawn"),
        "workers of the loader failed: with num_workers=0 their own error shows.",
    ),
)

_OTHERWISE = (
    "if your own loop trains on the same batch, it makes the update in another way: pass "
    "compute_loss=..., a function (model, batch) -> loss, or train_step=..., a function "
    "(model, optimizer, batch) -> loss that makes the whole update."
)
_HELD_OUT = (
    "if your own validation works on the same batch, it measures in another way: pass "
    "val_loss=..., a function (model, batch) -> loss, or evaluate=..., a function (model) -> "
    "number, lower is better."
)


def advice(error: BaseException, held_out: bool = False) -> str:
    """Return the note that says what to change.

    Args:
        error: what was raised.
        held_out: whether that was in an evaluation.

    Example:
        >>> advice(RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"))[:47]
        'lrsearch: the search keeps one copy of the stat'
    """
    text = str(error)
    for words, what in _KNOWN:
        if any(word in text for word in words):
            return f"lrsearch: {what}"
    return f"lrsearch: {_HELD_OUT if held_out else _OTHERWISE}"


@contextmanager
def advised() -> Iterator[None]:
    """Add the note to every error of torch's or Python's own that passes through.

    Those of classes of the user's say what they mean, and so do ours.
    """
    try:
        yield
    except Exception as error:
        home = type(error).__module__.partition(".")[0]
        if home not in ("builtins", "torch", "numpy") or isinstance(error, LRSearchError):
            raise
        notes = getattr(error, "__notes__", ())
        if not any(note.startswith("lrsearch:") for note in notes):
            add_note(error, "lrsearch: while preparing the search, before the first update")
        held_out = any("the evaluation" in note for note in notes)
        add_note(error, advice(error, held_out))
        raise
