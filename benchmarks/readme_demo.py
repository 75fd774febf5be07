"""Run ``lrsearch demo`` and put what it prints and draws into the README."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.markdown import ROOT, write_between_markers


def main() -> None:
    """Entry point of ``python -m benchmarks.readme_demo``."""
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [sys.executable, "-m", "lrsearch.cli", "demo"],
            cwd=folder,
            env={**os.environ, "COLUMNS": "84", "NO_COLOR": "1"},
            capture_output=True,
            text=True,
            check=True,
        )
        shutil.copy(Path(folder) / "lrsearch-demo" / "digits.png", ROOT / "docs/images/digits.png")
    text = "\n".join(line.rstrip() for line in done.stdout.strip().splitlines())
    write_between_markers(ROOT / "README.md", "demo", f"```text\n{text}\n```")
    print(text)


if __name__ == "__main__":
    main()
