"""An outcome as JSON: one versioned format, strict when read, never half-written."""

from __future__ import annotations

import enum
import errno
import json
import math
import os
import reprlib
import secrets
import shutil
import stat
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from lrsearch.core.curve import Curve, Stop
from lrsearch.core.outcome import Cost, Outcome, Status
from lrsearch.core.validation import file_path, positive
from lrsearch.errors import InvalidArgument, InvalidResultFile

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
        got = reprlib.repr(version)
        raise InvalidResultFile(f"version: got {got}, expected {FORMAT_VERSION}.")
    if version > FORMAT_VERSION:
        raise InvalidResultFile(
            f"This result has format version {reprlib.repr(version)}, and this lrsearch reads "
            f"up to {FORMAT_VERSION}. Upgrade lrsearch to read it."
        )
    return _outcome_from_plain(content)


def write_atomically(path: str | os.PathLike[str], write: Callable[[Path], object]) -> Path:
    """Let ``write`` fill a temporary file, and put what it wrote in the place of ``path``.

    A file is replaced when the new one is complete, and keeps its mode: an error while writing
    leaves it as it was, and no temporary file behind. What ``open`` would write through, a link,
    a device or a pipe, is written through.

    Raises:
        InvalidArgument: no file can have that name.
        OSError: it cannot be written.
    """
    target = file_path("path", path)
    target.parent.mkdir(parents=True, exist_ok=True)
    there = _status(target)
    if there is not None and not _replaceable(there, target.parent):
        with tempfile.TemporaryDirectory(prefix="lrsearch-") as folder:
            complete = Path(folder) / f"complete{target.suffix}"
            write(complete)
            with complete.open("rb") as source, target.open("wb") as sink:
                shutil.copyfileobj(source, sink)
        return target
    temporary = target.with_name(f".lrsearch-{secrets.token_hex(8)}{target.suffix}")
    try:
        # The mode of any new file, as the system makes them, or that of the old one.
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        if there is not None:
            if not os.access(target, os.W_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(target))
            temporary.chmod(stat.S_IMODE(there.st_mode))
        write(temporary)
        temporary.replace(target)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename is not None:
            # A name that is gone tells nothing.
            error.filename, error.filename2 = str(target), None
        raise
    return target


def _status(path: Path) -> os.stat_result | None:
    """Return what is there, not following links; ``None`` where there is nothing."""
    try:
        return path.lstat()
    except FileNotFoundError:
        return None


def _replaceable(there: os.stat_result, folder: Path) -> bool:
    """Whether a new file can take its place and is the same to all: one name, and our own."""
    if stat.S_ISDIR(there.st_mode):
        return True  # which will say that it is a folder
    ours = not hasattr(os, "geteuid") or there.st_uid == os.geteuid()
    plain = stat.S_ISREG(there.st_mode) and there.st_nlink == 1
    return plain and ours and os.access(folder, os.W_OK)


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
        status = _named(Status, content["status"])
        return Outcome(
            **_answer(content, status),
            status=status,
            why=_typed(str, content["why"]),
            rule=_typed(str, content["rule"]),
            multipliers=_multipliers(content["multipliers"]),
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


def _answer(content: Mapping[str, Any], status: Status) -> dict[str, float]:
    """Return the learning rate and its interval; they must be usable when there is an answer."""
    answer = {name: _float(content[name]) for name in ("lr", "low", "high")}
    if status.found:
        for name, value in answer.items():
            positive(name, value)
        if answer["low"] > answer["high"]:
            raise InvalidArgument.of("low", answer["low"], f"at most high={answer['high']!r}")
    return answer


def _multipliers(value: object) -> tuple[float, ...]:
    multipliers = _floats(value)
    if not any(multipliers) or not all(0.0 <= one < math.inf for one in multipliers):
        raise InvalidArgument.of("multipliers", multipliers, "numbers >= 0, one of them above 0")
    return multipliers


def _curve_from_plain(content: Mapping[str, Any]) -> Curve:
    pairs = _typed(list, _typed(dict, content)["evaluations"])
    lrs = _floats(content["lr"])
    if not all(0.0 <= lr < math.inf for lr in lrs):
        raise InvalidArgument.of("curve.lr", lrs, "finite numbers >= 0")
    return Curve(
        lr=lrs,  # type: ignore[arg-type]
        loss=_floats(content["loss"]),  # type: ignore[arg-type]
        stop=_named(Stop, content["stop"]),
        lane=_whole(content["lane"]),
        evaluations=tuple((_whole(step), _float(loss)) for step, loss in pairs),
        parts=_floats(content.get("parts", [])),
        role=_typed(str, content["role"]),
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
