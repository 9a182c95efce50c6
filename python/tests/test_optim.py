"""The damped rules as torch optimizers, held to the update written out."""

import backpack_run as bp
import pytest
import torch
from torch import nn

LOSS = nn.CrossEntropyLoss()


def test_a_step_is_the_damped_one(model, batch):
    x, y = batch
    q = bp.extract(model, LOSS, x, y, ["grad", "diag_ggn"])
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    weights = [parameter for parameter in model.parameters()]
    optimizer = bp.optim.Damped(model, LOSS, curvature="diag_ggn", lr=0.2, damping=0.3, l2=0.01)
    loss = optimizer.step(x, y)
    torch.testing.assert_close(loss, q.loss)
    for name, parameter in model.named_parameters():
        gradient = q["grad"][name] + (0.0 if name.endswith("bias") else 0.01 * before[name])
        curvature = q["diag_ggn"][name] + (0.0 if name.endswith("bias") else 0.01)
        torch.testing.assert_close(parameter.detach(), before[name] - 0.2 * gradient / (curvature + 0.3))
    assert all(old is new for old, new in zip(weights, model.parameters()))
    assert isinstance(optimizer, torch.optim.Optimizer)


def test_it_trains_with_schedules_and_goes_on_from_its_state(model, batch):
    x, y = batch

    def run(steps, state=None):
        optimizer = bp.optim.Damped(model, LOSS, curvature="kfac", lr=0.3, damping=0.1, inverse_every=2)
        if state is not None:
            optimizer.load_state_dict(state)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda epoch: 1.0)
        losses = []
        for _ in range(steps):
            losses.append(float(optimizer.step(x, y)))
            schedule.step()
        return losses, optimizer.state_dict()

    start = {name: value.clone() for name, value in model.state_dict().items()}
    whole, _ = run(6)
    assert whole[-1] < 0.75 * whole[0]
    model.load_state_dict(start)
    first, state = run(3)
    second, _ = run(3, state)
    assert first + second == whole

    optimizer = bp.optim.Damped(model, LOSS, lr=0.1)
    optimizer.param_groups[0]["lr"] = 0.0
    before = model[0].weight.detach().clone()
    optimizer.step(x, y)
    assert torch.equal(model[0].weight, before)
    optimizer.param_groups[0].update(lr=0.1, damping=10.0)
    optimizer.step(x, y)
    assert not torch.equal(model[0].weight, before)


def test_parameters_that_are_not_contiguous_are_stepped_too(model, batch):
    model[4].weight = nn.Parameter(torch.randn(27, 5, dtype=torch.float64).T)
    before = model[4].weight.detach().clone()
    bp.optim.Damped(model, LOSS, curvature="diag_ggn_mc").step(*batch)
    assert not torch.equal(model[4].weight, before)


def test_autograd_notices_a_step(model, batch):
    x, y = batch
    loss = LOSS(model(x), y)
    bp.optim.Damped(model, LOSS).step(x, y)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_what_cannot_be_had_is_refused(model, batch):
    x, y = batch
    for options, words in [
        ({"curvature": "adam"}, "expected one of"),
        ({"damping_schema": "trace"}, "damping_scheme"),
        ({"momentum": 1.5}, "momentum"),
        ({"averaging": "often"}, "averaging|often"),
        ({"damping": -1.0}, "damping"),
    ]:
        with pytest.raises(bp.UsageError, match=words):
            bp.optim.Damped(model, LOSS, **options).step(x, y)
    with pytest.raises(bp.UsageError, match="lr"):
        bp.optim.Damped(model, LOSS, lr=-1.0)
    nan = bp.optim.Damped(model, LOSS)
    before = model[0].weight.detach().clone()
    assert nan.step(x * float("nan"), y).isnan()
    assert torch.equal(model[0].weight, before)
    adaptive = bp.optim.Damped(model, LOSS, damping_scheme="levenberg_marquardt")
    assert float(adaptive.step(x, y)) > 0.0
