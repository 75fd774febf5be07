"""Where the small benchmarks keep their JSON."""

from __future__ import annotations

import json
import pathlib
from typing import Any

FOLDER = pathlib.Path(__file__).parent / "results"


def write_json(name: str, content: dict[str, Any], folder: pathlib.Path = FOLDER) -> str:
    """Write ``content`` to ``<folder>/<name>.json``, whole or not at all; return its name."""
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / f"{name}.part"
    temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    path = folder / f"{name}.json"
    temporary.replace(path)
    return path.name


def read_json(name: str, folder: pathlib.Path = FOLDER) -> dict[str, Any]:
    """Return what :func:`write_json` wrote."""
    content: dict[str, Any] = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
    return content
