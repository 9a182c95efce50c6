"""Individual gradients, variances and curvature from one backward pass, for PyTorch models.

    import backpack_run as bp
    q = bp.extract(model, nn.CrossEntropyLoss(), x, y, ["variance", "kfac"])
    q["variance"]["0.weight"]            # a torch.Tensor, by PyTorch's parameter name

`Engine` does the same in a training loop, `optim.Damped` steps by the paper's rule, and `problem`, `run` and `results` lead to
the program `backpack-run` and back. Everything is loaded when it is first used, so that the program, which comes with this
package, starts without Python's part of torch.
"""

import importlib
from typing import TYPE_CHECKING, Any

from . import _torch

if TYPE_CHECKING:
    from . import optim
    from ._commands import Problem, Results, bench, check, doctor, grid, problem, report, results, run, seeds, status, study, train
    from ._engine import Engine, extract
    from ._errors import CommandError, Error, UnsupportedError, UsageError
    from ._quantities import Quantities

_PLACES = {
    "_commands": [
        "Problem", "Results", "bench", "check", "doctor", "grid", "problem", "report", "results", "run", "seeds", "status",
        "study", "train",
    ],
    "_engine": ["Engine", "extract"],
    "_errors": ["CommandError", "Error", "UnsupportedError", "UsageError"],
    "_quantities": ["Quantities"],
}  # fmt: skip
_MODULE_OF = {name: module for module, names in _PLACES.items() for name in names}

__all__ = [
    "CommandError", "Engine", "Error", "Problem", "Quantities", "Results", "UnsupportedError", "UsageError", "bench", "check",
    "doctor", "extract", "grid", "optim", "problem", "report", "results", "run", "seeds", "status", "study", "train",
]  # fmt: skip

_torch.check()


def __getattr__(name: str) -> Any:
    if name == "optim":
        return importlib.import_module(".optim", __name__)
    if name in _MODULE_OF:
        return getattr(importlib.import_module(f".{_MODULE_OF[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
