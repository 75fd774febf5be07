"""The README's Python runs as it stands, and what it says about commands is so."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

README = Path(__file__).parents[1] / "README.md"
FIRST, *TRAINERS = re.findall(r"```python\n(.*?)```", README.read_text("utf-8"), flags=re.DOTALL)


def run(code: str, folder: Path, *options: str) -> str:
    script = folder / "example.py"
    script.write_text(code, "utf-8")
    command = [sys.executable, *options, script.name]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_first_example_runs_when_pasted_into_a_file(tmp_path: Path) -> None:
    stdout = run(FIRST, tmp_path, "-W", "error")
    assert re.search(r"runs of 2\d steps from the same start", stdout)
    assert {path.name for path in tmp_path.iterdir()} == {
        "example.py",
        "digits.png",
        "digits.json",
    }


@pytest.mark.parametrize("code", TRAINERS, ids=["transformers", "lightning"])
def test_the_examples_of_trainers_run_when_pasted_into_a_file(code: str, tmp_path: Path) -> None:
    assert "short versions of your run" in run(code, tmp_path)


@pytest.mark.parametrize("link", sorted(set(re.findall(r"\]\(([^)#:]+)\)", README.read_text()))))
def test_links_lead_to_files(link: str) -> None:
    assert (README.parent / link).exists()
