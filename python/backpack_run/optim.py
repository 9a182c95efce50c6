"""The paper's damped curvature rules as torch optimizers."""

import json
from typing import Any

import torch
from torch import Tensor, nn

from . import _losses
from ._errors import UsageError
from ._losses import Loss
from ._model import Model
from ._native import Optimizer as _Rule


class Damped(torch.optim.Optimizer):
    """Steps preconditioned by a damped curvature: theta <- theta - lr (G + (damping + l2) I)^-1 (gradient + l2 theta).

    `step(x, y)` takes curvature and gradient from one backward pass of its own, in place of `loss.backward()`; `grad` of the
    parameters is neither read nor written. `lr` and `damping` are read from the parameter group at each step, so that
    torch.optim.lr_scheduler works. All parameters of the model are updated, except those that do not affect its output.

    `curvature` is one of diag_ggn, diag_ggn_mc, kfac, kflr, kfra, ekfac and foof; `averaging` of it over steps is "none",
    "cumulative" or "ema:WEIGHT". `l2` is part of the loss, for weights, never for biases. Sampled curvatures draw `mc_samples`
    labels per sample, from a stream of `seed` and the step; the dropout masks of a model in training mode come from there too.
    Batch norm must be in evaluation mode. Further options are those of the optimizer in docs/optimizers.md: `inverse_every`,
    `momentum`, `damping_scheme`, `kfac_approx`, `others`, `clip_norm`.

    The model is exported at the first step, with its batch as the example. The memory of a step is kept for the next
    one, as with `Engine(..., keep_memory=True)`.
    """

    def __init__(
        self,
        model: nn.Module,
        loss: Loss,
        curvature: str = "kfac",
        lr: float = 0.1,
        damping: float = 0.1,
        *,
        averaging: str = "cumulative",
        l2: float = 0.0,
        mc_samples: int = 1,
        seed: int = 42,
        **options: Any,
    ) -> None:
        if not lr > 0.0:
            raise UsageError(f"lr={lr}: expected a number above 0")
        super().__init__(list(model.parameters()), {"lr": lr, "damping": damping})
        self._model = model
        self._loss = _losses.read(loss)
        self._curvature = curvature
        self._averaging = averaging
        self._l2 = l2
        self._mc_samples = mc_samples
        self._seed = seed
        self._options = options
        self._steps = 0
        self._network: Model | None = None
        self._rule: _Rule | None = None
        self._saved: dict[str, Tensor] | None = None

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        if self.param_groups:
            raise UsageError("the model's parameters are one group: a curvature spans layers")
        super().add_param_group(param_group)

    def step(self, x: Tensor, y: Tensor) -> Tensor:  # type: ignore[override]
        """Steps on the batch `x` `[N, ...]` with targets `y`, and gives its loss before the step, without l2.

        Where the loss is not finite nothing is changed.
        """
        if not isinstance(x, Tensor) or not isinstance(y, Tensor):
            raise TypeError("step(x, y) takes a batch: the curvature comes from a backward pass of its own")
        if self._network is None:
            self._network = Model(self._model, x, keep_memory=True)
        now = self._network.now()
        tensors = now.tensors()
        group = self.param_groups[0]
        if self._rule is None:
            rates = (float(group["lr"]) or 1.0, float(group["damping"]), float(self._l2))
            options = json.dumps(self._options)
            self._rule = _Rule(
                now.network, tensors, self._curvature, rates, self._averaging, self._mc_samples, options
            )
            if self._saved is not None:
                self._rule.load_state(self._saved)
                self._saved = None
        draws = (self._seed, self._steps)
        loss, _ = self._rule.step(
            now.network,
            tensors,
            (x, y),
            self._loss,
            (float(group["lr"]), float(group["damping"])),
            draws,
            any(module.training for module in self._model.modules()),
        )
        self._steps += 1
        # What autograd has saved of the parameters is no longer theirs.
        torch.autograd.graph.increment_version([tensor for tensor in tensors if isinstance(tensor, nn.Parameter)])
        return torch.tensor(loss, dtype=tensors[0].dtype)

    def state_dict(self) -> dict[str, Any]:
        """The number of steps, the estimates of curvature by name, and the parameter group."""
        saved = super().state_dict()
        curvature = self._rule.state() if self._rule is not None else self._saved
        return {**saved, "state": {"steps": self._steps, "curvature": curvature or {}}}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Goes on from the state of an optimizer of the same model and options."""
        state = state_dict["state"]
        super().load_state_dict({**state_dict, "state": {}})
        self._steps = int(state["steps"])
        self._saved = dict(state["curvature"]) or None
        self._rule = None
