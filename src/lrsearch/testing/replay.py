"""A trainable that trains nothing: it replays recorded losses."""

from __future__ import annotations

import bisect
import math
import os

from lrsearch.errors import InvalidArgument
from lrsearch.testing.recording import FloatArray, RecordedRun, Recording

__all__ = ["EvaluatedReplayTrainable", "ReplayTrainable", "replay"]

_SAME = 1e-9  # learning rates that differ by less, in log(lr), are the same but for rounding


class ReplayTrainable:
    """Replay a :class:`Recording`: searches that would take hours of training take none.

    The state is two numbers: updates made, and the peak learning rate so far. The loss of
    update ``t`` is that of the recorded run with this peak at its update ``t``: exact for runs
    at a recorded peak, under the schedule and of the length that were recorded; between
    recorded learning rates interpolated in log(lr); of several lengths the shortest that
    reaches ``t`` counts. A climbing ladder reads at every rung the run that had this learning
    rate from its start, and so does a schedule while it warms up. Below the lowest learning
    rate losses are linear in the learning rate, as small steps make them. Above the highest
    one, and next to a loss that is NaN, the loss is NaN: record up to where training diverges.

    Without training losses, the held-out ones stand in for them.

    Args:
        recording: what to replay.

    Example:
        >>> from lrsearch.core.search import Plan, run_search
        >>> from lrsearch.methods.sweep import Sweep
        >>> from lrsearch.testing import RecordedRun
        >>> run = RecordedRun(4, losses=[[2.5, end, end, end] for end in (2.4, 1.9, 2.2)])
        >>> trainable = ReplayTrainable(Recording([0.01, 0.1, 1.0], [run]))
        >>> run_search(trainable, Sweep([0.01, 0.1, 1.0]), Plan(train_steps=4)).lr
        0.1
    """

    def __init__(self, recording: Recording) -> None:
        self.recording = recording
        self._logs = [math.log(lr) for lr in recording.lrs.tolist()]
        self._lengths = [run.steps for run in recording.runs]
        self._state = (0, 0.0)  # updates made, peak so far

    @classmethod
    def from_json(cls, path: str | os.PathLike[str]) -> ReplayTrainable:
        """Read a recording; the trainable can evaluate when held-out losses were recorded.

        Raises:
            InvalidResultFile: the file is missing, damaged, or something else.
        """
        return replay(Recording.from_json(path))

    def step(self, lr: float) -> float:
        """Return the recorded loss before this update.

        Raises:
            InvalidArgument: more updates are asked for than were recorded.
        """
        made, peak = self._state
        if made >= self.recording.steps:
            raise InvalidArgument.of(
                "ReplayTrainable", f"update {made + 1}", f"at most the {made} recorded"
            )
        self._state = (made + 1, max(peak, float(lr)))
        if self.recording.runs[0].losses is None:
            return self._held_out(made, peak)
        run = self.recording.runs[bisect.bisect_right(self._lengths, made)]
        assert run.losses is not None
        if made >= run.losses.shape[1]:  # every lane had ended
            return math.nan
        losses = run.losses[:, made]
        return self._at(losses, peak, _untrained(self.recording.lrs, losses))

    def snapshot(self) -> tuple[int, float]:
        """Return the updates made and the peak so far."""
        return self._state

    def restore(self, snapshot: tuple[int, float], /) -> None:
        """Return to that state."""
        self._state = snapshot

    def _held_out(self, made: int, peak: float) -> float:
        """Held-out loss of a run of ``made`` updates: log-linear between recorded lengths."""
        start = float(self.recording.initial or 0.0)
        upper = bisect.bisect_left(self._lengths, made)
        longer = self._final(self.recording.runs[upper], peak, start)
        if self._lengths[upper] == made:
            return longer
        if upper == 0:
            return start + (longer - start) * made / self._lengths[0]
        shorter = self._final(self.recording.runs[upper - 1], peak, start)
        low, high = self._lengths[upper - 1 : upper + 1]
        share = math.log(made / low) / math.log(high / low)
        return (1.0 - share) * shorter + share * longer

    def _final(self, run: RecordedRun, peak: float, start: float) -> float:
        assert run.held_out is not None
        return self._at(run.held_out, peak, start)

    def _at(self, losses: FloatArray, peak: float, start: float) -> float:
        """Interpolate losses by learning rate, shape ``(lrs,)``, in log(lr)."""
        lrs = self.recording.lrs
        if peak < lrs[0]:
            return start + (float(losses[0]) - start) * peak / float(lrs[0])
        x = math.log(peak)
        right = bisect.bisect_left(self._logs, x - _SAME)
        if right == len(self._logs):
            return math.nan
        if self._logs[right] - x < _SAME:
            return float(losses[right])
        share = (x - self._logs[right - 1]) / (self._logs[right] - self._logs[right - 1])
        return (1.0 - share) * float(losses[right - 1]) + share * float(losses[right])


class EvaluatedReplayTrainable(ReplayTrainable):
    """A :class:`ReplayTrainable` whose recording has held-out losses."""

    def __init__(self, recording: Recording) -> None:
        if not recording.has_held_out:
            raise InvalidArgument("EvaluatedReplayTrainable: no held-out losses were recorded.")
        super().__init__(recording)

    def evaluate(self) -> float:
        """Return the recorded held-out loss of a run that ends here."""
        return self._held_out(*self._state)


def _untrained(lrs: FloatArray, losses: FloatArray) -> float:
    """The loss at a learning rate of zero, from those at the two lowest: with it comes the noise.

    For small learning rates what a batch measures is linear in them.
    """
    lowest = float(losses[0])
    if len(lrs) < 2 or not math.isfinite(losses[1]):
        return lowest
    return lowest - (float(losses[1]) - lowest) * float(lrs[0] / (lrs[1] - lrs[0]))


def replay(recording: Recording) -> ReplayTrainable:
    """Return a trainable that can evaluate when held-out losses were recorded, else not."""
    return (EvaluatedReplayTrainable if recording.has_held_out else ReplayTrainable)(recording)
