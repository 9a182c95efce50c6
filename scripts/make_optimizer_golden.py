#!/usr/bin/env python3
"""Makes tests/golden/optimizers.safetensors: parameters after 50 steps of each optimizer, in float64.

usage: scripts/make_optimizer_golden.py [--out tests/golden/optimizers.safetensors]

Needs torch 2.13 and safetensors. The networks are tests/golden/optimizers.toml and optimizers_norms.toml. SGD, Adam, AdamW and Muon are torch.optim's,
Muon's iteration in float64 instead of bfloat16; clipping is torch.nn.utils.clip_grad_norm_. Shampoo (Gupta, Koren and
Singer, 2018, algorithm 1) and SOAP (Vyas et al., 2024, algorithm 3, with what their program does at its first step and at
a change of basis) are written out here. Names are x/BATCH, y/BATCH, NET/w/PARAMETER and NET/CASE/STEPS/PARAMETER, with
NET plain or norms; the metadata's `cases` holds optimizer, learning rate, l2 and options of each case as JSON.
"""

import argparse
import json
import math
import pathlib

import torch
from safetensors.torch import save_file
from torch import nn

torch.set_default_dtype(torch.float64)
OUT = pathlib.Path(__file__).parent.parent / "tests" / "golden" / "optimizers.safetensors"
STEPS, BATCHES, SAMPLES = 50, 5, 16
KEPT = (3, STEPS)


def with_norms():
    return nn.Sequential(
        nn.Conv2d(2, 4, (3, 2)),
        nn.GroupNorm(2, 4),
        nn.Tanh(),
        nn.AvgPool2d(2),
        nn.Conv2d(4, 4, 2),
        nn.Flatten(),
        nn.LayerNorm(4),
        nn.Linear(4, 3),
        nn.Tanh(),
        nn.Linear(3, 2),
    )


def plain():
    return nn.Sequential(
        nn.Conv2d(2, 3, (3, 2)),
        nn.Tanh(),
        nn.AvgPool2d(2),
        nn.Conv2d(3, 4, 2),
        nn.Sigmoid(),
        nn.Flatten(),
        nn.Linear(4, 3),
        nn.Tanh(),
        nn.Linear(3, 2),
    )


class Written(torch.optim.Optimizer):
    """An optimizer that is written out: `update(parameter, gradient, state, options)` changes the parameter."""

    def __init__(self, parameters, **options):
        super().__init__(parameters, options)

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for parameter in group["params"]:
                state = self.state[parameter]
                state["step"] = state.get("step", -1) + 1
                self.update(parameter, parameter.grad, state, group)


def power(matrix, exponent):
    values, vectors = torch.linalg.eigh(matrix)
    return vectors @ torch.diag(values**exponent) @ vectors.T


class Shampoo(Written):
    def update(self, parameter, gradient, state, options):
        g = gradient.reshape(len(gradient), -1)
        vector = gradient.dim() == 1
        if state["step"] == 0:
            state["left"] = options["epsilon"] * torch.eye(g.shape[0])
            state["right"] = options["epsilon"] * torch.eye(g.shape[1])
        state["left"] = state["left"] + g @ g.T
        state["right"] = state["right"] + g.T @ g
        if state["step"] % options["inverse_every"] == 0:
            state["left_root"] = power(state["left"], -1 / 2 if vector else -1 / 4)
            state["right_root"] = torch.eye(1) if vector else power(state["right"], -1 / 4)
        step = state["left_root"] @ g @ state["right_root"]
        parameter -= options["lr"] * step.reshape(parameter.shape)


def along(tensor, matrices, transposed):
    """Every axis that has a matrix multiplied by it, or by its transpose."""
    for axis, matrix in enumerate(matrices):
        if matrix is not None:
            matrix = matrix.T if transposed else matrix
            tensor = torch.movedim(torch.tensordot(matrix, tensor, dims=([1], [axis])), 0, axis)
    return tensor


class Soap(Written):
    def update(self, parameter, gradient, state, options):
        beta1, beta2 = options["betas"]
        shampoo_beta = options["shampoo_beta"] if options["shampoo_beta"] is not None else beta2
        g = gradient
        if options["merge_dims"] and g.dim() > 1:
            g = g.reshape(self.merged(list(g.shape), options["max_precond_dim"]))
        rotated = gradient.dim() > 1 or options["precondition_1d"]
        axes = [axis if rotated and size <= options["max_precond_dim"] else None for axis, size in enumerate(g.shape)]

        def moments():
            matrices = []
            for axis in axes:
                if axis is None:
                    matrices.append(None)
                else:
                    rows = torch.movedim(g, axis, 0).reshape(g.shape[axis], -1)
                    matrices.append(rows @ rows.T)
            return matrices

        if state["step"] == 0:
            state["moments"] = [None if m is None else (1 - shampoo_beta) * m for m in moments()]
            decomposed = [None if m is None else torch.linalg.eigh(m)[1].flip(1) for m in state["moments"]]
            state["basis"] = decomposed
            state["first"], state["second"] = torch.zeros_like(g), torch.zeros_like(g)
            return
        t = state["step"]
        inside = along(g, state["basis"], True)
        state["first"] = beta1 * state["first"] + (1 - beta1) * inside
        state["second"] = beta2 * state["second"] + (1 - beta2) * inside**2
        size = options["lr"]
        if options["correct_bias"]:
            size *= math.sqrt(1 - beta2**t) / (1 - beta1**t)
        step = along(state["first"] / (state["second"].sqrt() + options["eps"]), state["basis"], False)
        if options["normalize_grads"]:
            step = step / (1e-30 + (step**2).mean().sqrt())
        parameter -= size * step.reshape(parameter.shape)
        parameter *= 1 - options["lr"] * options["weight_decay"]
        for axis, new in enumerate(moments()):
            if new is not None:
                state["moments"][axis] = shampoo_beta * state["moments"][axis] + (1 - shampoo_beta) * new
        if t % options["precondition_frequency"] == 0:
            outside = along(state["first"], state["basis"], False)
            for axis, moment in enumerate(state["moments"]):
                if moment is not None:
                    basis = state["basis"][axis]
                    order = torch.argsort(torch.diag(basis.T @ moment @ basis), descending=True)
                    state["second"] = state["second"].index_select(axis, order)
                    state["basis"][axis] = torch.linalg.qr(moment @ basis[:, order])[0]
            state["first"] = along(outside, state["basis"], True)

    @staticmethod
    def merged(shape, longest):
        """Neighbouring axes are one while that is no longer than `longest`."""
        groups = [1]
        for size in shape:
            if groups[-1] * size <= longest:
                groups[-1] *= size
            elif groups[-1] > 1:
                groups.append(size)
            else:
                groups[-1:] = [size, 1]
        return [size for size in groups if size > 1] or [1]


def muon(net, lr, **options):
    """Muon for the matrices `[out, rest]` of all layers but the last, AdamW for the rest."""
    parameters = dict(net.named_parameters())
    last = f"{len(net) - 1}."
    matrices = {name: p for name, p in parameters.items() if p.dim() > 1 and not name.startswith(last)}
    flat = {name: torch.zeros(len(p), p.numel() // len(p), requires_grad=True) for name, p in matrices.items()}
    by_muon = torch.optim.Muon(list(flat.values()), lr=lr, **options)
    others = [p for name, p in parameters.items() if name not in matrices]
    by_adamw = torch.optim.AdamW(others, lr=lr, weight_decay=options.get("weight_decay", 0.1))

    class Both:
        param_groups = by_muon.param_groups + by_adamw.param_groups

        @staticmethod
        @torch.no_grad()
        def step():
            for name, p in matrices.items():
                flat[name].copy_(p.flatten(1))
                flat[name].grad = p.grad.flatten(1)
            in_bfloat16 = torch.Tensor.bfloat16
            torch.Tensor.bfloat16 = torch.Tensor.clone
            by_muon.step()
            torch.Tensor.bfloat16 = in_bfloat16
            for name, p in matrices.items():
                p.copy_(flat[name].reshape(p.shape))
            by_adamw.step()

    return Both


def soap(net, lr, **options):
    defaults = {
        "betas": (0.95, 0.95),
        "shampoo_beta": None,
        "eps": 1e-8,
        "weight_decay": 0.01,
        "precondition_frequency": 10,
        "max_precond_dim": 10000,
        "merge_dims": False,
        "precondition_1d": False,
        "normalize_grads": False,
        "correct_bias": True,
    }
    return Soap(net.parameters(), lr=lr, **(defaults | options))


MAKERS = {
    "sgd": lambda net, lr, **options: torch.optim.SGD(net.parameters(), lr=lr, **options),
    "momentum": lambda net, lr, **options: torch.optim.SGD(net.parameters(), lr=lr, **({"momentum": 0.9} | options)),
    "adam": lambda net, lr, **options: torch.optim.Adam(net.parameters(), lr=lr, **options),
    "adamw": lambda net, lr, **options: torch.optim.AdamW(net.parameters(), lr=lr, **options),
    "muon": muon,
    "soap": soap,
    "shampoo": lambda net, lr, **options: Shampoo(
        net.parameters(), lr=lr, **({"epsilon": 1e-4, "inverse_every": 1} | options)
    ),
}

COSINE = {"cosine": {"warmup": 0.1, "end": 0.05}}
FALLING = {"steps": {"at": [0.5, 0.75], "factor": 0.1}}
CASES = {
    "sgd_clipped": ("sgd", 0.3, 0.1, {"clip_norm": 0.2}),
    "momentum": ("momentum", 0.05, 0.1, {}),
    "momentum_half": ("momentum", 0.05, 0.0, {"momentum": 0.5, "clip_norm": 0.3}),
    "nesterov": ("momentum", 0.05, 0.1, {"nesterov": True, "schedule": COSINE}),
    "adam": ("adam", 0.01, 0.1, {}),
    "adam_options": ("adam", 0.01, 0.1, {"betas": [0.8, 0.95], "eps": 1e-3}),
    "adamw": ("adamw", 0.01, 0.0, {}),
    "adamw_options": (
        "adamw",
        0.01,
        0.1,
        {"betas": [0.8, 0.95], "eps": 1e-4, "weight_decay": 0.3, "schedule": FALLING, "clip_norm": 0.3},
    ),
    "muon": ("muon", 0.02, 0.0, {}),
    "muon_options": (
        "muon",
        0.02,
        0.1,
        {
            "momentum": 0.8,
            "nesterov": False,
            "weight_decay": 0.3,
            "ns_coefficients": [3.0, -3.2, 1.2],
            "ns_steps": 3,
            "eps": 1e-3,
            "adjust_lr_fn": "match_rms_adamw",
            "schedule": COSINE,
            "clip_norm": 0.3,
        },
    ),
    "soap": ("soap", 0.01, 0.0, {}),
    "soap_options": (
        "soap",
        0.01,
        0.1,
        {
            "betas": [0.9, 0.98],
            "shampoo_beta": 0.8,
            "eps": 1e-4,
            "weight_decay": 0.2,
            "precondition_frequency": 3,
            "max_precond_dim": 5,
            "merge_dims": True,
            "correct_bias": False,
            "schedule": FALLING,
        },
    ),
    "soap_vectors": (
        "soap",
        0.01,
        0.0,
        {"max_precond_dim": 2, "precondition_1d": True, "normalize_grads": True, "clip_norm": 0.3},
    ),
    "shampoo": ("shampoo", 0.1, 0.0, {}),
    "shampoo_options": ("shampoo", 0.1, 0.1, {"epsilon": 0.01, "inverse_every": 4, "clip_norm": 0.3}),
}


def factor(schedule, step):
    """The learning rate of a step as a factor of the given one."""
    if schedule is None:
        return 1.0
    if "cosine" in schedule:
        warm, end = schedule["cosine"]["warmup"] * STEPS, schedule["cosine"]["end"]
        if step < warm:
            return (step + 1) / warm
        return end + (1 - end) * (1 + math.cos(math.pi * (step - warm) / (STEPS - warm))) / 2
    return schedule["steps"]["factor"] ** sum(step >= place * STEPS for place in schedule["steps"]["at"])


NETWORKS = {"plain": plain, "norms": with_norms}
# What is trained with normalisations too: every optimizer once.
WITH_NORMS = ["sgd_clipped", "nesterov", "adam", "adamw_options", "muon_options", "soap_options", "shampoo"]


def train(net_name, case, start, batches):
    name, lr, l2, options = CASES[case]
    options = dict(options)
    schedule, clip_norm = options.pop("schedule", None), options.pop("clip_norm", None)
    net = NETWORKS[net_name]()
    net.load_state_dict(start)
    optimizer = MAKERS[name](net, lr, **options)
    kept = {}
    for step in range(STEPS):
        x, y = batches[step % BATCHES]
        net.zero_grad()
        loss = nn.functional.mse_loss(net(x), y)
        loss = loss + sum(l2 / 2 * (p**2).sum() for n, p in net.named_parameters() if n.endswith("weight"))
        loss.backward()
        if clip_norm is not None:
            nn.utils.clip_grad_norm_(net.parameters(), clip_norm)
        for group in optimizer.param_groups:
            group["lr"] = lr * factor(schedule, step)
        optimizer.step()
        if step + 1 in KEPT:
            kept |= {f"{net_name}/{case}/{step + 1}/{n}": p.detach().clone() for n, p in net.named_parameters()}
    return kept


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=pathlib.Path, default=OUT)
    out = parser.parse_args().out
    torch.manual_seed(0)
    torch.set_num_threads(1)
    batches = [(torch.randn(SAMPLES, 2, 6, 5), torch.randn(SAMPLES, 2)) for _ in range(BATCHES)]
    tensors = {}
    for number, (x, y) in enumerate(batches):
        tensors |= {f"x/{number}": x, f"y/{number}": y}
    for net_name, network in NETWORKS.items():
        start = {name: torch.randn(p.shape) * 0.5 for name, p in network().named_parameters()}
        tensors |= {f"{net_name}/w/{name}": value for name, value in start.items()}
        for case in CASES if net_name == "plain" else WITH_NORMS:
            tensors |= train(net_name, case, start, batches)
    cases = {
        case: {"name": name, "learning_rate": lr, "l2": l2, "options": options}
        for case, (name, lr, l2, options) in CASES.items()
    }
    metadata = {"made_with": f"torch {torch.__version__}", "cases": json.dumps(cases)}
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, out, metadata=metadata)
    print(f"{out}: {len(tensors)} tensors")


if __name__ == "__main__":
    main()
