"""Losses of PyTorch by the names that the engine has for them."""

from collections.abc import Callable
from typing import Any

from torch import nn
from torch.nn import functional

from ._errors import UnsupportedError

NAMES = ("cross_entropy", "mse", "bce_with_logits")

Loss = nn.Module | Callable[..., Any] | str

_FUNCTIONS = {
    functional.cross_entropy: "cross_entropy",
    functional.mse_loss: "mse",
    functional.binary_cross_entropy_with_logits: "bce_with_logits",
}
# The options that change a loss, with the values at which they do nothing.
_MODULES: dict[type[nn.Module], tuple[str, dict[str, object]]] = {
    nn.CrossEntropyLoss: ("cross_entropy", {"weight": None, "ignore_index": -100, "label_smoothing": 0.0}),
    nn.MSELoss: ("mse", {"weight": None}),
    nn.BCEWithLogitsLoss: ("bce_with_logits", {"weight": None, "pos_weight": None}),
}
_EXPECTED = "expected nn.CrossEntropyLoss(), nn.MSELoss() or nn.BCEWithLogitsLoss(), with reduction 'mean' or 'sum', or one of " + (
    ", ".join(repr(name) for name in NAMES)
)


def read(loss: Loss) -> tuple[str, str]:
    """The loss's name and its reduction, `mean` or `sum`.

    Raises UnsupportedError for another loss, and for an option that changes it.
    """
    if isinstance(loss, str):
        if loss in NAMES:
            return loss, "mean"
        raise UnsupportedError(f"the loss {loss!r}: {_EXPECTED}")
    if not isinstance(loss, nn.Module):
        name = _FUNCTIONS.get(loss)
        if name is None:
            raise UnsupportedError(f"the loss {loss!r}: {_EXPECTED}")
        return name, "mean"
    if type(loss) not in _MODULES:
        raise UnsupportedError(f"the loss {type(loss).__name__}: {_EXPECTED}")
    name, neutral = _MODULES[type(loss)]
    for option, value in neutral.items():
        given = getattr(loss, option, value)
        if given is not value and (value is None or given != value):
            shown = "a tensor" if isinstance(value, type(None)) else repr(given)
            raise UnsupportedError(f"{type(loss).__name__} with {option}={shown}: leave {option} out, at {value!r}")
    if loss.reduction not in ("mean", "sum"):
        raise UnsupportedError(f"{type(loss).__name__} with reduction={loss.reduction!r}: take 'mean' or 'sum'")
    return name, str(loss.reduction)
