"""Products with curvature matrices, held to automatic differentiation."""

import backpack_run as bp
import pytest
import torch
from torch import nn
from torch.func import functional_call, hessian


def test_products_are_those_of_the_matrices(batch):
    x, y = batch
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 3), nn.Tanh(), nn.Linear(3, 4)).double()
    loss = nn.CrossEntropyLoss()
    engine = bp.Engine(model, loss, x)
    parameters = dict(model.named_parameters())
    vector = {name: torch.randn_like(value) for name, value in parameters.items()}
    flat = torch.cat([value.flatten() for value in vector.values()])

    def of(values):
        return loss(functional_call(model, values, x), y)

    blocks = hessian(of)({name: value.detach() for name, value in parameters.items()})
    matrix = torch.cat(
        [
            torch.cat([blocks[a][b].reshape(parameters[a].numel(), -1) for b in parameters], dim=1)
            for a in parameters
        ]
    )
    product = engine.hessian_vector_product(x, y, vector)
    torch.testing.assert_close(torch.cat([value.flatten() for value in product.values()]), matrix @ flat)

    rows = []
    for value in model(x).flatten():
        gradient = torch.autograd.grad(value, list(parameters.values()), retain_graph=True)
        rows.append(torch.cat([part.flatten() for part in gradient]))
    jacobian = torch.stack(rows).view(6, 4, -1)
    p = model(x).softmax(1)
    at_output = torch.diag_embed(p) - p.unsqueeze(2) * p.unsqueeze(1)
    ggn = torch.einsum("ncp,ncd,ndq->pq", jacobian, at_output, jacobian) / 6
    product = engine.ggn_vector_product(x, y, list(vector.values()))
    torch.testing.assert_close(torch.cat([value.flatten() for value in product]), ggn @ flat)

    labels = torch.randint(4, (2, 6))
    product = engine.fisher_vector_product(x, y, vector, mc_labels=labels)
    signals = (p.unsqueeze(0) - nn.functional.one_hot(labels, 4)) / 12**0.5
    rows = torch.einsum("ncp,mnc->mnp", jacobian, signals).flatten(0, 1)
    torch.testing.assert_close(torch.cat([value.flatten() for value in product.values()]), rows.T @ (rows @ flat))

    # The labels are those that the quantities of the same seed are made with.
    drawn = engine.extract(x, y, "kfac", mc_samples=5, mc_seed=3).mc_labels
    one = engine.fisher_vector_product(x, y, vector, mc_samples=5, mc_seed=3)
    two = engine.fisher_vector_product(x, y, vector, mc_labels=drawn)
    for name in vector:
        torch.testing.assert_close(one[name], two[name], rtol=0, atol=0)


def test_vectors_that_do_not_fit_are_refused(model, batch):
    x, y = batch
    engine = bp.Engine(model, nn.CrossEntropyLoss(), x)
    vector = {name: torch.zeros_like(value) for name, value in model.named_parameters()}
    with pytest.raises(bp.UsageError, match="2 tensors"):
        engine.ggn_vector_product(x, y, [torch.zeros(1), torch.zeros(1)])
    with pytest.raises(bp.UsageError, match="`more`"):
        engine.ggn_vector_product(x, y, {**vector, "more": torch.zeros(1)})
    with pytest.raises(bp.UsageError, match="0.bias"):
        engine.ggn_vector_product(x, y, {**vector, "0.bias": torch.zeros(7, dtype=torch.float64)})
    del vector["0.bias"]
    with pytest.raises(bp.UsageError, match="no `0.bias`"):
        engine.ggn_vector_product(x, y, vector)
