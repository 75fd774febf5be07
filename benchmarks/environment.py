"""Where and with what a benchmark was run, for the JSON it writes."""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import pathlib
import platform

CPUINFO = pathlib.Path("/proc/cpuinfo")


def environment(*packages: str) -> dict[str, object]:
    """Date, Python, processor and the versions of ``packages``; None where one is not installed.

    Example:
        >>> environment("numpy")["versions"]["numpy"] is not None
        True
    """
    return {
        "date": datetime.date.today().isoformat(),
        "python": platform.python_version(),
        "system": platform.system(),
        "processor": processor(),
        "cores": os.cpu_count(),
        "versions": {package: version(package) for package in packages},
    }


def version(package: str) -> str | None:
    """The installed version of a distribution, or None."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def processor() -> str:
    """The processor's name as the system gives it."""
    if CPUINFO.exists():
        for line in CPUINFO.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
