"""Recorded training: the losses of many learning rates, as arrays and as a JSON file."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lrsearch.core.outcome import Outcome
from lrsearch.core.serialize import write_atomically
from lrsearch.errors import InvalidArgument, InvalidResultFile, Words

__all__ = ["FORMAT", "RecordedRun", "Recording"]

FORMAT = "lrsearch-recording"
FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class RecordedRun:
    """One length of run, trained once at every learning rate.

    Attributes:
        steps: optimizer updates of the run.
        losses: training loss of every update, shape ``(lrs, steps)``; where a row has ended
            early, as after divergence, its loss is NaN. ``None`` when they were not recorded.
        held_out: held-out loss at the end, shape ``(lrs,)``, or ``None``.
    """

    steps: int
    losses: FloatArray | None = None
    held_out: FloatArray | None = None


@dataclass(frozen=True)
class Recording:
    """What was measured: runs of one or several lengths, each at the same learning rates.

    A learning rate is the *peak* of its run. Losses that are not finite, as after divergence,
    are NaN in the arrays and ``null`` in the file::

        {"format": "lrsearch-recording", "version": 1,
         "lrs": [0.01, 0.1, 1.0],
         "initial": 2.5,
         "runs": [{"steps": 2,
                   "losses": [[2.4, 2.3], [2.4, 1.9], [2.4, null]],
                   "held_out": [2.2, 1.8, null]}]}

    ``losses`` or ``held_out`` may be left out, in all runs alike.

    Args:
        lrs: peak learning rates, ascending, shape ``(lrs,)``.
        runs: at least one, in any order, no two of the same length.
        initial: held-out loss before training; needed when there are held-out losses.

    Raises:
        InvalidArgument: the parts do not fit together.

    Example:
        >>> run = RecordedRun(2, held_out=[2.2, 1.8, float("nan")])
        >>> Recording([0.01, 0.1, 1.0], [run], initial=2.5).steps
        2
    """

    lrs: FloatArray
    runs: tuple[RecordedRun, ...]
    initial: float | None = None

    def __post_init__(self) -> None:
        lrs = np.array(self.lrs, dtype=np.float64)
        good = lrs.ndim == 1 and lrs.size and np.isfinite(lrs).all() and lrs[0] > 0.0
        if not good or not (np.diff(lrs) > 0.0).all():
            raise InvalidArgument.of("Recording.lrs", self.lrs, "positive ascending numbers")
        object.__setattr__(self, "lrs", lrs)
        runs = tuple(_checked(run, lrs.size) for run in self.runs)
        runs = tuple(sorted(runs, key=lambda run: run.steps))
        kinds = {(run.losses is not None, run.held_out is not None) for run in runs}
        if len({run.steps for run in runs}) < max(len(runs), 1):
            lengths = [run.steps for run in self.runs]
            raise InvalidArgument.of("Recording.runs", lengths, "runs of different lengths")
        if len(kinds) > 1 or (False, False) in kinds:
            raise InvalidArgument("Recording.runs: give losses, held_out or both, in all alike.")
        if self.has_held_out and not (self.initial is not None and math.isfinite(self.initial)):
            expected = "the held-out loss before training"
            raise InvalidArgument.of("Recording.initial", self.initial, expected)
        object.__setattr__(self, "runs", runs)

    @property
    def steps(self) -> int:
        """Updates of the longest run."""
        return self.runs[-1].steps

    @property
    def has_held_out(self) -> bool:
        """Whether held-out losses were recorded."""
        return self.runs[0].held_out is not None

    @classmethod
    def of(cls, *sweeps: Outcome, initial: float | None = None) -> Recording:
        """Return what sweeps over the same learning rates measured, one for every length.

        Args:
            sweeps: results of ``search(trainable, method=Sweep(lrs), train_steps=...)``.
            initial: held-out loss before training; needed when the sweeps have held-out ones.
        """
        lrs: list[float] = []
        runs = []
        for sweep in sweeps:
            candidates = [curve for curve in sweep.curves if curve.role != "baseline"]
            curves = sorted(candidates, key=lambda curve: float(curve.lr.max()))
            lrs = [float(curve.lr.max()) for curve in curves]
            final = [curve.evaluations[-1][1] if curve.evaluations else None for curve in curves]
            runs.append(
                RecordedRun(
                    max(len(curve) for curve in curves),
                    [curve.loss for curve in curves],  # type: ignore[arg-type]
                    None if initial is None else final,  # type: ignore[arg-type]
                )
            )
        return cls(lrs, runs, initial)  # type: ignore[arg-type]

    @classmethod
    def from_json(cls, path: str | os.PathLike[str]) -> Recording:
        """Read a recording that :meth:`to_json` wrote, or another program in its format.

        Raises:
            InvalidResultFile: the file is missing, damaged, or something else.
        """
        try:
            content = json.loads(Path(path).read_bytes())
            if not isinstance(content, dict) or content.get("format") != FORMAT:
                raise ValueError(f'expected an object with "format": "{FORMAT}"')
            if content.get("version") != 1:
                raise ValueError(f"version: got {content.get('version')!r}, expected 1")
            runs = [RecordedRun(**run) for run in content["runs"]]
            return cls(content["lrs"], tuple(runs), content.get("initial"))
        except KeyError as error:
            raise InvalidResultFile(f"{os.fspath(path)}: {error} is missing.") from error
        except (OSError, TypeError, ValueError, OverflowError, RecursionError) as error:
            raise InvalidResultFile(f"{os.fspath(path)}: {error}") from error

    def to_json(self, path: str | os.PathLike[str]) -> None:
        """Write the recording."""
        runs = [
            {
                "steps": run.steps,
                **({} if run.losses is None else {"losses": _with_null(run.losses)}),
                **({} if run.held_out is None else {"held_out": _with_null(run.held_out)}),
            }
            for run in self.runs
        ]
        content: dict[str, Any] = {"format": FORMAT, "version": 1, "lrs": self.lrs.tolist()}
        content |= {"initial": self.initial, "runs": runs}
        text = json.dumps(content, allow_nan=False) + "\n"
        write_atomically(path, lambda temporary: temporary.write_text(text, "utf-8"))


def _checked(run: RecordedRun, count: int) -> RecordedRun:
    steps = run.steps
    whole = isinstance(steps, (int, np.integer)) and not isinstance(steps, bool)
    if not whole or not 1 <= steps < 2**53:
        raise InvalidArgument.of("RecordedRun.steps", steps, "a whole number from 1")
    losses, held_out = run.losses, run.held_out
    if losses is not None:
        if len(losses) != count or max(map(len, losses)) > steps:
            came = Words(f"{len(losses)} rows of up to {max(map(len, losses), default=0)} losses")
            raise InvalidArgument.of("RecordedRun.losses", came, f"{count} of up to {steps}")
        # As long as what is there: a run may claim any length.
        longest = max(map(len, losses))
        losses = np.stack([_finite_or_nan(row, longest) for row in losses])
    if held_out is not None:
        if len(held_out) != count:
            came = Words(f"{len(held_out)} losses")
            raise InvalidArgument.of("RecordedRun.held_out", came, f"{count}, one for every lr")
        held_out = _finite_or_nan(held_out, count)
    return RecordedRun(int(steps), losses, held_out)


def _finite_or_nan(values: Sequence[float | None] | FloatArray, size: int) -> FloatArray:
    array = np.full(size, np.nan)
    array[: len(values)] = np.array(values, dtype=np.float64)  # None becomes NaN
    array[~np.isfinite(array)] = np.nan
    return array


def _with_null(values: FloatArray) -> Any:
    if values.ndim == 2:
        return [_with_null(row) for row in values]
    return [value if math.isfinite(value) else None for value in values.tolist()]
