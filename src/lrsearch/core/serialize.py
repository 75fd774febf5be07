"""An outcome as JSON: one versioned format, strict when read, never half-written."""

from __future__ import annotations

import json
import math
import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from lrsearch.core.curve import Curve, Stop
from lrsearch.core.outcome import Cost, Outcome, Status
from lrsearch.errors import InvalidResultFile

__all__ = ["FORMAT", "FORMAT_VERSION", "from_json", "to_json", "write_atomically"]

FORMAT = "lrsearch-result"
FORMAT_VERSION = 1


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
        "multipliers": list(outcome.multipliers),
        "cost": {
            "steps": outcome.cost.steps,
            "evaluations": outcome.cost.evaluations,
            "seconds": outcome.cost.seconds,
            "runs": outcome.cost.runs,
        },
        "settings": dict(outcome.settings),
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


def _curve_to_plain(curve: Curve) -> dict[str, object]:
    return {
        "lane": curve.lane,
        "stop": curve.stop.name,
        "lr": [_number(value) for value in curve.lr.tolist()],
        "loss": [_number(value) for value in curve.loss.tolist()],
        "evaluations": [[step, _number(loss)] for step, loss in curve.evaluations],
    }


def _number(value: float) -> float | str:
    return value if math.isfinite(value) else repr(value)


def _outcome_from_plain(content: Mapping[str, Any]) -> Outcome:
    try:
        cost = content["cost"]
        return Outcome(
            lr=_float(content["lr"]),
            low=_float(content["low"]),
            high=_float(content["high"]),
            status=Status[content["status"]],
            why=_text(content["why"]),
            rule=_text(content["rule"]),
            multipliers=tuple(_float(value) for value in content["multipliers"]),
            cost=Cost(
                steps=_whole(cost["steps"]),
                evaluations=_whole(cost["evaluations"]),
                seconds=_float(cost["seconds"]),
                runs=None if cost["runs"] is None else _float(cost["runs"]),
            ),
            settings=dict(content["settings"]),
            curves=tuple(_curve_from_plain(curve) for curve in content["curves"]),
        )
    except KeyError as error:
        raise InvalidResultFile(f"This result is damaged: {error} is missing.") from error
    except (TypeError, ValueError, AttributeError, OverflowError) as error:
        raise InvalidResultFile(f"This result is damaged: {error}.") from error


def _curve_from_plain(content: Mapping[str, Any]) -> Curve:
    return Curve(
        lr=[_float(value) for value in content["lr"]],  # type: ignore[arg-type]
        loss=[_float(value) for value in content["loss"]],  # type: ignore[arg-type]
        stop=Stop[content["stop"]],
        lane=_whole(content["lane"]),
        evaluations=tuple((_whole(step), _float(loss)) for step, loss in content["evaluations"]),
    )


def _float(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise TypeError(f"expected a number, got {value!r}")
    return float(value)


def _whole(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"expected a whole number, got {value!r}")
    return value


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"expected a text, got {value!r}")
    return value
