"""The Python about Lightning in docs/integrations.md runs as it stands."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "integrations.md"
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), flags=re.DOTALL)
# Lightning's own: pytrees of torch 2.13, advice on worker processes, a GPU left alone.
QUIET = (
    "error",
    "ignore:`isinstance(treespec, LeafSpec)` is deprecated",
    "ignore:The 'train_dataloader' does not have many workers",
    "ignore:GPU available but not used",
)


def run(code: str, folder: Path) -> str:
    script = folder / "example.py"
    script.write_text(code, "utf-8")
    switches = [part for text in QUIET for part in ("-W", text)]
    done = subprocess.run(
        [sys.executable, *switches, script.name], cwd=folder, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert [path.name for path in folder.iterdir()] == ["example.py"]
    return done.stdout


def test_the_examples_run_one_after_the_other(tmp_path: Path) -> None:
    call, callback = (code for code in BLOCKS if "lrsearch.integrations.lightning" in code)
    stdout = run(f"{call}\n{callback}", tmp_path)
    assert "short versions of your run" in stdout
    found = stdout[stdout.rindex("{") : stdout.rindex("}")]
    assert re.match(r"\{0: 0\.\d+, 261: \S+", found), found
