"""Quantities of a batch, held to automatic differentiation."""

import copy
import gc
import os
import signal
import subprocess
import sys
import threading
import time

import backpack_run as bp
import pytest
import torch
from conftest import samples_gradients
from torch import nn

CROSS_ENTROPY = nn.CrossEntropyLoss()


def test_first_order_quantities_are_those_of_autograd(model, batch):
    x, y = batch
    q = bp.extract(model, CROSS_ENTROPY, x, y, ["grad", "batch_grad", "batch_l2", "sum_grad_squared", "variance"])
    torch.testing.assert_close(q.loss, CROSS_ENTROPY(model(x), y))
    torch.testing.assert_close(q.output, model(x))
    for name, each in samples_gradients(model, x, y).items():
        each = each / len(x)
        torch.testing.assert_close(q["grad"][name], each.sum(0))
        torch.testing.assert_close(q["batch_grad"][name], each)
        torch.testing.assert_close(q["batch_l2"][name], each.flatten(1).square().sum(1))
        torch.testing.assert_close(q["sum_grad_squared"][name], each.square().sum(0))
        torch.testing.assert_close(q["variance"][name], each.var(0, correction=0))
    assert q.skipped == {} and q.mc_labels is None and q.metadata["dtype"] == "f64"


def test_curvature_is_that_of_autograd(model, batch):
    x, y = batch
    q = bp.extract(model, CROSS_ENTROPY, x, y, ["diag_ggn", "kflr", "sqrt_ggn"])
    parameters = dict(model.named_parameters())
    output = model(x)
    hessian = torch.stack([torch.diag(p) - torch.outer(p, p) for p in output.softmax(1)]) / len(x)
    for name, parameter in parameters.items():
        rows = [torch.autograd.grad(value, parameter, retain_graph=True)[0].flatten() for value in output.flatten()]
        jacobian = torch.stack(rows).view(len(x), 4, -1)
        ggn = torch.einsum("ncp,ncd,ndp->p", jacobian, hessian, jacobian).view_as(parameter)
        torch.testing.assert_close(q["diag_ggn"][name], ggn)
        root = q["sqrt_ggn"][name].flatten(2)
        torch.testing.assert_close(torch.einsum("cnp,cnp->p", root, root).view_as(parameter), ggn)
    # Of the last layer, KFLR's factors of one sample make the block itself.
    one = bp.extract(model, CROSS_ENTROPY, x[:1], y[:1], "kflr")["kflr"]["6.weight"]
    inside = model[:6](x[:1])
    torch.testing.assert_close(one["A"], inside.T @ inside)
    torch.testing.assert_close(one["B"], hessian[0] * len(x))
    assert set(q["kflr"]["6.bias"]) == {"B"}


def test_sampled_quantities_share_labels_that_can_be_given_back(model, batch):
    x, y = batch
    engine = bp.Engine(model, CROSS_ENTROPY, x)
    q = engine.extract(x, y, ["kfac", "diag_ggn_mc"], mc_samples=3, mc_seed=7)
    assert q.mc_labels.shape == (3, 6)
    again = engine.extract(x, y, ["kfac"], mc_labels=q.mc_labels.to(torch.int32))
    torch.testing.assert_close(again["kfac"]["4.weight"]["B"], q["kfac"]["4.weight"]["B"], rtol=0, atol=0)
    other = engine.extract(x, y, ["diag_ggn_mc"], mc_samples=3, mc_seed=8)
    assert not torch.equal(other["diag_ggn_mc"]["4.weight"], q["diag_ggn_mc"]["4.weight"])


def test_each_call_takes_the_parameters_that_the_model_has_by_then(model, batch):
    x, y = batch
    engine = bp.Engine(model, CROSS_ENTROPY, x)
    before = engine.extract(x, y, "grad")["grad"]["6.weight"].clone()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    CROSS_ENTROPY(model(x), y).backward()
    optimizer.step()
    torch.testing.assert_close(before, model[6].weight.grad)
    optimizer.zero_grad()
    CROSS_ENTROPY(model(x), y).backward()
    torch.testing.assert_close(engine.extract(x, y, "grad")["grad"]["6.weight"], model[6].weight.grad)
    # New tensors, another type, parameters that are not contiguous.
    model.load_state_dict({name: 2 * value for name, value in model.state_dict().items()}, assign=True)
    torch.testing.assert_close(engine.extract(x, y, "grad").output, model(x))
    model[4].weight = nn.Parameter(torch.randn(27, 5, dtype=torch.float64).T)
    torch.testing.assert_close(engine.extract(x, y, "grad").output, model(x))
    model.float()
    torch.testing.assert_close(engine.extract(x.float(), y, "grad").output, model(x.float()))
    with pytest.raises(bp.UsageError, match="float64 on cpu.*float32 on cpu"):
        engine.extract(x, y, "grad")
    # Batches of another size, targets of another width.
    assert engine.extract(x[:3].float(), y[:3].to(torch.uint8), "batch_grad")["batch_grad"]["0.weight"].shape[0] == 3


def test_nothing_is_copied_and_inputs_stay_as_they_are(model, batch):
    x, y = batch
    kept = copy.deepcopy(model.state_dict()), x.clone(), y.clone()
    q = bp.extract(model, CROSS_ENTROPY, x, y)
    for name, value in model.state_dict().items():
        assert torch.equal(value, kept[0][name])
    assert torch.equal(x, kept[1]) and torch.equal(y, kept[2])
    del model, x
    gc.collect()
    # Results live by themselves, and are tensors like any other.
    assert q["variance"]["0.weight"].add_(1.0).isfinite().all()


@pytest.mark.parametrize(
    "loss, words",
    [
        (nn.CrossEntropyLoss(label_smoothing=0.1), "label_smoothing=0.1"),
        (nn.CrossEntropyLoss(weight=torch.ones(4)), "weight=a tensor"),
        (nn.CrossEntropyLoss(ignore_index=0), "ignore_index=0"),
        (nn.BCEWithLogitsLoss(pos_weight=torch.ones(4)), "pos_weight"),
        (nn.CrossEntropyLoss(reduction="none"), "reduction='none'"),
        (nn.NLLLoss(), "NLLLoss: expected nn.CrossEntropyLoss"),
        ("hinge", "'hinge'"),
    ],
)
def test_options_of_a_loss_that_change_it_are_refused_by_name(model, batch, loss, words):
    with pytest.raises(bp.UnsupportedError, match=words):
        bp.Engine(model, loss, batch[0])


def test_other_losses_and_a_sum(model, batch):
    x, _ = batch
    targets = torch.randn(6, 4, dtype=torch.float64)
    for loss, y in [(nn.MSELoss(), targets), (nn.BCEWithLogitsLoss(reduction="sum"), targets.sigmoid())]:
        q = bp.extract(model, loss, x, y, "grad")
        value = loss(model(x), y)
        torch.testing.assert_close(q.loss, value)
        (gradient,) = torch.autograd.grad(value, model[0].weight)
        torch.testing.assert_close(q["grad"]["0.weight"], gradient)


def test_what_is_wrong_is_said_before_anything_is_computed(model, batch):
    x, y = batch
    engine = bp.Engine(model, CROSS_ENTROPY, x)
    for call, words in [
        (lambda: engine.extract(x, y, "varianze"), "did you mean `?variance"),
        (lambda: engine.extract(x, y + 9, "grad"), "class"),
        (lambda: engine.extract(x[:, :, :7], y, "grad"), r"\[1, 7, 8\]"),
        (lambda: engine.extract(x, y, "grad", mc_samples=0), "mc_samples=0"),
        (lambda: engine.extract(x, y, "grad", scale="big"), "scale"),
        (lambda: engine.extract(x, y, "grad", memory_budget=1), "memory"),
        (lambda: bp.Engine(model, CROSS_ENTROPY, x[0, 0, 0]), "example"),
    ]:
        with pytest.raises(ValueError, match=words):
            call()
    with pytest.raises(TypeError, match="Tensor"):
        engine.extract([1.0], y, "grad")


def test_a_mode_that_changes_what_is_computed_is_refused_or_asked_for(batch):
    x, y = batch
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 4)).double()
    engine = bp.Engine(model, CROSS_ENTROPY, x)
    with pytest.raises(bp.UnsupportedError, match=r"batch_norm1d.*model.eval\(\)"):
        engine.extract(x, y, "grad")
    model.eval()
    q = engine.extract(x, y, ["grad", "variance"])
    torch.testing.assert_close(q.output, model(x))
    with pytest.raises(bp.UsageError, match="evaluation mode"):
        engine.extract(x, y, "grad", train=True)
    # Fine-tuning: dropout is on, the norm is not.
    model.train()
    model[2].eval()
    dropped = engine.extract(x, y, "batch_grad", train=True, seed=1)
    assert not torch.equal(dropped.output, q.output)
    torch.testing.assert_close(dropped.output, engine.extract(x, y, "grad", train=True, seed=1).output, rtol=0, atol=0)


def test_a_model_without_a_graph_is_refused_with_its_line(batch):
    class Sorted(nn.Module):
        def forward(self, x):
            return torch.sort(x.flatten(1))[0]

    with pytest.raises(bp.UnsupportedError, match="(?s)sort.*test_extract.py"):
        bp.Engine(Sorted(), CROSS_ENTROPY, batch[0])

    class Branching(nn.Module):
        def forward(self, x):
            return x.flatten(1) if x.sum() > 0 else -x.flatten(1)

    with pytest.raises(bp.UnsupportedError, match=r"(?s)cannot follow Branching.*test_extract.py, line \d+, in forward: .*x.sum\(\)"):
        bp.Engine(Branching(), CROSS_ENTROPY, batch[0])


def test_tied_and_unused_parameters(batch):
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.unused = nn.Linear(64, 64), nn.Linear(3, 3)
            self.two = nn.Linear(64, 64)
            self.two.weight = self.one.weight

        def forward(self, x):
            return self.two(torch.tanh(self.one(x.flatten(1))))

    x, y = batch
    model = Tied().double()
    with pytest.warns(UserWarning, match="unused.weight"):
        engine = bp.Engine(model, CROSS_ENTROPY, x)
    q = engine.extract(x, y, ["grad", "kfac"])
    (gradient,) = torch.autograd.grad(CROSS_ENTROPY(model(x), y), model.one.weight)
    torch.testing.assert_close(q["grad"]["one.weight"], gradient)
    assert "several layers" in q.skipped["kfac.one.weight"] and list(q["grad"]) == ["one.weight", "one.bias", "two.bias"]


def test_a_sample_may_be_a_single_token():
    model = nn.Sequential(nn.Embedding(5, 3), nn.Linear(3, 4)).double()
    x, y = torch.tensor([0, 1, 4, 1, 2, 0]), torch.tensor([3, 0, 1, 1, 2, 2])
    q = bp.extract(model, CROSS_ENTROPY, x, y, ["batch_grad"])
    for i in range(len(x)):
        gradients = torch.autograd.grad(CROSS_ENTROPY(model(x[i : i + 1]), y[i : i + 1]) / len(x), model.parameters())
        for name, gradient in zip(q["batch_grad"], gradients):
            torch.testing.assert_close(q["batch_grad"][name][i], gradient)


def test_python_runs_while_it_computes():
    model = nn.Sequential(nn.Flatten(), nn.Linear(256, 1024), nn.Sigmoid(), nn.Linear(1024, 100))
    x, y = torch.randn(256, 256), torch.randint(100, (256,))
    engine = bp.Engine(model, CROSS_ENTROPY, x)
    ticks, done = [], threading.Event()

    def count():
        while not done.is_set():
            ticks.append(time.perf_counter())
            time.sleep(0.001)

    other = threading.Thread(target=count)
    other.start()
    begun = time.perf_counter()
    engine.extract(x, y, "diag_ggn")
    ended = time.perf_counter()
    done.set()
    other.join()
    during = [tick for tick in ticks if begun < tick < ended]
    assert len(during) > (ended - begun) / 0.1, f"{len(during)} ticks in {ended - begun:.3f} s"


def test_ctrl_c_ends_a_computation():
    model = nn.Sequential(nn.Flatten(), nn.Linear(256, 2048), nn.Sigmoid(), nn.Linear(2048, 2048), nn.Sigmoid(), nn.Linear(2048, 100))
    x, y = torch.randn(512, 256), torch.randint(100, (512,))
    engine = bp.Engine(model, CROSS_ENTROPY, x)
    timer = threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT))
    begun = time.perf_counter()
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        # It would take minutes.
        engine.extract(x, y, "diag_hessian")
    assert time.perf_counter() - begun < 30.0
    assert engine.extract(x[:2], y[:2], "grad").loss.isfinite()


def test_a_thousand_calls_leak_nothing(model, batch):
    x, y = batch
    engine = bp.Engine(model, CROSS_ENTROPY, x)

    def resident():
        gc.collect()
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def calls(count):
        for _ in range(count):
            engine.extract(x, y, ["batch_grad", "kfac"])
            with pytest.raises(bp.UsageError):
                engine.extract(x, y, "nothing")

    calls(200)
    before = resident()
    calls(800)
    assert resident() - before < 2**20


KEEPING = """
import os, sys, torch, backpack_run as bp

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

model, x, y = torch.nn.Linear(1000, 1000), torch.randn(64, 1000), torch.zeros(64, dtype=torch.long)
engine = bp.Engine(model, "cross_entropy", x, keep_memory=sys.argv[1] == "keep")
engine.extract(x[:1], y[:1], "batch_grad")
before = resident()
engine.extract(x, y, "batch_grad")
after = resident()
for _ in range(3):
    engine.extract(x[:1], y[:1], "batch_grad")
later = resident()
held = engine.extract(x, y, "batch_grad")
engine.extract(x, y, "batch_grad")
del engine
last = resident()
assert held["batch_grad"]["weight"].shape == (64, 1000, 1000)
del held
print(*(round((now - before) / 256e6) for now in (after, later, last, resident())))
"""


@pytest.mark.parametrize("asked, told", [("keep", "1 0 1 0"), ("no", "0 0 1 0")])
def test_memory_is_kept_for_the_next_calls_and_goes_with_the_engine(asked, told):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    run = subprocess.run([sys.executable, "-c", KEEPING, asked], env=environment, capture_output=True, text=True, check=True)
    # In units of individual gradients of 256 MB: after a call, after three small ones, with one result left when the engine
    # goes, and without it.
    assert run.stdout.strip() == told, run.stdout
