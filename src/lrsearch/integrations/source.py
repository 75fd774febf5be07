"""Where in a user's own code a learning rate is set."""

from __future__ import annotations

import ast
import inspect
import textwrap
from typing import Any

from lrsearch.pytorch.schedulers import place_of

__all__ = ["line_that_sets"]


def line_that_sets(function: Any, schedulers: tuple[Any, ...] = ()) -> str:
    """Return the line that a learning rate comes from, as ``file:line: code``.

    That is a scheduler's formula, where one is not torch's; else the first number that the
    function gives to an argument named after a learning rate; else the function itself.

    Args:
        function: the user's function that makes optimizer and schedulers.
        schedulers: those that follow no optimizer.
    """
    for scheduler in schedulers:
        if place := place_of(scheduler):
            return f"{place}: {type(scheduler).__name__} computes it"
    try:
        lines, first = inspect.getsourcelines(inspect.unwrap(function))
        file = inspect.getsourcefile(inspect.unwrap(function))
        tree = ast.parse(textwrap.dedent("".join(lines)))
    except (OSError, TypeError, SyntaxError):
        return getattr(function, "__qualname__", repr(function))
    found = min((at for node in ast.walk(tree) if (at := _literal(node))), default=1)
    return f"{file}:{first + found - 1}: {lines[found - 1].strip()}"


def _literal(node: ast.AST) -> int:
    """Return the line of a number for a learning rate in this node, 0 when there is none."""
    pairs: list[tuple[Any, Any]] = []
    if isinstance(node, ast.Call):
        pairs = [(keyword.arg, keyword.value) for keyword in node.keywords]
    elif isinstance(node, ast.Dict):
        pairs = [
            (getattr(key, "value", None), value)
            for key, value in zip(node.keys, node.values, strict=True)
        ]
    elif isinstance(node, ast.Assign):
        pairs = [(getattr(target, "id", None), node.value) for target in node.targets]
    for name, value in pairs:
        words = str(name).lower().split("_")
        if ("lr" in words or "learning" in words) and _is_number(value):
            return int(value.lineno)
    return 0


def _is_number(node: Any) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, (int, float))
