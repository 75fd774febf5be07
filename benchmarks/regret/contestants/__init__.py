"""Everyone whose suggested lr is measured, in the order of the table."""

from __future__ import annotations

from benchmarks.regret.contestants.contestant import Answer, Contestant, ask
from benchmarks.regret.contestants.fastai import FASTAI
from benchmarks.regret.contestants.fixed import FIXED
from benchmarks.regret.contestants.ignite import IGNITE
from benchmarks.regret.contestants.lightning import LIGHTNING
from benchmarks.regret.contestants.lr_free import LR_FREE
from benchmarks.regret.contestants.optuna import OPTUNA
from benchmarks.regret.contestants.ours import OURS
from benchmarks.regret.contestants.torch_lr_finder import TORCH_LR_FINDER

__all__ = ["CONTESTANTS", "Answer", "Contestant", "ask", "by_name"]

CONTESTANTS: tuple[Contestant, ...] = (
    *OURS,
    *FASTAI,
    *TORCH_LR_FINDER,
    *LIGHTNING,
    *IGNITE,
    *OPTUNA,
    *LR_FREE,
    *FIXED,
)


def by_name(name: str) -> Contestant:
    """The contestant of that name.

    Raises:
        KeyError: there is none; the message lists the names.
    """
    for contestant in CONTESTANTS:
        if contestant.name == name:
            return contestant
    known = ", ".join(contestant.name for contestant in CONTESTANTS)
    raise KeyError(f"no contestant named {name!r}; known: {known}")
