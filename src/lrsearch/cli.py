"""The command line. Everything heavy is imported inside the command that needs it.

Exit codes: 0 found, 1 the output could not be written or the user's code failed, 2 wrong usage,
3 searched but no answer, 130 interrupted, 143 terminated.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import importlib
import io
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lrsearch._version import __version__
from lrsearch.errors import LRSearchError

if TYPE_CHECKING:
    from lrsearch.core.search import Method
    from lrsearch.result import Result

__all__ = ["main"]

_LOST, _USAGE, _NO_ANSWER, _INTERRUPTED, _TERMINATED = 1, 2, 3, 130, 143

# Name: its module, updates of its range test, and how many each trial of the answer gets.
_DEMOS = {"digits": ("digits", 100, 200), "char-lm": ("char_lm", 300, 150)}
_PACKAGES = {"torch": "lrsearch[torch]", "sklearn": "lrsearch[demo]"}
_METHODS = ("auto", "range", "ladder", "race", "sweep")
_SCHEDULES = ("constant", "linear", "cosine", "one-cycle", "wsd")
_DTYPES = ("bfloat16", "float16")

_FILE = click.Path(dir_okay=False, path_type=Path)
_FOLDER = click.Path(file_okay=False, readable=False, path_type=Path)
_json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print the result as JSON, and nothing else."
)
_steps_option = click.option("--steps", type=int, help="Updates of the range test.")


@dataclasses.dataclass
class _Run:
    """This run of the command line.

    Attributes:
        own: whether the process is ours, so that what is changed in it may stay changed.
        theirs: whether the user's code runs, whose errors keep their traceback.
        answer: where the answer goes, when it alone may go to standard output.
    """

    own: bool
    theirs: bool = False
    answer: Any = None


class _OutputLostError(click.ClickException):
    """Standard output cannot be written."""

    exit_code = _LOST


class _TerminatedError(KeyboardInterrupt):
    """SIGTERM came: leave as after Ctrl-C, so that everything is put back and ended."""


# Help texts stand here and not in docstrings, which ``python -OO`` removes.


@click.group(
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Which learning rate should this run use?\n\n"
    "Exit code: 0 found, 2 wrong usage, 3 searched but no answer.",
)
@click.version_option(__version__, prog_name="lrsearch")
def cli() -> None:
    """Hold the commands."""


@cli.command(
    help="Find a learning rate on bundled data, and try it.\n\n"
    "digits: a small convolutional network on scikit-learn's handwritten digits.\n\n"
    "char-lm: a small transformer on the text of Python's own documentation."
)
@click.argument("name", type=click.Choice(list(_DEMOS)), default="digits")
@click.option("--out", type=_FOLDER, default="lrsearch-demo", show_default=True, help="Folder.")
@_steps_option
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of everything.")
@_json_option
def demo(name: str, out: Path, steps: int | None, seed: int, as_json: bool) -> int:
    """Run ``lrsearch demo``."""
    from lrsearch.find import find_lr

    _make_folder(out)
    importlib.import_module("lrsearch.demos.threads").use_one_thread()
    module, usual, updates = _DEMOS[name]
    factory = getattr(importlib.import_module(f"lrsearch.demos.{module}"), module)
    method = _method({}, usual if steps is None else steps, None)
    with _users_code(as_json):
        result = find_lr(**factory(seed), method=method, seed=seed, throw=False)
    code = _show(result, as_json, [out / f"{name}.json", out / f"{name}.png"])
    if code == 0 and not as_json:
        _try_out(lambda: factory(seed), result.lr, updates)
    return code


@cli.command(
    help="Find the learning rate of your own training.\n\n"
    "FACTORY is a function in FILE.py without arguments that returns a mapping of find_lr's "
    "arguments, or a tuple (model, optimizer, loss_fn, train_loader). Options given here win "
    "over the mapping."
)
@click.argument("factory", metavar="FILE.py:FACTORY")
@click.option("--method", type=click.Choice(_METHODS), help="How to search.")
@_steps_option
@click.option("--budget", type=float, help="What a race may spend, in planned runs.")
@click.option("--train-steps", type=int, help="Updates of the planned run.")
@click.option("--schedule", type=click.Choice(_SCHEDULES), help="Its learning rate's shape.")
@click.option(
    "--warmup-steps", type=float, help="Updates of a warmup before it, or their share below 1."
)
@click.option("--min-lr", type=float, help="Lowest learning rate; found when not given.")
@click.option("--max-lr", type=float, help="Highest learning rate; found when not given.")
@click.option("--val-batches", type=int, help="Held-out batches of one evaluation.")
@click.option("--accumulate", type=int, help="Batches whose gradients make one update.")
@click.option("--clip-grad-norm", type=float, help="Largest norm of the gradient.")
@click.option("--clip-grad-value", type=float, help="Largest size of an element of it.")
@click.option("--autocast", type=click.Choice(_DTYPES), help="Train under torch.autocast.")
@click.option(
    "--snapshot-to",
    type=click.Choice(("device", "cpu", "disk")),
    help="Where the copy of the training's state is kept meanwhile.",
)
@click.option("--seed", type=int, help="Seed of everything random in the search.")
@click.option("--progress/--no-progress", default=None, help="Show live progress.")
@click.option("--out", type=_FOLDER, help="Folder for the plot and the JSON; else none.")
@click.option("--report", is_flag=True, help="Write an HTML page into the folder too.")
@_json_option
def find(
    factory: str,
    out: Path | None,
    report: bool,
    as_json: bool,
    steps: int | None,
    budget: float | None,
    **given: Any,
) -> int:
    """Run ``lrsearch find``."""
    from lrsearch.factory import arguments_from
    from lrsearch.find import find_lr

    paths = []
    if out is not None:
        _make_folder(out)
        name = factory.rpartition(":")[2]
        paths = [out / f"{name}{ending}" for ending in (".json", ".png", ".html")[: 2 + report]]
    elif report:
        raise click.UsageError("--report needs a folder: give --out too.")
    with _users_code(as_json):
        arguments = arguments_from(factory)
        arguments.update({key: value for key, value in given.items() if value is not None})
        if given["autocast"] is not None:
            arguments["autocast"] = getattr(importlib.import_module("torch"), given["autocast"])
        arguments["method"] = _method(arguments, steps, budget)
        result = find_lr(**{**arguments, "throw": False})
    return _show(result, as_json, paths)


@cli.command(help="Draw the result in a JSON file.")
@click.argument("result", type=_FILE)
@click.option("--out", type=_FILE, help="File to write (.png, .svg, .pdf); RESULT.png.")
def plot(result: Path, out: Path | None) -> None:
    """Run ``lrsearch plot``."""
    from lrsearch.result import Result

    target = out or result.with_suffix(".png")
    read = Result.from_json(result)
    with _file_errors():
        _draw_without_window()
        read.plot(target)
    _print(f"Wrote {target}")


@cli.command("report", help="Write an HTML page about the result in a JSON file.")
@click.argument("result", type=_FILE)
@click.option("--out", type=_FILE, help="File to write; RESULT.html.")
def report_command(result: Path, out: Path | None) -> None:
    """Run ``lrsearch report``."""
    from lrsearch.result import Result

    target = out or result.with_suffix(".html")
    read = Result.from_json(result)
    with _file_errors():
        _draw_without_window()
        read.report(target)
    _print(f"Wrote {target}")


@cli.command(help="Run the textbook experiment step by step.")
@click.option("--out", type=_FOLDER, default="lrsearch-tutorial", show_default=True, help="Folder.")
def tutorial(out: Path) -> None:
    """Run ``lrsearch tutorial``."""
    from lrsearch.report.console import terminal
    from lrsearch.tutorial.run import run_tutorial

    _make_folder(out)
    run_tutorial(out, terminal())


def main(args: Sequence[str] | None = None) -> None:
    """Run the command line and exit; the entry point of the ``lrsearch`` script."""
    run = _Run(own=args is None)
    if run.own:
        _open_streams()
        signal.signal(signal.SIGTERM, _terminate(os.getpid()))
        if hasattr(sys.stdout, "reconfigure"):  # what a terminal cannot write is described
            sys.stdout.reconfigure(errors="backslashreplace")
    try:
        code = cli.main(args=args, prog_name="lrsearch", standalone_mode=False, obj=run)
    except click.ClickException as error:
        _say(error)
        code = _LOST if isinstance(error, _OutputLostError) else _USAGE
    except (click.Abort, KeyboardInterrupt) as error:
        ended = isinstance(error.__cause__ or error, _TerminatedError)  # click makes it an Abort
        _say("\nTerminated." if ended else "\nInterrupted.")
        code = _TERMINATED if ended else _INTERRUPTED
    except (LRSearchError, ImportError) as error:
        _say(f"Error: {_advice(error)}")
        code = _USAGE
    except OSError as error:
        if run.theirs:
            raise
        _say(_lost(error))
        code = _LOST
    if code == _LOST and run.own:
        for stream in (sys.stdout, run.answer):
            _drop_output(stream)
    sys.exit(code)


def _terminate(owner: int) -> Callable[[int, object], None]:
    def handler(number: int, _frame: object) -> None:
        if os.getpid() == owner:
            raise _TerminatedError
        signal.signal(number, signal.SIG_DFL)  # a child that was forked ends as any other
        os.kill(os.getpid(), number)

    return handler


def _open_streams() -> None:
    """Let no file that is opened later get the number of a standard stream that is closed."""
    number = os.open(os.devnull, os.O_RDWR)
    while number <= 2:
        number = os.open(os.devnull, os.O_RDWR)
    os.close(number)


def _say(what: object) -> None:
    """Say something on standard error, if there is one."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        if isinstance(what, click.ClickException):
            if str(what):
                what.show(sys.stderr)
        else:
            click.echo(what, file=sys.stderr)
        sys.stderr.flush()


def _lost(error: OSError | ValueError) -> _OutputLostError:
    """Return the error of output that nobody takes; of a reader that left, nothing is said."""
    if getattr(error, "errno", None) == errno.EPIPE:
        return _OutputLostError("")
    return _OutputLostError(f"standard output: {getattr(error, 'strerror', None) or error}.")


def _drop_output(stream: Any) -> None:
    """Let what a stream still holds at the end of the process go nowhere, without a word."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())


def _print(what: object) -> None:
    """Print on standard output, to the last byte."""
    from lrsearch.report.console import terminal

    if sys.stdout is None:
        raise _OutputLostError("standard output: it is closed.")
    try:
        click.echo(what) if isinstance(what, str) else terminal().print(what)
        sys.stdout.flush()
    except (OSError, ValueError) as error:
        raise _lost(error) from error


def _draw_without_window() -> None:
    """Keep a broken setting for windows, which no file needs, from matplotlib."""
    if "matplotlib" not in sys.modules:
        os.environ["MPLBACKEND"] = "agg"


def _advice(error: LRSearchError | ImportError) -> str:
    """Say what to do about our own errors and missing packages; pass on what is neither."""
    if isinstance(error, LRSearchError):
        return str(error)
    package = _PACKAGES.get((error.name or "").partition(".")[0])
    if package is None:
        raise error
    return f"{error}. Install it with: pip install '{package}'"


def _method(arguments: dict[str, Any], steps: int | None, budget: float | None) -> str | Method:
    """Return the method, with options that shape it, taking the bounds out of ``arguments``."""
    from lrsearch.methods.race import Race
    from lrsearch.methods.range_test import RangeTest

    method = arguments.get("method", "auto")
    if steps is not None and budget is not None:
        raise click.UsageError("--steps is for the range test and --budget for the race.")
    bounds = {name: arguments[name] for name in ("min_lr", "max_lr") if name in arguments}
    shaped: Any = None
    for option, value, kind, name in (
        ("steps", steps, RangeTest, "range"),
        ("budget", budget, Race, "race"),
    ):
        if value is None:
            continue
        if isinstance(method, kind):
            shaped = dataclasses.replace(method, **{option: value}, **bounds)  # type: ignore[arg-type]
        elif method in ("auto", name):
            shaped = kind(**{option: value}, **bounds)  # type: ignore[arg-type]
        else:
            words = "the range test" if name == "range" else "the race"
            raise click.UsageError(f"--{option} is for {words}, and the method is {method!r}.")
    if shaped is None and bounds and dataclasses.is_dataclass(method):
        shaped = dataclasses.replace(method, **bounds)  # type: ignore[type-var]
    if shaped is None:
        return method  # type: ignore[no-any-return]
    for name in bounds:
        del arguments[name]
    return shaped  # type: ignore[no-any-return]


@contextlib.contextmanager
def _users_code(as_json: bool) -> Iterator[None]:
    """Run the user's code; where only JSON is wanted, what it prints goes to standard error.

    That holds to the end of the process and for everything in it: child processes, C code,
    functions that run at exit. The answer is written where standard output was.
    """
    context = click.get_current_context()
    run = context.find_object(_Run) or _Run(own=False)
    if as_json:
        run.answer, put_back = _answer_alone()
        if not run.own:
            context.call_on_close(put_back)
    run.theirs = True
    yield
    run.theirs = False


def _answer_alone() -> tuple[Any, Callable[[], None]]:
    """Point standard output to standard error; return a stream to where it was, and a way back."""
    was = sys.stdout
    try:
        descriptor = -1 if was is None else was.fileno()
    except (OSError, ValueError, AttributeError):
        descriptor = -1
    if descriptor != 1:  # a stream that a program around us has put there
        sys.stdout = sys.stderr or io.StringIO()

        def put_back() -> None:
            sys.stdout = was

        return was, put_back
    was.flush()
    answer = os.fdopen(os.dup(1), "w", encoding="utf-8")
    try:
        os.dup2(2, 1)
    except OSError:  # standard error is closed
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)

    def restore() -> None:
        was.flush()
        os.dup2(answer.fileno(), 1)
        answer.close()

    return answer, restore


@contextlib.contextmanager
def _file_errors() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        what = "a folder is needed here" if isinstance(error, FileExistsError) else error.strerror
        place = "" if error.filename is None else f"{os.fspath(error.filename)}: "
        raise click.ClickException(f"{place}{what or error}.") from error
    except (ImportError, ValueError, RuntimeError) as error:
        if isinstance(error, LRSearchError):
            raise
        shown = f"{type(error).__name__}: {error}".splitlines()[0]
        raise click.ClickException(f"It cannot be drawn. {shown}") from error


def _make_folder(folder: Path) -> None:
    """Make the folder and try to write there, before any time is spent on training."""
    with _file_errors():
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()


def _show(result: Result, as_json: bool, paths: Sequence[Path]) -> int:
    """Print the result, write its files when asked, and return the exit code.

    The answer comes first: it has cost the time, and a file that cannot be written costs none.
    """
    if as_json:
        _write_answer(result.to_json())
    else:
        from lrsearch.report.console import result_table

        _print(result_table(result))
    with _file_errors():
        _draw_without_window()
        for path in paths:
            if path.suffix == ".json":
                result.to_json(path)
            else:
                (result.plot if path.suffix == ".png" else result.report)(path)
    if paths and not as_json:
        *most, last = map(str, paths)
        _print(f"Wrote {', '.join(most)} and {last}")
    return 0 if result.status.found else _NO_ANSWER


def _write_answer(text: str) -> None:
    run = click.get_current_context().find_object(_Run)
    stream = None if run is None else run.answer
    if stream is None:
        raise _OutputLostError("standard output: it is closed.")
    try:
        stream.write(text)
        stream.flush()
    except (OSError, ValueError) as error:
        raise _lost(error) from error


def _try_out(make: Callable[[], dict[str, Any]], lr: float, updates: int) -> None:
    """Train for a while at, below and above the answer, and print what comes of it."""
    from lrsearch.demos.trial import run_trial, trial_table
    from lrsearch.report.console import terminal

    with terminal(stderr=True).status("") as status:
        trials = []
        for rate in (lr / 10.0, lr, lr * 10.0):
            status.update(f"Training {updates} updates at learning rate {rate:.3g}")
            trials.append(run_trial(make, rate, updates))
    _print(trial_table(trials, lr))


if __name__ == "__main__":
    main()
