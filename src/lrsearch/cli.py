"""The command line. Everything heavy is imported inside the command that needs it.

Exit codes: 0 found, 2 wrong usage, 3 searched but no answer, 130 interrupted.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lrsearch._version import __version__
from lrsearch.errors import LRSearchError

if TYPE_CHECKING:
    from lrsearch.methods.range_test import RangeTest
    from lrsearch.result import Result

__all__ = ["main"]

_USAGE, _NO_ANSWER, _INTERRUPTED = 2, 3, 130

# Name: its module, updates of its range test, and how many each trial of the answer gets.
_DEMOS = {"digits": ("digits", 100, 200), "char-lm": ("char_lm", 300, 150)}
_PACKAGES = {"torch": "lrsearch[torch]", "sklearn": "lrsearch[demo]"}

_FILE = click.Path(dir_okay=False, path_type=Path)
_FOLDER = click.Path(file_okay=False, readable=False, path_type=Path)
_json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print the result as JSON, and nothing else."
)
_steps_option = click.option("--steps", type=int, help="Updates of the range test.")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="lrsearch")
def cli() -> None:
    """Which learning rate should this run use?

    Exit code: 0 found, 2 wrong usage, 3 searched but no answer.
    """


@cli.command()
@click.argument("name", type=click.Choice(list(_DEMOS)), default="digits")
@click.option("--out", type=_FOLDER, default="lrsearch-demo", show_default=True, help="Folder.")
@_steps_option
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of everything.")
@_json_option
def demo(name: str, out: Path, steps: int | None, seed: int, as_json: bool) -> int:
    """Find a learning rate on bundled data, and try it.

    digits: a small convolutional network on scikit-learn's handwritten digits.

    char-lm: a small transformer on the text of Python's own documentation.
    """
    from lrsearch.find import find_lr

    _make_folder(out)
    importlib.import_module("lrsearch.demos.threads").use_one_thread()
    module, usual, updates = _DEMOS[name]
    factory = getattr(importlib.import_module(f"lrsearch.demos.{module}"), module)
    method = _range_test(usual if steps is None else steps, {})
    with _quiet(as_json):
        result = find_lr(**factory(seed), method=method, seed=seed, throw=False)
    code = _show(result, as_json, [out / f"{name}.json", out / f"{name}.png"])
    if code == 0 and not as_json:
        _try_out(lambda: factory(seed), result.lr, updates)
    return code


@cli.command()
@click.argument("factory", metavar="FILE.py:FACTORY")
@click.option("--method", help='"auto", "range", "ladder" or "sweep".')
@_steps_option
@click.option("--train-steps", type=int, help="Updates of the planned run.")
@click.option("--schedule", help='"constant", "linear", "cosine", "one-cycle" or "wsd".')
@click.option(
    "--warmup-steps", type=float, help="Updates of a warmup before it, or their share below 1."
)
@click.option("--min-lr", type=float, help="Lowest learning rate; found when not given.")
@click.option("--max-lr", type=float, help="Highest learning rate; found when not given.")
@click.option("--seed", type=int, help="Seed of everything random in the search.")
@click.option("--out", type=_FOLDER, help="Folder for the plot and the JSON; else none.")
@_json_option
def find(factory: str, out: Path | None, as_json: bool, steps: int | None, **given: Any) -> int:
    """Find the learning rate of your own training.

    FACTORY is a function in FILE.py without arguments that returns a mapping of find_lr's
    arguments, or a tuple (model, optimizer, loss_fn, train_loader). Options given here
    win over the mapping.
    """
    from lrsearch.factory import arguments_from
    from lrsearch.find import find_lr

    paths = []
    if out is not None:
        _make_folder(out)
        name = factory.rpartition(":")[2]
        paths = [out / f"{name}.json", out / f"{name}.png"]
    with _quiet(as_json):
        arguments = arguments_from(factory)
        arguments.update({key: value for key, value in given.items() if value is not None})
        if steps is not None:
            arguments["method"] = _range_test(steps, arguments)
        result = find_lr(**{**arguments, "throw": False})
    return _show(result, as_json, paths)


@cli.command()
@click.argument("result", type=_FILE)
@click.option("--out", type=_FILE, help="File to write (.png, .svg, .pdf); RESULT.png.")
def plot(result: Path, out: Path | None) -> None:
    """Draw the result in a JSON file."""
    from lrsearch.result import Result

    target = out or result.with_suffix(".png")
    read = Result.from_json(result)
    with _file_errors():
        read.plot(target)
    click.echo(f"Wrote {target}")


@cli.command()
@click.argument("result", type=_FILE)
@click.option("--out", type=_FILE, help="File to write; RESULT.html.")
def report(result: Path, out: Path | None) -> None:
    """Write an HTML page about the result in a JSON file."""
    from lrsearch.result import Result

    target = out or result.with_suffix(".html")
    read = Result.from_json(result)
    with _file_errors():
        read.report(target)
    click.echo(f"Wrote {target}")


@cli.command()
@click.option("--out", type=_FOLDER, default="lrsearch-tutorial", show_default=True, help="Folder.")
def tutorial(out: Path) -> None:
    """Run the textbook experiment step by step."""
    from rich.console import Console

    from lrsearch.tutorial.run import run_tutorial

    _make_folder(out)
    run_tutorial(out, Console())


def main(args: Sequence[str] | None = None) -> None:
    """Run the command line and exit; the entry point of the ``lrsearch`` script."""
    try:
        code = cli.main(args=args, prog_name="lrsearch", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        code = _USAGE
    except (click.Abort, KeyboardInterrupt):
        click.echo("\nInterrupted.", err=True)
        code = _INTERRUPTED
    except (LRSearchError, ImportError) as error:
        click.echo(f"Error: {_advice(error)}", err=True)
        code = _USAGE
    sys.exit(code)


def _advice(error: LRSearchError | ImportError) -> str:
    """Say what to do about our own errors and missing packages; pass on what is neither."""
    if isinstance(error, LRSearchError):
        return str(error)
    package = _PACKAGES.get((error.name or "").partition(".")[0])
    if package is None:
        raise error
    return f"{error}. Install it with: pip install '{package}'"


def _range_test(steps: int, arguments: dict[str, Any]) -> RangeTest:
    """A range test of ``steps`` updates, taking the bounds and settings out of ``arguments``."""
    from lrsearch.methods.range_test import RangeTest

    method = arguments.get("method", "auto")
    bounds = {name: arguments.pop(name) for name in ("min_lr", "max_lr") if name in arguments}
    if isinstance(method, RangeTest):
        return dataclasses.replace(method, steps=steps, **bounds)
    if method in ("auto", "range"):
        return RangeTest(steps=steps, **bounds)
    raise click.UsageError(f"--steps is for the range test, and the method is {method!r}.")


def _quiet(as_json: bool) -> contextlib.AbstractContextManager[object]:
    """Send what the user's code prints to standard error, where it cannot spoil the JSON."""
    return contextlib.redirect_stdout(sys.stderr) if as_json else contextlib.nullcontext()


@contextlib.contextmanager
def _file_errors() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        what = "a folder is needed here" if isinstance(error, FileExistsError) else error.strerror
        place = "" if error.filename is None else f"{os.fspath(error.filename)}: "
        raise click.ClickException(f"{place}{what or error}.") from error


def _make_folder(folder: Path) -> None:
    """Make the folder and try to write there, before any time is spent on training."""
    with _file_errors():
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()


def _show(result: Result, as_json: bool, paths: Sequence[Path]) -> int:
    """Print the result, write its plot and JSON when asked, and return the exit code."""
    with _file_errors():
        for path in paths:
            result.to_json(path) if path.suffix == ".json" else result.plot(path)
    if as_json:
        click.echo(result.to_json(), nl=False)
    else:
        from rich.console import Console

        from lrsearch.report.console import result_table

        Console().print(result_table(result))
        if paths:
            click.echo(f"Wrote {' and '.join(map(str, paths))}")
    return 0 if result.status.found else _NO_ANSWER


def _try_out(make: Callable[[], dict[str, Any]], lr: float, updates: int) -> None:
    """Train for a while at, below and above the answer, and print what comes of it."""
    from rich.console import Console

    from lrsearch.demos.trial import run_trial, trial_table

    with Console(stderr=True).status("") as status:
        trials = []
        for rate in (lr / 10.0, lr, lr * 10.0):
            status.update(f"Training {updates} updates at learning rate {rate:.3g}")
            trials.append(run_trial(make, rate, updates))
    Console().print(trial_table(trials, lr))


if __name__ == "__main__":
    main()
