"""The Python of docs/integrations.md runs, and its links lead somewhere."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "integrations.md"
TEXT = PAGE.read_text("utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", TEXT, flags=re.DOTALL)

ACCELERATED = """
import lrsearch, torch
from accelerate import Accelerator
accelerator = Accelerator(cpu=True)
class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = torch.nn.Linear(2, 1)
    def forward(self, x):
        return {"loss": (self.inner(x) - x.sum(1, keepdim=True)).square().mean()}
model = Net()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
loader = torch.utils.data.DataLoader(torch.linspace(-1.0, 1.0, 32).reshape(16, 2), batch_size=4)
"""


def run(code: str, folder: Path) -> str:
    script = folder / "example.py"
    script.write_text(code, "utf-8")
    done = subprocess.run(
        [sys.executable, "-W", "error", script.name], cwd=folder, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def block(word: str) -> str:
    (found,) = (code for code in BLOCKS if word in code)
    return found


def test_the_trainer_example_runs_when_pasted_into_a_file(tmp_path: Path) -> None:
    stdout = run(block("find_lr_for(trainer)\n"), tmp_path)
    assert "short versions of your run" in stdout
    assert "train_loss" in stdout


def test_the_callback_example_runs_after_it(tmp_path: Path) -> None:
    trainer, _ = block("find_lr_for(trainer)\n").split("result = ")
    stdout = run(trainer + block("Callback"), tmp_path)
    assert "train_loss" in stdout


def test_the_accelerate_example_runs(tmp_path: Path) -> None:
    code = block("accelerator.prepare").replace("1000", "200")
    run(f"{ACCELERATED}\n{code}\nassert optimizer.param_groups[0]['lr'] == result.lr", tmp_path)


@pytest.mark.parametrize("link", sorted(set(re.findall(r"\]\(([^)#:]+)\)", TEXT))))
def test_links_lead_to_files(link: str) -> None:
    assert (PAGE.parent / link).exists()
