"""Every example in every docstring is run, and says what it says."""

from __future__ import annotations

import doctest
import importlib
import importlib.util
import pkgutil
from pathlib import Path

import pytest

import lrsearch

# Packages that a plain installation lacks. A module may only fail to import for want of
# one of these, and then its test says so.
OPTIONAL = ("torch", "sklearn", "lightning", "pytorch_lightning", "transformers", "accelerate")
MODULES = sorted(
    ["lrsearch", *(found.name for found in pkgutil.walk_packages(lrsearch.__path__, "lrsearch."))]
)


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_in_the_docstrings_are_true(name: str) -> None:
    try:
        module = importlib.import_module(name)
    except ImportError as error:
        missing = (getattr(error, "name", None) or "").partition(".")[0]
        if missing in OPTIONAL and importlib.util.find_spec(missing) is None:
            pytest.skip(f"{name} needs {missing}, which is not installed")
        raise
    result = doctest.testmod(
        module, optionflags=doctest.NORMALIZE_WHITESPACE | doctest.FAIL_FAST, report=True
    )
    assert result.failed == 0


def test_no_module_is_overlooked() -> None:
    root = Path(lrsearch.__file__).parent
    files = {
        ".".join(("lrsearch", *path.relative_to(root).with_suffix("").parts))
        for path in root.rglob("*.py")
    }
    assert {name.removesuffix(".__init__") for name in files} == set(MODULES)


@pytest.mark.parametrize("name", [name for name in MODULES if name.startswith("lrsearch.core.")])
def test_every_module_of_the_core_imports_without_any_optional_package(name: str) -> None:
    assert importlib.import_module(name).__doc__
