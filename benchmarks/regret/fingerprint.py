"""A hash of a function and everything it uses in this benchmark, blind to comments and layout.

One oracle costs minutes, so it must expire when its task changes and only then: the hash covers
the syntax trees of the function and of every function, class and constant of the benchmark that
it reaches, without docstrings. Editing one task leaves the oracles of its neighbours valid.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib.util
import pathlib
from collections.abc import Callable
from typing import Any

PACKAGE = "benchmarks."

Definition = ast.stmt
Names = dict[str, list[Definition]]


def fingerprint(*functions: Callable[..., Any]) -> str:
    """Hash of the source of `functions`, plain functions of this benchmark, as 12 hex digits."""
    pending = [(function.__module__, function.__qualname__) for function in functions]
    seen: set[tuple[str, str]] = set()
    digest = hashlib.sha256()
    while pending:
        module, name = pending.pop(0)
        if (module, name) in seen:
            continue
        seen.add((module, name))
        for node in _definitions(module)[name]:
            if isinstance(node, ast.ImportFrom):
                if node.module is not None and node.module.startswith(PACKAGE):
                    pending.append((node.module, _original(node, name)))
                continue
            digest.update(f"{name}={_outline(node)};".encode())
            pending += [(module, used) for used in _used(node) if used in _definitions(module)]
    return digest.hexdigest()[:12]


@functools.cache
def _definitions(module: str) -> Names:
    """Statements at module level by the name that they bind."""
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        raise ValueError(f"cannot fingerprint {module!r}: it has no source file")
    names: Names = {}
    for node in ast.parse(pathlib.Path(spec.origin).read_text(encoding="utf-8")).body:
        for name in _bound(node):
            names.setdefault(name, []).append(node)
    return names


def _bound(node: ast.stmt) -> list[str]:
    if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
        return [node.name]
    if isinstance(node, ast.ImportFrom):
        return [alias.asname or alias.name for alias in node.names]
    if isinstance(node, (ast.Assign, ast.AnnAssign)):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        return [name for target in targets for name in _used(target)]
    return []


def _original(node: ast.ImportFrom, name: str) -> str:
    return next(alias.name for alias in node.names if (alias.asname or alias.name) == name)


def _used(node: ast.AST) -> list[str]:
    """Names read anywhere inside, in order of appearance, each once."""
    found = [inner.id for inner in ast.walk(node) if isinstance(inner, ast.Name)]
    return list(dict.fromkeys(found))


def _outline(node: Any) -> str:
    """The syntax tree as text. Empty fields are left out: Python's versions differ in them."""
    if isinstance(node, list):
        return "[" + ",".join(_outline(item) for item in node if not _is_docstring(item)) + "]"
    if not isinstance(node, ast.AST):
        return repr(node)
    skipped = ("ctx", "returns", "annotation", "type_comment", "kind")
    fields = [
        f"{key}={_outline(value)}"
        for key, value in ast.iter_fields(node)
        if key not in skipped and value is not None and value != []
    ]
    return f"{type(node).__name__}({','.join(fields)})"


def _is_docstring(node: Any) -> bool:
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )
