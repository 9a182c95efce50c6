"""A model as the engine sees it: exported by torch.export, and computing with the model's own tensors."""

import io
import os
import traceback
import warnings
from pathlib import Path

import torch
from torch import Tensor, nn

from ._errors import UnsupportedError, UsageError
from ._native import Network


class Exported:
    """A model's network in one mode, and where the model keeps its tensors."""

    def __init__(self, model: nn.Module, x: Tensor, keep_memory: bool) -> None:
        self.network = Network(archive(model, x), keep_memory)
        self.random = self.network.random if model.training else []
        for note in self.network.notes:
            warnings.warn(f"backpack_run: {note}", stacklevel=5)
        self._places = [self._place(model, name) for name in self.network.names]

    @staticmethod
    def _place(model: nn.Module, name: str) -> tuple[nn.Module, str]:
        owner, _, leaf = name.rpartition(".")
        return model.get_submodule(owner), leaf

    def tensors(self) -> list[Tensor]:
        """Those that the model has now, in the network's order."""
        return [getattr(module, leaf) for module, leaf in self._places]


class Model:
    """A model in whatever mode it is when it is asked.

    A mode is which modules are training; each is exported when it is first met, and kept.
    """

    def __init__(self, model: nn.Module, x: Tensor, keep_memory: bool) -> None:
        if not isinstance(model, nn.Module):
            raise TypeError(f"expected an nn.Module, got {type(model).__name__}")
        # A sample of integers may be a single token.
        if not isinstance(x, Tensor) or x.dim() < (2 if x.is_floating_point() else 1) or x.shape[0] == 0:
            raise UsageError("expected an example of the model's input, a tensor [N, ...] with at least one sample")
        self.model = model
        # Of a single sample the batch axis could not be told from others of size 1.
        self._example = (x if x.shape[0] > 1 else torch.cat([x, x])).detach().to("meta")
        self._device_of_example = x.device
        self._keep_memory = keep_memory
        self._modules = list(model.modules())
        self._exported: dict[tuple[bool, ...], Exported] = {}

    def now(self) -> Exported:
        """The network in the model's present mode."""
        mode = tuple(module.training for module in self._modules)
        if mode not in self._exported:
            example = torch.zeros_like(self._example, device=self._device_of_example)
            self._exported[mode] = Exported(self.model, example, self._keep_memory)
        return self._exported[mode]


def _line(error: BaseException) -> str:
    """The line of the model's own source at which an export has failed, to be put behind a message; empty if there is none."""
    packages = [str(Path(module).parent) + os.sep for module in (torch.__file__, __file__)]
    found: BaseException | None = error
    while found is not None:
        for frame in reversed(traceback.extract_tb(found.__traceback__)):
            if not any(frame.filename.startswith(package) for package in packages):
                return f"\n  at {frame.filename}, line {frame.lineno}, in {frame.name}: {frame.line}"
        found = found.__cause__ or found.__context__
    return ""


def archive(model: nn.Module, x: Tensor) -> bytes:
    """The model as `torch.export.save` writes it."""
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            program = torch.export.export(model, (x,), strict=False)
        except Exception as error:
            told = str(error).strip().partition("\n")[0]
            raise UnsupportedError(
                f"torch.export cannot follow {type(model).__name__}: {told}{_line(error)}\nWhat depends on the values of tensors "
                "has no graph; see https://pytorch.org/docs/stable/export.html"
            ) from error
        torch.export.save(program, file)
    return file.getvalue()
