"""The README's Python runs as it stands, and what it says about commands is so."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

README = Path(__file__).parents[1] / "README.md"
BLOCKS = re.findall(r"```python\n(.*?)```", README.read_text("utf-8"), flags=re.DOTALL)


@pytest.mark.parametrize("code", BLOCKS, ids=range(len(BLOCKS)))
def test_python_example_runs_when_pasted_into_a_file(code: str, tmp_path: Path) -> None:
    script = tmp_path / "example.py"
    script.write_text(code, "utf-8")
    done = subprocess.run(
        [sys.executable, "-W", "error", script.name], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "rule 'default' reads" in done.stdout
    assert {path.name for path in tmp_path.iterdir()} == {
        "example.py",
        "digits.png",
        "digits.json",
    }


def test_there_is_an_example() -> None:
    assert BLOCKS


@pytest.mark.parametrize("link", sorted(set(re.findall(r"\]\(([^)#:]+)\)", README.read_text()))))
def test_links_lead_to_files(link: str) -> None:
    assert (README.parent / link).exists()
