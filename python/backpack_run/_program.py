"""The program `backpack-run`, as pip puts it on the PATH."""

import signal
import sys
from importlib import metadata
from pathlib import Path

from . import _torch
from ._errors import Error


def path() -> Path:
    """The file of the program, which starts its workers too.

    Raises Error where this package was put here without pip.
    """
    for file in metadata.files("backpack-run") or []:
        if file.name in ("backpack-run", "backpack-run.exe"):
            return Path(str(file.locate())).resolve()
    raise Error("the program `backpack-run` was not installed with this package: install it with pip")


def main() -> None:
    """Runs the program with this process's arguments, and ends it with the program's exit code."""
    # Signals are the program's own, as if there were no Python around it.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    _torch.load_libraries()
    from . import _native

    sys.exit(_native.main(["backpack-run", *sys.argv[1:]], str(path())))
