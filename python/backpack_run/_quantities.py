"""What an extraction gives."""

from typing import Any

from torch import Tensor


class Quantities(dict[str, dict[str, Any]]):
    """Quantities by name, each by PyTorch's parameter names: `q["variance"]["0.weight"]`, `q["kfac"]["0.weight"]["A"]`.

    Each entry is a tensor, or for Kronecker-factored quantities a dict of factors: `A`, `B`, `eigenvalues`.

    Shapes, with `*p` the parameter's and N the batch's size: `grad`, `sum_grad_squared`, `variance` and the diagonals `[*p]`;
    `batch_grad` and the batch diagonals `[N, *p]`; `batch_l2` `[N]`; `sqrt_ggn` `[C, N, *p]`; `sqrt_ggn_mc` `[M, N, *p]`.
    docs/extract.md lists all of them.
    """

    #: The loss, without any regulariser; it has no dimensions.
    loss: Tensor
    #: The model's output, `[N, ...]`.
    output: Tensor
    #: The labels that sampled quantities used, `[M, N, ...]`; None where there was none.
    mc_labels: Tensor | None
    #: What was left out, with the reason: a quantity of `"all"`, or `QUANTITY.PARAMETER`.
    skipped: dict[str, str]
    #: `scale`, `reduction`, `mc_samples`, `mc_seed`, `dtype`, `schema_version`, as in the files of `backpack-run extract`.
    metadata: dict[str, str]

    def __init__(
        self,
        loss: Tensor,
        output: Tensor,
        mc_labels: Tensor | None,
        taken: list[tuple[str, str, str, Tensor]],
        skipped: list[tuple[str, str]],
        metadata: dict[str, str],
    ) -> None:
        super().__init__()
        self.loss = loss
        self.output = output
        self.mc_labels = mc_labels
        self.skipped = dict(skipped)
        self.metadata = metadata
        for quantity, parameter, factor, tensor in taken:
            of_quantity = self.setdefault(quantity, {})
            if factor:
                of_quantity.setdefault(parameter, {})[factor] = tensor
            else:
                of_quantity[parameter] = tensor
