"""What a search returns: the outcome, with the ways to use, show and keep it."""

from __future__ import annotations

import dataclasses
import importlib
import os
import types
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from lrsearch.core import serialize
from lrsearch.core.outcome import Outcome
from lrsearch.core.validation import file_path
from lrsearch.errors import InvalidArgument, InvalidResultFile, NoLearningRateFound, Words
from lrsearch.hand_over import Continued, HandOver

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from torch.optim import Optimizer
    from torch.optim.lr_scheduler import CyclicLR, LRScheduler, OneCycleLR

__all__ = ["Result"]


@dataclasses.dataclass(frozen=True, repr=False)
class Result(Outcome):
    """A learning rate, its interval, its evidence, and what to do with it.

    The data are those of :class:`lrsearch.core.outcome.Outcome`; nothing here runs a search,
    and nothing is set anywhere until it is asked for.

    Attributes:
        hand_over: lanes that can go on as the planned run, when they were kept. Not written
            to JSON.
    """

    hand_over: HandOver | None = dataclasses.field(default=None, repr=False, compare=False)

    @classmethod
    def from_outcome(cls, outcome: Outcome, **changes: Any) -> Result:
        """Return a result with the data of ``outcome``, some of them changed."""
        data = {field.name: getattr(outcome, field.name) for field in dataclasses.fields(Outcome)}
        return cls(**{**data, **changes})

    def apply(
        self, target: Any, scheduler: LRScheduler | Sequence[LRScheduler] | None = None
    ) -> None:
        """Set the learning rate of every parameter group, keeping the groups' ratios.

        With a scheduler, all its learning rates are multiplied by the same number, so that the
        highest of its run is the one found, and it keeps its place. This is tried on copies
        before anything is set.

        Args:
            target: the optimizer to set, or the list of optimizers that was searched; or a
                trainer that an integration knows, which is then set wherever it keeps its
                learning rate.
            scheduler: the optimizer's scheduler, when one is attached, or all of them.

        Raises:
            InvalidArgument: neither of them, the optimizer has another number of groups than
                the one searched, a scheduler is attached and not given, or it computes
                learning rates of its own that do not follow; nothing was set.
            NoLearningRateFound: there is no learning rate to apply.

        Example:
            >>> result.apply(optimizer)  # doctest: +SKIP
            >>> result.apply(optimizer, scheduler)  # doctest: +SKIP
        """
        target = _joined(target)
        integration = _integration_of(target)
        if integration is not None:
            integration.apply_result(self, target)
            return
        lrs = self._lrs_for(target)
        from lrsearch.pytorch.schedulers import applied

        several: Any = scheduler if isinstance(scheduler, (list, tuple)) else [scheduler]
        given = [one for one in several if one is not None]
        applied(lrs, target, given, searched=self.settings).do()

    def continue_from(self, model: object, optimizer: object = None) -> Continued:
        """Load the state of the lane nearest to the answer, and go on from there.

        The search must have kept its lanes, as ``method=Race(hand_over=True)`` does. A lane
        is part of the planned run when the schedule is constant, or when it ran for the whole
        length. Everything is loaded: weights, optimizer state, learning rates, random states.

        Args:
            model, optimizer: the objects that were searched.

        Returns:
            The lane's learning rate, and the updates of the planned run that are done.

        Raises:
            InvalidArgument: no lane was kept, none is part of the planned run, or these are
                other objects; nothing was changed.
            NoLearningRateFound: there is no answer.
        """
        if not self.status.found:
            raise NoLearningRateFound(f"There is no learning rate to use: {self.why}", self)
        if self.hand_over is None:
            raise InvalidArgument(
                "continue_from: no lane was kept. Search with method=Race(hand_over=True), and "
                "use the result itself, not one read from a file."
            )
        return self.hand_over.give(self, model, optimizer)

    def one_cycle(self, optimizer: Optimizer, total_steps: int, **options: Any) -> OneCycleLR:
        """Return torch's ``OneCycleLR`` with this learning rate as its peak.

        Source: L. Smith, N. Topin, "Super-Convergence", arXiv 1708.07120.
        """
        from torch.optim.lr_scheduler import OneCycleLR

        peaks = list(self._lrs_for(optimizer))
        return OneCycleLR(optimizer, max_lr=peaks, total_steps=total_steps, **options)

    def cyclic(self, optimizer: Optimizer, **options: Any) -> CyclicLR:
        """Return torch's ``CyclicLR`` between ``low`` and ``high``.

        Source: L. Smith, "Cyclical Learning Rates for Training Neural Networks", arXiv
        1506.01186.
        """
        from torch.optim.lr_scheduler import CyclicLR

        self._lrs_for(optimizer)
        # CyclicLR cycles the momentum by default and refuses optimizers without one.
        options.setdefault("cycle_momentum", "momentum" in optimizer.defaults)
        low = [self.low * multiplier for multiplier in self.multipliers]
        high = [self.high * multiplier for multiplier in self.multipliers]
        return CyclicLR(optimizer, base_lr=low, max_lr=high, **options)

    def plot(self, path: str | os.PathLike[str] | None = None, ax: Axes | None = None) -> Figure:
        """Draw the curves and the answer; write a file when ``path`` is given.

        No window is opened and pyplot is not touched.

        Args:
            path: file to write (``.png``, ``.svg``, ``.pdf``).
            ax: draw on these axes instead of a new figure.

        Returns:
            The figure.
        """
        from lrsearch.report.plot import plot

        return plot(self, path=path, ax=ax)

    def report(self, path: str | os.PathLike[str]) -> Path:
        """Write a self-contained HTML page with the answer, the plot and the evidence."""
        from lrsearch.report.html import write_report

        return write_report(self, path)

    def _repr_html_(self) -> str:
        """Return the card that a notebook shows."""
        from lrsearch.report.html import card

        return card(self)

    def to_json(self, path: str | os.PathLike[str] | None = None) -> str:
        """Return the result as JSON text; write it too when ``path`` is given."""
        text = serialize.to_json(self)
        if path is not None:
            serialize.write_atomically(path, lambda temporary: temporary.write_text(text, "utf-8"))
        return text

    @classmethod
    def from_json(cls, path: str | os.PathLike[str]) -> Result:
        """Read a result that :meth:`to_json` wrote.

        Raises:
            InvalidResultFile: the file is missing, damaged, or of a newer version.
            InvalidArgument: no file can have that name.
        """
        file = file_path("path", path)
        try:
            content = file.read_bytes()
        except OSError as error:
            raise InvalidResultFile(f"{file}: {error.strerror or error}.") from error
        try:
            return cls.from_outcome(serialize.from_json(content))
        except InvalidResultFile as error:
            raise InvalidResultFile(f"{file}: {error}") from error

    def _lrs_for(self, optimizer: Optimizer) -> tuple[float, ...]:
        if not self.status.found:
            raise NoLearningRateFound(f"There is no learning rate to use: {self.why}", self)
        groups = len(optimizer.param_groups)
        if groups != len(self.multipliers):
            raise InvalidArgument.of(
                "optimizer",
                Words(f"{groups} parameter groups"),
                f"the {len(self.multipliers)} groups the search was made with",
            )
        return self.group_lrs


def _joined(target: Any) -> Any:
    """Return a list of optimizers as one object with the groups of all; others as they are."""
    if not isinstance(target, (list, tuple)):
        return target
    groups = [group for one in target for group in getattr(one, "param_groups", [])]
    return types.SimpleNamespace(param_groups=groups)


def _integration_of(target: object) -> ModuleType | None:
    """Return the integration that knows how to apply to ``target``, ``None`` for an optimizer."""
    if isinstance(getattr(target, "param_groups", None), list):
        return None
    for kind in type(target).__mro__:
        home = _INTEGRATIONS.get(kind.__module__.partition(".")[0])
        if home is not None:
            return importlib.import_module(f"lrsearch.integrations.{home}")
    raise InvalidArgument.of("target", target, "an optimizer, or a trainer of an integration")


# By the package that a trainer's class comes from: imported only for an object that is its own.
_INTEGRATIONS = {
    "lightning": "lightning",
    "pytorch_lightning": "lightning",
    "transformers": "transformers",
}
