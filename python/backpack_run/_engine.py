"""Quantities of a batch, and products with curvature matrices, of a model in this process."""

from collections.abc import Iterable, Mapping, Sequence
from typing import overload

import torch
from torch import Tensor, nn

from . import _losses
from ._errors import UnsupportedError, UsageError
from ._losses import Loss
from ._model import Exported, Model
from ._quantities import Quantities

#: A tensor for each parameter, by name or in the order of `model.parameters()`; its product has the same form.
Vector = Mapping[str, Tensor] | Sequence[Tensor]
Product = dict[str, Tensor] | list[Tensor]


def extract(
    model: nn.Module,
    loss: Loss,
    x: Tensor,
    y: Tensor,
    quantities: str | Iterable[str] = "all",
    *,
    mc_samples: int = 1,
    mc_seed: int = 42,
    mc_labels: Tensor | None = None,
    scale: str = "backpack",
    train: bool = False,
    seed: int = 42,
    memory_budget: int | None = None,
) -> Quantities:
    """The quantities of one batch: an `Engine` for a single call, whose options are those of `Engine.extract`."""
    return Engine(model, loss, x, keep_memory=False).extract(
        x,
        y,
        quantities,
        mc_samples=mc_samples,
        mc_seed=mc_seed,
        mc_labels=mc_labels,
        scale=scale,
        train=train,
        seed=seed,
        memory_budget=memory_budget,
    )


class Engine:
    """A model with its extended backward pass.

    The model is exported once, by torch.export on the example `x`, a tensor `[N, ...]` on the model's device; batches may have
    any size. Each call uses the parameters and running statistics that the model has at that time, in their dtype and on their
    device, without copying them (unless they are not contiguous).

    `loss` is nn.CrossEntropyLoss(), nn.MSELoss() or nn.BCEWithLogitsLoss() with reduction "mean" or "sum", or one of
    "cross_entropy", "mse" and "bce_with_logits". Options of a loss that change it are refused.

    Calls that follow each other take the same memory again and again. With `keep_memory` an engine keeps what its last two
    calls needed, instead of returning it to the system, which would cost more than some of the arithmetic; it goes back with
    the last engine.

    Raises UnsupportedError for a model that torch.export cannot follow, or that uses an operation for which there is no layer;
    the message has the line of source.
    """

    def __init__(self, model: nn.Module, loss: Loss, x: Tensor, *, keep_memory: bool = True) -> None:
        self._loss = _losses.read(loss)
        self._model = Model(model, x, keep_memory)
        self._model.now()

    @property
    def model(self) -> nn.Module:
        """The model."""
        return self._model.model

    def extract(
        self,
        x: Tensor,
        y: Tensor,
        quantities: str | Iterable[str] = "all",
        *,
        mc_samples: int = 1,
        mc_seed: int = 42,
        mc_labels: Tensor | None = None,
        scale: str = "backpack",
        train: bool = False,
        seed: int = 42,
        memory_budget: int | None = None,
    ) -> Quantities:
        """The quantities of a batch, all from one backward pass.

        `x` is `[N, ...]`, used as it is; uint8 images are divided by 255. `y` is `[N, ...]`: integer classes of any width for
        cross-entropy, else values of the output's shape. `quantities` are names, or "all": the gradient and the ten of the
        paper's Table 1, as far as layers and memory allow.

        Sampled quantities draw `mc_samples` labels per sample from the stream of `mc_seed`; in a loop, use a new seed for each
        step. `mc_labels`, `[M, N, ...]`, are used instead where given. `scale="paper"` is the normalisation of the paper's
        Table 1. A model in training mode that has dropout or batch norm is refused unless `train` is set; `seed` then decides
        the masks. `memory_budget` bounds the memory of the pass, in bytes; the default is three quarters of what is free.

        Raises UsageError for arguments that do not fit together and UnsupportedError for what is not possible, before anything
        is computed.
        """
        names = [quantities] if isinstance(quantities, str) else list(quantities)
        now = self._now(train)
        found = now.network.extract(
            now.tensors(),
            (x, y, mc_labels),
            self._loss,
            names,
            scale=scale,
            mc_samples=_count(mc_samples),
            mc_seed=mc_seed,
            training=seed if train else None,
            budget=memory_budget,
        )
        return Quantities(*found)

    @overload
    def ggn_vector_product(
        self, x: Tensor, y: Tensor, vectors: Mapping[str, Tensor], *, train: bool = False, seed: int = 42
    ) -> dict[str, Tensor]: ...
    @overload
    def ggn_vector_product(
        self, x: Tensor, y: Tensor, vectors: Sequence[Tensor], *, train: bool = False, seed: int = 42
    ) -> list[Tensor]: ...
    def ggn_vector_product(
        self, x: Tensor, y: Tensor, vectors: Vector, *, train: bool = False, seed: int = 42
    ) -> Product:
        """The generalised Gauss-Newton matrix of the batch's loss times a vector, over all parameters.

        `vectors` has a tensor for each parameter, by name or in the order of `model.parameters()`; so has the result.
        """
        return self._product("ggn", x, y, vectors, train=train, seed=seed)

    @overload
    def hessian_vector_product(
        self, x: Tensor, y: Tensor, vectors: Mapping[str, Tensor], *, train: bool = False, seed: int = 42
    ) -> dict[str, Tensor]: ...
    @overload
    def hessian_vector_product(
        self, x: Tensor, y: Tensor, vectors: Sequence[Tensor], *, train: bool = False, seed: int = 42
    ) -> list[Tensor]: ...
    def hessian_vector_product(
        self, x: Tensor, y: Tensor, vectors: Vector, *, train: bool = False, seed: int = 42
    ) -> Product:
        """The Hessian of the batch's loss times a vector; arguments as for `ggn_vector_product`."""
        return self._product("hessian", x, y, vectors, train=train, seed=seed)

    @overload
    def fisher_vector_product(
        self,
        x: Tensor,
        y: Tensor,
        vectors: Mapping[str, Tensor],
        *,
        mc_samples: int = 1,
        mc_seed: int = 42,
        mc_labels: Tensor | None = None,
        train: bool = False,
        seed: int = 42,
    ) -> dict[str, Tensor]: ...
    @overload
    def fisher_vector_product(
        self,
        x: Tensor,
        y: Tensor,
        vectors: Sequence[Tensor],
        *,
        mc_samples: int = 1,
        mc_seed: int = 42,
        mc_labels: Tensor | None = None,
        train: bool = False,
        seed: int = 42,
    ) -> list[Tensor]: ...
    def fisher_vector_product(
        self,
        x: Tensor,
        y: Tensor,
        vectors: Vector,
        *,
        mc_samples: int = 1,
        mc_seed: int = 42,
        mc_labels: Tensor | None = None,
        train: bool = False,
        seed: int = 42,
    ) -> Product:
        """The Fisher matrix, estimated with the labels that `extract` draws too, times a vector; see `ggn_vector_product`."""
        return self._product(
            "fisher", x, y, vectors, mc_samples=mc_samples, mc_seed=mc_seed, mc_labels=mc_labels, train=train, seed=seed
        )

    def _product(
        self,
        matrix: str,
        x: Tensor,
        y: Tensor,
        vectors: Vector,
        *,
        mc_samples: int = 1,
        mc_seed: int = 42,
        mc_labels: Tensor | None = None,
        train: bool,
        seed: int,
    ) -> Product:
        now = self._now(train)
        names = now.network.parameters
        # Each tensor under its first name, as the network has it.
        named = dict(self.model.named_parameters())
        if isinstance(vectors, Mapping):
            given = dict(vectors)
        elif len(vectors) == len(named):
            given = dict(zip(named, vectors))
        else:
            raise UsageError(f"a vector of {len(vectors)} tensors; the model has {len(named)} parameters")
        if unknown := [name for name in given if name not in named]:
            raise UsageError(f"`{unknown[0]}` is no parameter of the model")
        if missing := [name for name in names if name not in given]:
            raise UsageError(f"the vector has no `{missing[0]}`")
        products, _ = now.network.products(
            now.tensors(),
            (x, y, mc_labels),
            self._loss,
            matrix,
            [[given[name] for name in names]],
            mc_samples=_count(mc_samples),
            mc_seed=mc_seed,
            training=seed if train else None,
        )
        found = dict(zip(names, products[0]))
        # What takes no part in the output has no curvature.
        result = {name: found[name] if name in found else torch.zeros_like(named[name]) for name in given}
        return result if isinstance(vectors, Mapping) else [result[name] for name in named]

    def _now(self, train: bool) -> Exported:
        now = self._model.now()
        if train and not self.model.training:
            raise UsageError("train=True, and the model is in evaluation mode: call model.train() first")
        if now.random and not train:
            layers = ", ".join(now.random[:3]) + (", .." if len(now.random) > 3 else "")
            raise UnsupportedError(
                f"the model is in training mode, in which {layers} would change what it computes: call model.eval() first, or "
                "give train=True"
            )
        return now


def _count(mc_samples: int) -> int:
    if mc_samples < 1:
        raise UsageError(f"mc_samples={mc_samples}: expected 1 or more")
    return mc_samples
