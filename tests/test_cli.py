"""The command line, as it is used: in this process where it can be, else in a real one."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import lrsearch
from lrsearch.cli import main

ROOT = Path(__file__).parents[1]

FACTORY = """
import torch
from torch import nn

def parts():
    torch.manual_seed(0)
    x = torch.randn(256, 4)
    data = [(x[i:i + 32], x[i:i + 32].sum(1, keepdim=True)) for i in range(0, 256, 32)]
    model = nn.Sequential(nn.Linear(4, 16), nn.Tanh(), nn.Linear(16, 1))
    return model, torch.optim.SGD(model.parameters(), lr=0.1), nn.MSELoss(), data

def as_tuple():
    return parts()

def make():
    print("printed by the factory")
    model, optimizer, loss_fn, data = parts()
    return {"model": model, "optimizer": optimizer, "loss_fn": loss_fn, "train_loader": data}

def flat():
    made = make()
    made["compute_loss"] = lambda model, batch: 1.0 + 0.0 * sum(p.sum() for p in model.parameters())
    del made["loss_fn"]
    return made

def wide():
    return {**make(), "method": "sweep", "train_steps": 5, "min_lr": 1e-4, "max_lr": 1e-2}

def settings():
    import lrsearch
    return {**make(), "method": lrsearch.RangeTest(steps=30)}

def raises():
    raise ValueError("no [data] today")

def leaves():
    raise SystemExit(0)

def number():
    return 7

def three():
    return parts()[:3]

def typo():
    return {**make(), "loss_fun": None}

def lacks():
    made = make()
    del made["optimizer"], made["train_loader"]
    return made

def bad_bounds():
    return {**make(), "min_lr": 1.0, "max_lr": 0.5}

def empty():
    return {**make(), "train_loader": []}

def bad_step():
    def loss(model, batch):
        raise RuntimeError("inside the user's loss")
    return {**make(), "compute_loss": loss}

constant = 3
"""


@pytest.fixture
def factory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    file = tmp_path / "user_training.py"
    file.write_text(FACTORY, "utf-8")
    monkeypatch.setattr(sys, "path", sys.path.copy())
    before = set(sys.modules)
    yield file
    for name in set(sys.modules) - before:
        if "user_training" in name:
            del sys.modules[name]


def run(*arguments: object) -> int:
    """Exit code of the command line, in this process."""
    with pytest.raises(SystemExit) as left:
        main([str(argument) for argument in arguments])
    assert left.value.code is None or isinstance(left.value.code, int)
    return left.value.code or 0


def shell(*arguments: object, program: str | None = None) -> subprocess.CompletedProcess[str]:
    """The command line in a fresh interpreter."""
    start = ["-m", "lrsearch.cli"] if program is None else ["-c", program]
    words = [sys.executable, *start, *(str(argument) for argument in arguments)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(words, capture_output=True, text=True, env=environment, check=False)


class TestFind:
    @pytest.mark.parametrize("name", ["make", "as_tuple"])
    def test_a_mapping_and_a_tuple_give_an_answer(
        self, name: str, factory: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert run("find", f"{factory}:{name}") == 0
        assert "FOUND" in capsys.readouterr().out

    def test_json_is_all_there_is_on_standard_output(self, factory: Path) -> None:
        done = shell("find", f"{factory}:make", "--json")
        assert done.returncode == 0
        assert json.loads(done.stdout)["status"] == "FOUND"
        assert "printed by the factory" in done.stderr

    def test_nothing_is_written_unless_asked(
        self, factory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        here = tmp_path / "here"
        here.mkdir()
        monkeypatch.chdir(here)
        assert run("find", f"{factory}:make") == 0
        assert list(here.iterdir()) == []

    def test_out_gets_the_plot_and_the_result(self, factory: Path, tmp_path: Path) -> None:
        out = tmp_path / "new" / "folder"
        assert run("find", f"{factory}:make", "--out", out) == 0
        assert sorted(path.name for path in out.iterdir()) == ["make.json", "make.png"]
        assert lrsearch.Result.from_json(out / "make.json").status.found

    def test_without_an_answer_the_exit_code_is_3_and_the_files_are_written(
        self, factory: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert run("find", f"{factory}:flat", "--out", tmp_path / "o", "--json") == 3
        assert json.loads(capsys.readouterr().out)["status"] == "NO_EFFECT"
        assert (tmp_path / "o" / "flat.png").is_file()
        read = lrsearch.Result.from_json(tmp_path / "o" / "flat.json")
        assert read.status is lrsearch.Status.NO_EFFECT

    def test_options_win_over_the_mapping(
        self, factory: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        options = ["--train-steps", 4, "--max-lr", 1e-3, "--schedule", "linear", "--seed", 5]
        assert run("find", f"{factory}:wide", *options, "--json") in (0, 3)
        read = json.loads(capsys.readouterr().out)
        assert read["settings"]["method"] == "sweep"
        assert read["settings"]["schedule"] == "linear"
        assert read["settings"]["seed"] == 5
        assert {len(curve["lr"]) for curve in read["curves"]} == {4}
        assert max(curve["lr"][0] for curve in read["curves"]) == 1e-3

    def test_a_warmup_composes_with_a_schedule(
        self, factory: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        options = ["--train-steps", 8, "--schedule", "linear", "--warmup-steps", 3]
        assert run("find", f"{factory}:wide", *options, "--json") in (0, 3)
        read = json.loads(capsys.readouterr().out)
        assert "after a warmup" in read["settings"]["schedule"]
        lrs = read["curves"][0]["lr"]
        assert lrs[:4] == pytest.approx([lrs[3] * share for share in (0.25, 0.5, 0.75, 1.0)])

    def test_a_scheduler_in_the_mapping_is_the_schedule(
        self, factory: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        with factory.open("a", encoding="utf-8") as file:
            file.write(
                "\n\ndef scheduled():\n"
                "    made = wide()\n"
                "    decay = torch.optim.lr_scheduler.ExponentialLR(made['optimizer'], 0.5)\n"
                "    return {**made, 'train_steps': 4, 'schedule': decay}\n"
            )
        assert run("find", f"{factory}:scheduled", "--json") in (0, 3)
        lrs = json.loads(capsys.readouterr().out)["curves"][0]["lr"]
        assert lrs == pytest.approx([lrs[0] * share for share in (1, 0.5, 0.25, 0.125)])

    def test_steps_and_bounds_shape_the_range_test(
        self, factory: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        bounds = ["--min-lr", 1e-4, "--max-lr", 1.0]
        run("find", f"{factory}:make", "--steps", 30, *bounds, "--json")
        (curve,) = json.loads(capsys.readouterr().out)["curves"]
        assert curve["lr"][0] == 1e-4
        assert len(curve["lr"]) <= 30

    def test_steps_with_another_method_is_a_usage_error(
        self, factory: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert run("find", f"{factory}:wide", "--steps", 30) == 2
        assert "--steps is for the range test" in capsys.readouterr().err

    def test_the_example_in_the_repository_works(self, tmp_path: Path) -> None:
        done = shell("find", f"{ROOT / 'examples' / 'factory.py'}:make", "--out", tmp_path)
        assert done.returncode == 0, done.stderr
        assert "FOUND" in done.stdout
        assert (tmp_path / "make.png").is_file()

    def test_the_users_own_error_keeps_its_traceback(self, factory: Path) -> None:
        done = shell("find", f"{factory}:bad_step")
        assert done.returncode == 1
        assert 'raise RuntimeError("inside the user\'s loss")' in done.stderr

    def test_ctrl_c_ends_with_130_and_a_short_message(self, tmp_path: Path) -> None:
        file = tmp_path / "slow.py"
        slow = """
import sys, time
def make():
    print("ready", file=sys.stderr, flush=True)
    time.sleep(60)
"""
        file.write_text(slow, "utf-8")
        words = [sys.executable, "-m", "lrsearch.cli", "find", f"{file}:make"]
        # A shell's background jobs inherit an ignored SIGINT, and the test may run in one.
        with subprocess.Popen(
            words,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        ) as process:
            assert process.stderr is not None
            assert process.stderr.readline() == "ready\n"
            process.send_signal(signal.SIGINT)
            assert process.wait(30) == 130
            assert process.stderr.read().strip() == "Interrupted."


class TestOptions:
    """Every argument of find_lr that is a plain value can be given here."""

    def test_the_words_that_are_allowed_are_those_of_find_lr(self) -> None:
        from lrsearch import cli, find
        from lrsearch.core.schedule import SHAPES
        from lrsearch.pytorch.store import PLACES

        assert ("auto", *find._METHODS) == cli._METHODS
        assert tuple(SHAPES) == cli._SCHEDULES
        options = {option.name: option for option in cli.find.params}
        assert tuple(options["snapshot_to"].type.choices) == PLACES  # type: ignore[attr-defined]

    def test_a_race_with_its_budget_and_bounds(
        self, factory: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        options = ["--method", "race", "--train-steps", 40, "--budget", 0.5, "--max-lr", 0.05]
        run("find", f"{factory}:make", *options, "--json")
        read = json.loads(capsys.readouterr().out)
        assert read["settings"]["method"] == "race"
        assert "budget=0.5" in read["settings"]["method_settings"]
        assert "max_lr=0.05" in read["settings"]["method_settings"]

    def test_bounds_go_into_the_settings_that_the_factory_gave(
        self, factory: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        run("find", f"{factory}:settings", "--min-lr", 1e-4, "--json")
        read = json.loads(capsys.readouterr().out)
        assert "steps=30, min_lr=0.0001" in read["settings"]["method_settings"]

    def test_how_updates_are_made(
        self, factory: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        options = ["--accumulate", 2, "--clip-grad-norm", 1.0, "--clip-grad-value", 0.5]
        options += ["--autocast", "bfloat16", "--snapshot-to", "cpu", "--no-progress"]
        assert run("find", f"{factory}:make", *options, "--out", tmp_path, "--report") == 0
        capsys.readouterr()
        assert (tmp_path / "make.html").is_file()


STREAMS = """
import atexit, os, subprocess, sys
sys.path.insert(0, os.path.dirname(__file__))
from user_training import parts as plain

def by_child():
    subprocess.run(["echo", "from a child"]); return plain()
def by_c():
    os.write(1, b"from C\\n"); return plain()
def at_exit():
    atexit.register(print, "bye"); atexit.register(os.write, 1, b"bye"); return plain()
def kept():
    sys.__stdout__.write("from a logger\\n"); return plain()
def later():
    subprocess.Popen(["sh", "-c", "sleep 0.2; echo late"]); return plain()
class Silent:
    def write(self, text): return len(text)
    def flush(self): pass
def without_isatty():
    sys.stderr = Silent(); return plain()
def closed():
    sys.stderr.close(); return plain()
def broken_backend():
    os.environ["MPLBACKEND"] = "nonsense"; return plain()
"""


def piped(script: str, *, cwd: Path) -> subprocess.CompletedProcess[str]:
    """A shell's command, in which ``$L`` is the command line."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "L": f"{sys.executable} -m lrsearch"}
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", script],
        capture_output=True,
        text=True,
        env=environment,
        cwd=cwd,
        check=False,
    )


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="streams as POSIX has them")
class TestStreams:
    @pytest.fixture
    def folder(self, factory: Path) -> Path:
        (factory.parent / "streams.py").write_text(STREAMS, "utf-8")
        return factory.parent

    @pytest.mark.parametrize(
        "name", ["by_child", "by_c", "at_exit", "kept", "later", "without_isatty", "closed"]
    )
    def test_json_is_alone_whoever_prints(self, name: str, folder: Path) -> None:
        done = piped(f"$L find streams.py:{name} --json", cwd=folder)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["status"] == "FOUND"
        if name == "at_exit":
            assert done.stderr.endswith("byebye\n")

    @pytest.mark.parametrize("name", ["without_isatty", "closed"])
    def test_standard_error_may_be_anything(self, name: str, folder: Path) -> None:
        done = piped(f"$L find streams.py:{name}", cwd=folder)
        assert done.returncode == 0
        assert "FOUND" in done.stdout

    def test_standard_error_may_be_closed_from_the_start(self, folder: Path) -> None:
        done = piped("$L find user_training.py:as_tuple --json 2>&-", cwd=folder)
        assert json.loads(done.stdout)["status"] == "FOUND"

    @pytest.mark.parametrize(
        ("command", "code", "words"),
        [
            ("$L find user_training.py:as_tuple >/dev/full", 1, "No space left on device"),
            ("$L find user_training.py:as_tuple --json >/dev/full", 1, "No space left on device"),
            ("$L --help >/dev/full", 1, "No space left on device"),
            ("$L find user_training.py:as_tuple --json >&-", 1, "it is closed"),
            ("$L find user_training.py:as_tuple --json | true", 1, ""),
            ("$L find user_training.py:as_tuple | true", 1, ""),
            ("$L find user_training.py:as_tuple --seed $((2**62))9999", 2, "seed: got"),
        ],
    )
    def test_output_that_nobody_takes_ends_with_one_line(
        self, command: str, code: int, words: str, folder: Path
    ) -> None:
        done = piped(command, cwd=folder)
        said = done.stderr
        assert done.returncode == code
        assert "Traceback" not in said
        assert words in said
        assert len(said.splitlines()) == bool(words)

    def test_a_broken_backend_for_windows_does_not_matter(self, folder: Path) -> None:
        done = piped("$L find streams.py:broken_backend --out o", cwd=folder)
        assert done.returncode == 0, done.stderr
        assert (folder / "o" / "broken_backend.png").is_file()

    def test_help_explains_the_commands_without_docstrings(self, folder: Path) -> None:
        plain = piped("$L --help; $L find --help", cwd=folder)
        stripped = piped("export PYTHONOPTIMIZE=2; $L --help; $L find --help", cwd=folder)
        assert "Find the learning rate of your own training" in stripped.stdout
        assert stripped.stdout == plain.stdout

    def test_the_cursor_is_there_after_sigterm_and_after_sigkill(self, folder: Path) -> None:
        import pty

        slow = """
import time
from user_training import parts as plain
def make():
    def loss(model, batch):
        time.sleep(0.05); x, y = batch; return ((model(x) - y) ** 2).mean()
    model, optimizer, _, loader = plain()
    return {"model": model, "optimizer": optimizer, "train_loader": loader, "compute_loss": loss}
"""
        (folder / "slow.py").write_text(slow, "utf-8")
        for number, code in ((signal.SIGTERM, 143), (signal.SIGKILL, -9)):
            ours, theirs = pty.openpty()
            words = [sys.executable, "-m", "lrsearch", "find", "slow.py:make"]
            process = subprocess.Popen(
                words, stderr=theirs, stdout=subprocess.DEVNULL, cwd=folder, close_fds=True
            )
            shown = b""
            while b"lane" not in shown:
                shown += os.read(ours, 1000)
            process.send_signal(number)
            assert process.wait(60) == code
            os.set_blocking(ours, False)
            with contextlib.suppress(OSError):
                while more := os.read(ours, 1000):
                    shown += more
            os.close(ours)
            os.close(theirs)
            assert b"\x1b[?25l" not in shown  # the cursor was never hidden


class TestBadFactories:
    @pytest.mark.parametrize(
        ("name", "words"),
        [
            ("nothing", "defines no 'nothing'"),
            ("constant", "got 3, expected a function that takes no arguments"),
            ("raises", "raised ValueError: no [data] today"),
            ("leaves", "raised SystemExit: 0"),
            ("number", "returned: got 7, expected a mapping of find_lr's arguments"),
            ("three", "returned: got 'a tuple of 3', expected a mapping"),
            ("typo", "no argument 'loss_fun'. Did you mean 'loss_fn'?"),
            ("lacks", "the mapping lacks 'optimizer', 'train_loader'"),
            ("bad_bounds", "max_lr: got 0.5, expected more than min_lr=1.0"),
            ("empty", "train_loader: got no batches"),
            ("not a name", "expected FILE.py:FACTORY"),
            ("", "expected FILE.py:FACTORY"),
        ],
    )
    def test_it_is_told_what_is_wrong(
        self, name: str, words: str, factory: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert run("find", f"{factory}:{name}") == 2
        assert words in capsys.readouterr().err

    def test_an_address_without_a_colon(
        self, factory: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert run("find", factory) == 2
        assert "expected FILE.py:FACTORY" in capsys.readouterr().err

    def test_a_missing_file(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert run("find", f"{tmp_path / 'gone.py'}:make") == 2
        assert "gone.py: there is no such file" in capsys.readouterr().err

    def test_a_file_that_is_not_python(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (tmp_path / "train.txt").write_text("", "utf-8")
        assert run("find", f"{tmp_path / 'train.txt'}:make") == 2
        assert "expected a Python file" in capsys.readouterr().err

    @pytest.mark.parametrize(
        ("content", "words"),
        [
            ("def make(:", "raised SyntaxError"),
            ("import no_such_package", "raised ModuleNotFoundError"),
            ("1 / 0", "raised ZeroDivisionError"),
            ("raise SystemExit(0)", "raised SystemExit"),
        ],
    )
    def test_a_file_that_does_not_run(
        self, content: str, words: str, factory: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        factory.write_text(content, "utf-8")
        assert run("find", f"{factory}:make") == 2
        err = capsys.readouterr().err
        assert words in err
        assert content.split("#")[0] in err  # the line where it happened
        assert factory.stem not in sys.modules

    def test_only_the_users_part_of_the_traceback_is_shown(
        self, factory: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert run("find", f"{factory}:raises") == 2
        err = capsys.readouterr().err
        assert 'raise ValueError("no [data] today")' in err
        assert "lrsearch/factory.py" not in err

    def test_the_file_may_import_its_neighbours_and_share_a_name_with_a_module(
        self, factory: Path
    ) -> None:
        (factory.parent / "user_training_data.py").write_text("SIZE = 4", "utf-8")
        twin = factory.parent / "json.py"  # json is imported long since
        twin.write_text("from user_training_data import SIZE\n" + FACTORY, "utf-8")
        assert run("find", f"{twin}:make") == 0
        assert sys.modules["json"] is json
        del sys.modules["lrsearch_factory_json"]

    @pytest.mark.parametrize(
        ("options", "words"),
        [
            (
                ["--method", "magic"],
                "'magic' is not one of 'auto', 'range', 'ladder', 'race', 'sweep'",
            ),
            (["--schedule", "magic"], "'magic' is not one of 'constant', 'linear', 'cosine'"),
            (["--warmup-steps", "3"], "train_steps beside it"),
            (["--autocast", "int8"], "'int8' is not one of 'bfloat16', 'float16'"),
            (["--seed", str(2**70)], "seed: got 1180591620717411303424"),
            (["--budget", "-1"], "Race.budget: got -1.0"),
            (["--budget", "1", "--steps", "20"], "--steps is for the range test and --budget for"),
            (["--method", "sweep", "--budget", "1"], "--budget is for the race"),
            (["--accumulate", "0"], "accumulate: got 0"),
            (["--clip-grad-norm", "nan"], "clip_grad_norm: got nan"),
            (["--report"], "--report needs a folder"),
            (["--steps", "3"], "steps: got 3"),
            (["--min-lr", "-1"], "min_lr: got -1.0"),
            (["--train-steps", "0"], "train_steps: got 0"),
            (["--train-steps", "many"], "'many' is not a valid integer"),
            (["--nonsense"], "No such option"),
        ],
    )
    def test_a_wrong_option(
        self, options: list[str], words: str, factory: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert run("find", f"{factory}:make", *options) == 2
        assert words in capsys.readouterr().err


class TestOut:
    def test_a_folder_below_a_file_is_refused_before_any_training(
        self, factory: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert run("find", f"{factory}:make", "--out", factory / "below") == 2
        captured = capsys.readouterr()
        assert "Not a directory" in captured.err
        assert "printed by the factory" not in captured.out

    @pytest.mark.skipif(
        sys.platform == "win32" or os.geteuid() == 0, reason="needs folder modes that bind"
    )
    def test_a_read_only_folder_is_refused_before_any_training(
        self, factory: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        closed = tmp_path / "closed"
        closed.mkdir(mode=0o500)
        assert run("find", f"{factory}:make", "--out", closed) == 2
        captured = capsys.readouterr()
        assert "Permission denied" in captured.err
        assert "printed by the factory" not in captured.out

    def test_what_was_there_survives_a_failed_write(
        self,
        factory: Path,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        from matplotlib.figure import Figure

        def half(self: Figure, path: Path, **options: object) -> None:
            path.write_bytes(b"half")
            raise OSError(28, "No space left on device")

        out = tmp_path / "out"
        out.mkdir()
        (out / "make.png").write_bytes(b"old")
        monkeypatch.setattr(Figure, "savefig", half)
        assert run("find", f"{factory}:make", "--out", out) == 2
        assert "No space left on device" in capsys.readouterr().err
        assert (out / "make.png").read_bytes() == b"old"
        assert sorted(path.name for path in out.iterdir()) == ["make.json", "make.png"]

    def test_the_answer_is_printed_before_its_files_are_written(
        self, factory: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        out = tmp_path / "out"
        (out / "make.png").mkdir(parents=True)
        assert run("find", f"{factory}:make", "--out", out, "--json") == 2
        captured = capsys.readouterr()
        assert json.loads(captured.out)["status"] == "FOUND"
        assert "make.png" in captured.err


class TestPlotAndReport:
    @pytest.fixture
    def saved(self, tmp_path: Path) -> Path:
        from tests.report.outcomes import broken_line, outcome_of

        lrsearch.Result.from_outcome(outcome_of(broken_line())).to_json(tmp_path / "r.json")
        return tmp_path / "r.json"

    def test_they_write_beside_the_result(self, saved: Path) -> None:
        assert run("plot", saved) == 0
        assert run("report", saved) == 0
        names = sorted(path.name for path in saved.parent.iterdir())
        assert names == ["r.html", "r.json", "r.png"]

    def test_they_write_where_they_are_told(
        self, saved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        for command, name in (("plot", "new/p.svg"), ("report", "new/r.htm")):
            assert run(command, saved, "--out", tmp_path / name) == 0
            assert (tmp_path / name).is_file()
            assert capsys.readouterr().out == f"Wrote {tmp_path / name}\n"

    def test_a_result_without_an_answer_is_drawn_too(self, tmp_path: Path) -> None:
        from tests.report.outcomes import flat

        lrsearch.Result.from_outcome(flat()).to_json(tmp_path / "r.json")
        assert run("plot", tmp_path / "r.json") == 0
        assert (tmp_path / "r.png").is_file()

    def test_an_unknown_ending(self, saved: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert run("plot", saved, "--out", saved.with_name("p.doc")) == 2
        assert "expected a name ending in .png" in capsys.readouterr().err

    @pytest.mark.parametrize("command", ["plot", "report"])
    @pytest.mark.parametrize(
        ("change", "words"),
        [
            (lambda text: text[:100], "not JSON"),
            (lambda text: text.replace('"version": 1', '"version": 99'), "Upgrade lrsearch"),
            (lambda text: text.replace("FOUND", "LOST"), "damaged"),
        ],
    )
    def test_a_damaged_or_newer_result(
        self,
        command: str,
        change: object,
        words: str,
        saved: Path,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        assert callable(change)
        saved.write_text(change(saved.read_text("utf-8")), "utf-8")
        assert run(command, saved) == 2
        err = capsys.readouterr().err
        assert words in err
        assert "r.json" in err
        assert [path.name for path in saved.parent.iterdir()] == ["r.json"]

    @pytest.mark.parametrize("command", ["plot", "report"])
    def test_a_missing_result(
        self, command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert run(command, tmp_path / "none.json") == 2
        assert "No such file" in capsys.readouterr().err

    def test_a_place_that_cannot_be_written(
        self, saved: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert run("report", saved, "--out", saved / "below.html") == 2
        assert "r.json: a folder is needed here" in capsys.readouterr().err


class TestDemo:
    @pytest.mark.slow
    def test_digits_shows_the_answer_beside_smaller_and_larger_ones(self, tmp_path: Path) -> None:
        done = shell("demo", "--out", tmp_path / "out")
        assert done.returncode == 0, done.stderr
        assert "FOUND" in done.stdout
        assert "found, best" in done.stdout
        names = sorted(path.name for path in (tmp_path / "out").iterdir())
        assert names == ["digits.json", "digits.png"]
        for name in names:
            assert name in done.stdout

    def test_json_steps_and_seed(self, tmp_path: Path) -> None:
        options = ["--json", "--steps", 60, "--seed", 3, "--out", tmp_path]
        done = shell("demo", "digits", *options)
        read = json.loads(done.stdout)
        assert read["settings"]["seed"] == 3
        assert read["cost"]["steps"] <= 60
        assert read == json.loads((tmp_path / "digits.json").read_text("utf-8"))

    def test_an_unknown_demo(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert run("demo", "imagenet") == 2
        assert "'digits', 'char-lm'" in capsys.readouterr().err

    @pytest.mark.parametrize(
        ("package", "extra"), [("torch", "lrsearch[torch]"), ("sklearn", "lrsearch[demo]")]
    )
    def test_a_missing_package_names_the_command_that_installs_it(
        self, package: str, extra: str, tmp_path: Path
    ) -> None:
        program = (
            f"import sys; sys.modules[{package!r}] = None; "
            f"from lrsearch.cli import main; main(['demo', '--out', {str(tmp_path)!r}])"
        )
        done = shell(program=program)
        assert done.returncode == 2
        assert f"pip install '{extra}'" in done.stderr
        assert "Traceback" not in done.stderr


class TestItself:
    def test_version(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert run("--version") == 0
        assert capsys.readouterr().out == f"lrsearch, version {lrsearch.__version__}\n"

    def test_the_module_and_the_script_are_the_same_program(self) -> None:
        script = Path(sys.executable).parent / "lrsearch"
        if not script.exists():
            pytest.skip("lrsearch is not installed as a script here")
        by_script = subprocess.run([script, "--help"], capture_output=True, text=True, check=True)
        assert by_script.stdout == shell("--help").stdout

    @pytest.mark.parametrize("command", ["demo", "find", "plot", "report", "tutorial"])
    def test_every_command_is_listed_and_explains_itself(
        self, command: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert run("--help") == 0
        assert f"\n  {command} " in capsys.readouterr().out
        assert run(command, "--help") == 0
        assert "--out" in capsys.readouterr().out

    def test_help_imports_nothing_heavy(self) -> None:
        program = """
import sys
from lrsearch.cli import main
try:
    main(["--help"])
except SystemExit:
    pass
heavy = {"torch", "numpy", "matplotlib", "rich", "sklearn"} & set(sys.modules)
assert not heavy, heavy
"""
        done = shell(program=program)
        assert done.returncode == 0, done.stderr

    def test_an_unknown_command_is_wrong_usage(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert run("serach") == 2
        assert "No such command 'serach'" in capsys.readouterr().err
