"""The house: four floors, imports only downwards, short files and functions, quiet code."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import lrsearch

ROOT = Path(lrsearch.__file__).parent

# The floor of every room: the first part of a module's name below the package.
FLOORS = {
    "errors": 1,
    "_version": 1,
    "core": 1,
    "methods": 2,
    "report": 2,
    "pytorch": 2,
    "runners": 2,
    "hand_over": 3,
    "result": 3,
    "find": 3,
    "factory": 3,
    "demos": 3,
    "tutorial": 3,
    "integrations": 3,
    "testing": 3,
    "cli": 4,
    "__init__": 4,
    "__main__": 4,
}
TORCH_ROOMS = {"pytorch", "integrations", "demos"}
LONGEST_FUNCTION = 70


def module_name(path: Path) -> str:
    return ".".join(("lrsearch", *path.relative_to(ROOT).with_suffix("").parts))


FILES = {module_name(path): path for path in sorted(ROOT.rglob("*.py"))}
TREES = {name: ast.parse(path.read_text("utf-8")) for name, path in FILES.items()}
every_module = pytest.mark.parametrize("name", FILES)


def room(name: str) -> str:
    return name.split(".")[1] if "." in name else "__init__"


def imports(name: str, *, typing_too: bool = True) -> Iterator[str]:
    """Every module that a module names in an import, wherever the import stands."""
    package = name.split(".")[:-1]
    hidden = set() if typing_too else set(_typing_only(TREES[name]))
    for node in ast.walk(TREES[name]):
        if node in hidden:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            for alias in node.names:
                full = f"{module}.{alias.name}"
                yield full if full in FILES or f"{full}.__init__" in FILES else module


def _typing_only(tree: ast.Module) -> Iterator[ast.AST]:
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            for child in node.body:
                yield from ast.walk(child)


def functions(name: str) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(TREES[name]):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield node


# ------------------------------------------------------------------------------------ floors


@every_module
def test_every_module_lives_on_a_floor(name: str) -> None:
    assert room(name) in FLOORS, f"give {room(name)!r} a floor here and in docs"


@every_module
def test_nothing_imports_from_a_floor_above_even_inside_a_function(name: str) -> None:
    ours = (other for other in imports(name) if other.split(".")[0] == "lrsearch")
    above = [other for other in ours if FLOORS[room(other)] > FLOORS[room(name)]]
    assert above == []


@every_module
def test_rooms_of_the_second_floor_do_not_know_each_other(name: str) -> None:
    if FLOORS[room(name)] != 2:
        return
    ours = (other for other in imports(name) if other.split(".")[0] == "lrsearch")
    beside = {room(other) for other in ours if FLOORS[room(other)] == 2}
    assert beside <= {room(name)}


def test_no_module_imports_itself_in_a_circle() -> None:
    known = {name.removesuffix(".__init__"): name for name in FILES}
    edges = {
        name: {known[other] for other in imports(name, typing_too=False) if other in known}
        for name in FILES
        if name != "lrsearch.__init__"  # loads names lazily, for those outside
    }
    done: set[str] = set()

    def visit(name: str, trail: tuple[str, ...]) -> None:
        assert name not in trail, " -> ".join((*trail[trail.index(name) :], name))
        if name not in done:
            for other in edges.get(name, set()) - {name}:
                visit(other, (*trail, name))
            done.add(name)

    for name in FILES:
        visit(name, ())


# -------------------------------------------------------------------------- other people's code


@every_module
def test_the_first_floor_needs_numpy_and_the_standard_library_only(name: str) -> None:
    if FLOORS[room(name)] > 1:
        return
    packages = {other.split(".")[0] for other in imports(name)}
    assert packages <= {*sys.stdlib_module_names, "numpy", "lrsearch"}


@every_module
def test_torch_is_imported_only_where_the_users_model_is_touched(name: str) -> None:
    if room(name) in TORCH_ROOMS:
        return
    if room(name) in {"find", "result"}:
        # The front door names torch's types, and hands over to its schedulers when asked.
        at_import = [node for node in TREES[name].body if not isinstance(node, ast.If)]
        nodes = [node for node in at_import if isinstance(node, (ast.Import, ast.ImportFrom))]
        assert all("torch" not in ast.unparse(node) for node in nodes)
        return
    assert "torch" not in {other.split(".")[0] for other in imports(name)}


@every_module
def test_nothing_touches_pyplot_and_its_windows(name: str) -> None:
    assert not any(other.startswith("matplotlib.pyplot") for other in imports(name))


def test_importing_the_package_loads_neither_torch_nor_matplotlib() -> None:
    code = (
        "import sys, lrsearch; dir(lrsearch)\n"
        "heavy = ('torch', 'matplotlib', 'matplotlib.pyplot', 'rich', 'sklearn', 'numpy')\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_the_core_and_the_methods_load_neither_torch_nor_matplotlib() -> None:
    names = [name for name in FILES if room(name) in {"core", "methods", "errors"}]
    code = (
        f"import sys, importlib\nfor name in {names!r}: importlib.import_module(name)\n"
        "print([name for name in ('torch', 'matplotlib', 'rich') if name in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_every_public_name_can_be_had_and_the_list_is_sorted() -> None:
    assert list(lrsearch.__all__) == sorted(lrsearch.__all__)
    for name in lrsearch.__all__:
        assert getattr(lrsearch, name) is not None
    assert set(lrsearch.__all__) <= set(dir(lrsearch))
    with pytest.raises(AttributeError, match="no attribute 'find_learning_rate'"):
        lrsearch.find_learning_rate  # noqa: B018


# ------------------------------------------------------------------------------ size and quiet


@every_module
def test_no_function_is_long(name: str) -> None:
    long = {}
    for function in functions(name):
        first = function.body[0]
        docstring = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
        told = (first.end_lineno or 0) - first.lineno + 1 if docstring else 0
        lines = (function.end_lineno or 0) - function.lineno + 1 - told
        if lines > LONGEST_FUNCTION:
            long[function.name] = lines
    assert long == {}


@every_module
def test_only_the_command_line_prints(name: str) -> None:
    if room(name) in {"cli", "__main__"}:
        return
    calls = (node for node in ast.walk(TREES[name]) if isinstance(node, ast.Call))
    lines = [
        call.lineno
        for call in calls
        if isinstance(call.func, ast.Name) and call.func.id in {"print", "breakpoint"}
    ]
    assert lines == []


@every_module
def test_every_module_says_what_it_is_for(name: str) -> None:
    assert ast.get_docstring(TREES[name])
