"""Which learning rate should this run use? A number, an interval, and the evidence.

Names are loaded when they are first used, so that ``import lrsearch`` costs next to
nothing and touches neither PyTorch nor matplotlib.

Example:
    >>> import lrsearch
    >>> lrsearch.RangeTest(steps=50).steps
    50
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from lrsearch._version import __version__

if TYPE_CHECKING:
    from lrsearch.core.curve import Curve
    from lrsearch.core.grid import Segment
    from lrsearch.core.outcome import Cost, Status
    from lrsearch.core.suggest import Suggestion, suggest
    from lrsearch.errors import (
        InvalidArgument,
        InvalidResultFile,
        LRSearchError,
        MissingDependency,
        NoLearningRateFound,
        NotRestored,
        RankFailed,
    )
    from lrsearch.find import find_lr, search
    from lrsearch.methods.ladder import Ladder
    from lrsearch.methods.race import Race
    from lrsearch.methods.range_test import RangeTest
    from lrsearch.methods.sweep import Sweep
    from lrsearch.result import Result

_HOMES = {
    "Cost": "lrsearch.core.outcome",
    "Curve": "lrsearch.core.curve",
    "InvalidArgument": "lrsearch.errors",
    "InvalidResultFile": "lrsearch.errors",
    "LRSearchError": "lrsearch.errors",
    "Ladder": "lrsearch.methods.ladder",
    "MissingDependency": "lrsearch.errors",
    "NoLearningRateFound": "lrsearch.errors",
    "NotRestored": "lrsearch.errors",
    "Race": "lrsearch.methods.race",
    "RangeTest": "lrsearch.methods.range_test",
    "RankFailed": "lrsearch.errors",
    "Result": "lrsearch.result",
    "Segment": "lrsearch.core.grid",
    "Status": "lrsearch.core.outcome",
    "Suggestion": "lrsearch.core.suggest",
    "Sweep": "lrsearch.methods.sweep",
    "find_lr": "lrsearch.find",
    "search": "lrsearch.find",
    "suggest": "lrsearch.core.suggest",
}

__all__ = [
    "Cost",
    "Curve",
    "InvalidArgument",
    "InvalidResultFile",
    "LRSearchError",
    "Ladder",
    "MissingDependency",
    "NoLearningRateFound",
    "NotRestored",
    "Race",
    "RangeTest",
    "RankFailed",
    "Result",
    "Segment",
    "Status",
    "Suggestion",
    "Sweep",
    "__version__",
    "find_lr",
    "search",
    "suggest",
]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'lrsearch' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
