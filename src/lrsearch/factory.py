"""Read ``FILE.py:FACTORY``: a user's function that returns what ``find_lr`` takes."""

from __future__ import annotations

import difflib
import importlib.util
import inspect
import sys
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from lrsearch.errors import InvalidArgument

__all__ = ["arguments_from"]

_EXAMPLE = "FILE.py:FACTORY, for example train.py:make"
_TUPLE = ("model", "optimizer", "loss_fn", "train_loader")
_REQUIRED = ("model", "optimizer", "train_loader")


def arguments_from(address: str) -> dict[str, Any]:
    """Call the factory at ``address`` and return keyword arguments for :func:`find_lr`.

    The file is run as a module, with its folder on ``sys.path`` as if it were a script; code
    under ``if __name__ == "__main__"`` is not run. The function is called without arguments.

    Args:
        address: ``FILE.py:FACTORY``. The function returns a mapping of :func:`find_lr`'s
            arguments, or a tuple ``(model, optimizer, loss_fn, train_loader)``.

    Raises:
        InvalidArgument: the file or the function is missing, one of them raises (the error is
            the cause), or the function returns something else.
    """
    file, name = _parts(address)
    factory = getattr(_module(file), name, None)
    if factory is None:
        raise InvalidArgument(f"{address}: {file.name} defines no {name!r}. Expected {_EXAMPLE}.")
    if not callable(factory):
        raise InvalidArgument.of(address, factory, "a function that takes no arguments")
    return _checked(address, _run(factory, address, file))


def _parts(address: str) -> tuple[Path, str]:
    path, _, name = address.rpartition(":")
    if not path or not name.isidentifier():
        raise InvalidArgument.of("factory", address, _EXAMPLE)
    file = Path(path)
    if not file.is_file():
        raise InvalidArgument(f"{path}: there is no such file. Expected {_EXAMPLE}.")
    if file.suffix != ".py":
        raise InvalidArgument.of("factory", path, f"a Python file, as in {_EXAMPLE}")
    return file.resolve(), name


def _module(file: Path) -> ModuleType:
    # Under its own name, so that worker processes of a data loader can import it again.
    name = file.stem if file.stem not in sys.modules else f"lrsearch_factory_{file.stem}"
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None, "a file that ends in .py has a loader"
    loader = spec.loader
    assert loader is not None, "a file that ends in .py has a loader"
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(file.parent))
    sys.modules[name] = module
    try:
        _run(lambda: loader.exec_module(module), str(file), file)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _run(call: Callable[[], Any], what: str, file: Path) -> Any:
    """Make the user's call; show where in the user's own file it failed."""
    try:
        return call()
    except (Exception, SystemExit) as error:
        trace = error.__traceback__
        while trace is not None and trace.tb_frame.f_code.co_filename != str(file):
            trace = trace.tb_next
        shown = "".join(traceback.format_exception(type(error), error, trace))
        kind = type(error).__name__
        raise InvalidArgument(f"{what} raised {kind}: {error}\n\n{shown}") from error


def _checked(address: str, made: object) -> dict[str, Any]:
    from lrsearch.find import find_lr

    if isinstance(made, tuple) and len(made) == len(_TUPLE):
        made = dict(zip(_TUPLE, made, strict=True))
    if not isinstance(made, Mapping):
        shown = f"a tuple of {len(made)}" if isinstance(made, tuple) else made
        expected = f"a mapping of find_lr's arguments, or ({', '.join(_TUPLE)})"
        raise InvalidArgument.of(f"{address} returned", shown, expected)
    known = list(inspect.signature(find_lr).parameters)
    for name in made:
        if name not in known:
            close = difflib.get_close_matches(str(name), known, n=1)
            hint = f"Did you mean {close[0]!r}?" if close else f"Known: {', '.join(known)}."
            raise InvalidArgument(f"{address}: find_lr has no argument {name!r}. {hint}")
    missing = [name for name in _REQUIRED if name not in made]
    if missing:
        raise InvalidArgument(f"{address}: the mapping lacks {', '.join(map(repr, missing))}.")
    return {"loss_fn": None, **made}
