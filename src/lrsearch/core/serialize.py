"""An outcome as JSON: one versioned format, strict when read, never half-written."""

from __future__ import annotations

import enum
import json
import math
import os
import reprlib
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from lrsearch.core.curve import Curve, Stop
from lrsearch.core.outcome import Cost, Outcome, Status
from lrsearch.errors import InvalidResultFile

_Kind = TypeVar("_Kind")
_Member = TypeVar("_Member", bound=enum.Enum)

__all__ = ["FORMAT", "FORMAT_VERSION", "from_json", "to_json", "write_atomically"]

FORMAT = "lrsearch-result"
FORMAT_VERSION = 1
_MEASURES = ("spread", "noise", "correction")  # written when they were measured


def to_json(outcome: Outcome) -> str:
    """Return the outcome as JSON text. NaN and infinity become the strings JSON lacks.

    Example:
        >>> from lrsearch.core.suggest import suggest
        >>> import numpy as np
        >>> curve = Curve(np.geomspace(1e-4, 1, 50), np.ones(50))
        >>> outcome = Outcome.of(suggest(curve), curves=(curve,), cost=Cost(50, 0, 0.1),
        ...     settings={})
        >>> from_json(to_json(outcome)) == outcome
        False
        >>> from_json(to_json(outcome)).status is outcome.status
        True
    """
    content = {
        "format": FORMAT,
        "version": FORMAT_VERSION,
        "lr": _number(outcome.lr),
        "low": _number(outcome.low),
        "high": _number(outcome.high),
        "status": outcome.status.name,
        "why": outcome.why,
        "rule": outcome.rule,
        "multipliers": [_number(value) for value in outcome.multipliers],
        **{name: _number(value) for name, value in _measures(outcome).items()},
        "cost": {
            "steps": outcome.cost.steps,
            "evaluations": outcome.cost.evaluations,
            "seconds": _number(outcome.cost.seconds),
            "runs": None if outcome.cost.runs is None else _number(outcome.cost.runs),
            "evaluation_seconds": _number(outcome.cost.evaluation_seconds),
        },
        "settings": _plain(outcome.settings),
        "curves": [_curve_to_plain(curve) for curve in outcome.curves],
    }
    return json.dumps(content, allow_nan=False, indent=1) + "\n"


def from_json(text: str | bytes) -> Outcome:
    """Return the outcome that :func:`to_json` wrote.

    Raises:
        InvalidResultFile: the text is damaged, is something else, or is of a newer version.
    """
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidResultFile(f"This is not JSON ({error}). Was the file cut short?") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise InvalidResultFile(
            f'This JSON is not an lrsearch result: expected an object with "format": "{FORMAT}".'
        )
    version = content.get("version")
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise InvalidResultFile(f"version: got {version!r}, expected {FORMAT_VERSION}.")
    if version > FORMAT_VERSION:
        raise InvalidResultFile(
            f"This result has format version {version}, and this lrsearch reads up to "
            f"{FORMAT_VERSION}. Upgrade lrsearch to read it."
        )
    return _outcome_from_plain(content)


def write_atomically(path: str | os.PathLike[str], write: Callable[[Path], object]) -> Path:
    """Let ``write`` fill a temporary file beside ``path``, then rename it into place.

    An error while writing leaves an existing file as it was and no temporary file behind.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(suffix=target.suffix, prefix=".lrsearch-", dir=target.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        write(temporary)
        # mkstemp makes files only their owner can read; results are ordinary files.
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        temporary.replace(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return target


def _measures(outcome: Outcome) -> dict[str, float]:
    named = {name: getattr(outcome, name) for name in _MEASURES}
    return {name: value for name, value in named.items() if value is not None}


def _curve_to_plain(curve: Curve) -> dict[str, object]:
    return {
        "lane": curve.lane,
        "role": curve.role,
        "stop": curve.stop.name,
        "lr": [_number(value) for value in curve.lr.tolist()],
        "loss": [_number(value) for value in curve.loss.tolist()],
        "evaluations": [[step, _number(loss)] for step, loss in curve.evaluations],
        **({"parts": [_number(loss) for loss in curve.parts]} if curve.parts else {}),
    }


def _number(value: float) -> float | str:
    number = float(value)
    return number if math.isfinite(number) else repr(number)


def _plain(value: object) -> object:
    """Settings as JSON can hold them; what it cannot hold is described."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return _number(value)
    return value if value is None or isinstance(value, (bool, int, str)) else repr(value)


def _outcome_from_plain(content: Mapping[str, Any]) -> Outcome:
    try:
        cost = _typed(dict, content["cost"])
        return Outcome(
            lr=_float(content["lr"]),
            low=_float(content["low"]),
            high=_float(content["high"]),
            status=_named(Status, content["status"]),
            why=_typed(str, content["why"]),
            rule=_typed(str, content["rule"]),
            multipliers=_floats(content["multipliers"]),
            **{name: _float(content[name]) for name in _MEASURES if name in content},
            cost=Cost(
                steps=_whole(cost["steps"]),
                evaluations=_whole(cost["evaluations"]),
                seconds=_float(cost["seconds"]),
                runs=None if cost["runs"] is None else _float(cost["runs"]),
                evaluation_seconds=_float(cost["evaluation_seconds"]),
            ),
            settings=_typed(dict, content["settings"]),
            curves=tuple(_curve_from_plain(curve) for curve in _typed(list, content["curves"])),
        )
    except KeyError as error:
        raise InvalidResultFile(f"This result is damaged: {error} is missing.") from error
    except (TypeError, ValueError, AttributeError, OverflowError) as error:
        raise InvalidResultFile(f"This result is damaged: {error}.") from error


def _curve_from_plain(content: Mapping[str, Any]) -> Curve:
    pairs = _typed(list, _typed(dict, content)["evaluations"])
    return Curve(
        lr=_floats(content["lr"]),  # type: ignore[arg-type]
        loss=_floats(content["loss"]),  # type: ignore[arg-type]
        stop=_named(Stop, content["stop"]),
        lane=_whole(content["lane"]),
        evaluations=tuple((_whole(step), _float(loss)) for step, loss in pairs),
        parts=_floats(content.get("parts", [])),
        role=_typed(str, content.get("role", "")),
    )


def _floats(value: object) -> tuple[float, ...]:
    return tuple(_float(item) for item in _typed(list, value))


def _float(value: object) -> float:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number and value not in ("nan", "inf", "-inf"):
        raise TypeError(f"expected a number, got {reprlib.repr(value)}")
    return float(value)  # type: ignore[arg-type]


def _whole(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**53:
        raise TypeError(f"expected a whole number, got {reprlib.repr(value)}")
    return value


def _typed(kind: type[_Kind], value: object) -> _Kind:
    if not isinstance(value, kind):
        raise TypeError(f"expected a {kind.__name__}, got {reprlib.repr(value)}")
    return value


def _named(kind: type[_Member], name: object) -> _Member:
    if not isinstance(name, str) or name not in kind.__members__:
        raise TypeError(f"expected one of {', '.join(kind.__members__)}, got {reprlib.repr(name)}")
    return kind[name]
