"""The program's commands from Python: problems of models, runs with their progress, and results as pandas frames."""

import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from ._errors import CommandError, Error, UsageError
from ._program import path as program

if TYPE_CHECKING:
    import pandas
    from torch import Tensor, nn

    from ._losses import Loss

#: What a flag can be given: True for a flag without a value, a list for one with commas, None to leave it out.
Flag = str | int | float | bool | os.PathLike[str] | Iterable[str | int | float] | None

#: How many lines of what went wrong an exception quotes.
_LAST_LINES = 20


@dataclass(frozen=True)
class Problem(os.PathLike[str]):
    """A problem file and its weights, as the command line takes them."""

    path: Path
    weights: Path

    def __fspath__(self) -> str:
        return str(self.path)


def problem(
    model: "nn.Module",
    x: "Tensor",
    *,
    loss: "Loss | None" = None,
    dataset: str | os.PathLike[str] | None = None,
    name: str | None = None,
    out: str | os.PathLike[str] = "net.toml",
    weights: str | os.PathLike[str] | None = None,
    start_from_weights: bool = False,
) -> Problem:
    """Writes a model as a problem file and a weights file, with which every command works.

    `x` is an example of the model's input, `[N, ...]`. `dataset` is the name of a data set, a `.safetensors` file, or TOML as
    in `'{ text = "file.txt", context = 64 }'`; without it the problem can be extracted and checked, but not trained. `loss` is as for
    `Engine`. `weights` is by default beside `out`. With `start_from_weights`, training starts from the model's parameters,
    whatever the seed; otherwise from new ones.

    Raises UnsupportedError for a model or loss that a problem file cannot express; then neither file is written.
    """
    from . import _losses
    from ._model import archive

    out = Path(out)
    weights = Path(weights) if weights is not None else out.with_suffix(".safetensors")
    kind, reduction = _losses.read(loss) if loss is not None else (None, "mean")
    if reduction != "mean":
        raise UsageError(f"reduction={reduction!r}: write it into {out} as `reduction`; this function writes a mean")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "net.pt2"
        file.write_bytes(archive(model, x))
        run(
            "import", file, out=out, weights=weights, dataset=dataset, loss=kind, name=name or out.stem,
            start_from_weights=start_from_weights, quiet=True,
        )  # fmt: skip
    return Problem(out, weights)


def run(command: str, *arguments: str | os.PathLike[str], quiet: bool = False, **flags: Flag) -> str:
    """Carries out a command of the program: `run("grid", problem="cifar10_3c3d", curv="kfac", jobs=2)`.

    Keywords are the command's flags, with underscores for hyphens: `True` gives a flag without a value; a list is joined with commas.
    Progress and messages go to `sys.stderr`, in a notebook below the cell, unless `quiet`; the result is what the program
    prints. An interruption ends the program as Ctrl-C does in a shell: progress is kept, and the same command continues
    from there.

    Raises CommandError if the program ends with an exit code other than 0.
    """
    words = [str(program()), command, *(os.fspath(argument) for argument in arguments), *_words(flags)]
    with subprocess.Popen(
        words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace"
    ) as child:
        assert child.stdout is not None and child.stderr is not None
        printed: list[str] = []
        reader = threading.Thread(target=lambda out: printed.append(out.read()), args=(child.stdout,), daemon=True)
        reader.start()
        try:
            said = _follow(child.stderr, quiet)
            code = child.wait()
        except KeyboardInterrupt:
            # A terminal sends it to the program too, a notebook does not.
            child.send_signal(signal.SIGINT)
            child.wait()
            raise
        reader.join()
    if code == 130:
        raise KeyboardInterrupt
    if code != 0:
        text = "\n".join(said[-_LAST_LINES:]) or f"the program ended with {code}"
        raise CommandError(f"backpack-run {command}: {text}", code, "".join(printed))
    return "".join(printed)


def _follow(stream: IO[str], quiet: bool) -> list[str]:
    """Shows lines as they come, and gives them."""
    said = []
    for line in stream:
        said.append(line.rstrip("\n"))
        if not quiet:
            print(line, end="", file=sys.stderr, flush=True)
    return said


def _words(flags: dict[str, Flag]) -> list[str]:
    words = []
    for name, value in flags.items():
        flag = "--" + name.strip("_").replace("_", "-")
        if value is None or value is False:
            continue
        if value is True:
            words.append(flag)
        elif isinstance(value, (str, int, float)):
            words.append(f"{flag}={value}")
        elif isinstance(value, os.PathLike):
            words.append(f"{flag}={os.fspath(value)}")
        elif name == "set":
            words += [f"{flag}={entry}" for entry in value]
        else:
            words.append(f"{flag}={','.join(str(entry) for entry in value)}")
    return words


def _frame(command: str, *arguments: str | os.PathLike[str], quiet: bool, flags: dict[str, Flag]) -> "pandas.DataFrame":
    """A command whose result is a table."""
    pandas = _pandas()
    return pandas.read_csv(StringIO(run(command, *arguments, quiet=quiet, format="csv", **flags)))


def grid(problem: str | os.PathLike[str], *, quiet: bool = False, **flags: Flag) -> "pandas.DataFrame":
    """Trains every setting of a grid: one row per setting with its rank, 1 for the best. Flags are those of `backpack-run grid`."""
    return _frame("grid", quiet=quiet, flags={"problem": problem, **flags})


def train(problem: str | os.PathLike[str], *, quiet: bool = False, **flags: Flag) -> "pandas.DataFrame":
    """Trains one setting: one row per run. Flags are those of `backpack-run train`."""
    return _frame("train", quiet=quiet, flags={"problem": problem, **flags})


def seeds(problem: str | os.PathLike[str], *, quiet: bool = False, **flags: Flag) -> "pandas.DataFrame":
    """Trains the best setting of a finished grid with ten seeds. Flags are those of `backpack-run seeds`."""
    return _frame("seeds", quiet=quiet, flags={"problem": problem, **flags})


def study(file: str | os.PathLike[str], *, quiet: bool = False, **flags: Flag) -> "pandas.DataFrame":
    """Runs an experiment file. Flags are those of `backpack-run study`."""
    return _frame("study", file, quiet=quiet, flags=flags)


def status(*, quiet: bool = False, **flags: Flag) -> "pandas.DataFrame":
    """The runs in the runs folder and their progress. Flags are those of `backpack-run status`."""
    return _frame("status", quiet=quiet, flags=flags)


def check(problem: str | os.PathLike[str], *, quiet: bool = False, **flags: Flag) -> "pandas.DataFrame":
    """Compares every quantity of a problem with automatic differentiation. Flags are those of `backpack-run check`."""
    return _frame("check", quiet=quiet, flags={"problem": problem, **flags})


def bench(*, quiet: bool = False, **flags: Flag) -> "pandas.DataFrame":
    """Measures what quantities and steps cost. Flags are those of `backpack-run bench`."""
    return _frame("bench", quiet=quiet, flags=flags)


def report(name: str | os.PathLike[str], *, quiet: bool = False, **flags: Flag) -> str:
    """Writes figures and a page of a study's results. Flags are those of `backpack-run report`."""
    return run("report", name, quiet=quiet, **flags)


def doctor() -> str:
    """What this machine has and lacks."""
    return run("doctor", quiet=True)


@dataclass(frozen=True)
class Results:
    """The results of a study, as pandas frames; docs/report.md says what the columns are."""

    #: Medians and quartiles over seeds, a row for each optimizer, metric and epoch.
    curves: "pandas.DataFrame"
    #: A row for each optimizer, seed and epoch.
    seeds: "pandas.DataFrame"
    #: A row for each setting.
    grid: "pandas.DataFrame"
    #: The end of each curve.
    final: "pandas.DataFrame"


def results(folder: str | os.PathLike[str]) -> Results:
    """Reads the results of `study` or `seeds` from their folder; a table that is not there yet is an empty frame.

    Raises Error where the folder holds none.
    """
    pandas = _pandas()
    place = Path(folder)
    names = ["curves", "seeds", "grid", "final"]
    files = {name: place / f"{name}.csv" for name in names}
    if not any(file.is_file() for file in files.values()):
        raise Error(f"{place}: no results here; expected {', '.join(file.name for file in files.values())}")
    frames = {name: pandas.read_csv(file) if file.is_file() else pandas.DataFrame() for name, file in files.items()}
    return Results(**frames)


def _pandas() -> Any:
    try:
        import pandas
    except ImportError as error:
        raise Error("results come as pandas frames: install it with `pip install pandas`") from error
    return pandas
