#!/usr/bin/env python3
"""Makes tests/golden/backpack.safetensors: BackPACK's quantities of small versions of the paper's four networks.

usage: scripts/make_backpack_golden.py [--out tests/golden/backpack.safetensors]

Needs torch, backpack-for-pytorch 1.7.1 and safetensors. The networks are the problem files beside the output, with the
paper's layers, TensorFlow's `same` padding, and dropout off. Inputs, weights and labels are drawn here, in float64.
Sampled quantities use the labels in `NET/mc_labels`: BackPACK's own sampling is replaced by them, the rest of its
computation is untouched. Names are NET/x, NET/y, NET/mc_labels, NET/w/PARAMETER and NET/q/QUANTITY as `extract` writes
them; the factors A, which kfac, kflr and kfra share, are there once, as kfac's.
"""

import argparse
import pathlib
import tomllib
import warnings
from importlib.metadata import version

import torch
from backpack import backpack, extend, extensions
from backpack.core.derivatives.crossentropyloss import CrossEntropyLossDerivatives
from safetensors.torch import save_file
from torch import nn

warnings.filterwarnings("ignore")
torch.set_default_dtype(torch.float64)
GOLDEN = pathlib.Path(__file__).parent.parent / "tests" / "golden"
SHAPES = {"logreg": [1, 6, 6], "2c2d": [1, 8, 8], "3c3d": [3, 16, 16], "allcnnc": [3, 12, 12]}
SAMPLES, DRAWS = 3, 2
EXTENSIONS = {
    "batch_grad": extensions.BatchGrad(),
    "batch_l2": extensions.BatchL2Grad(),
    "sum_grad_squared": extensions.SumGradSquared(),
    "variance": extensions.Variance(),
    "diag_ggn": extensions.DiagGGNExact(),
    "diag_ggn_mc": extensions.DiagGGNMC(mc_samples=DRAWS),
    "diag_hessian": extensions.DiagHessian(),
    "kfac": extensions.KFAC(mc_samples=DRAWS),
    "kflr": extensions.KFLR(),
    "kfra": extensions.KFRA(),
}


def same(size, kernel, stride):
    """TensorFlow's padding of one axis: before and after."""
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


def modules(options, x):
    """The modules of a layer; its padding is one of its own."""
    options = dict(options)
    kind = options.pop("type")
    before = []
    if options.get("padding") == "same":
        del options["padding"]
        kernel, stride = options["kernel_size"], options.get("stride", 1)
        rows, columns = (same(x.shape[axis], kernel, stride) for axis in (2, 3))
        before = [nn.ZeroPad2d((*columns, *rows))]
    if kind == "linear":
        return [nn.Linear(x.shape[1], **options)]
    if kind == "conv2d":
        return [*before, nn.Conv2d(x.shape[1], **options)]
    kinds = {"relu": nn.ReLU, "flatten": nn.Flatten, "dropout": nn.Dropout}
    kinds |= {"max_pool2d": nn.MaxPool2d, "avg_pool2d": nn.AvgPool2d}
    return [*before, kinds[kind](**options)]


def build(layers, x):
    """The network, and its parameters by the names that the program gives them."""
    whole, parameters = [], {}
    for index, options in enumerate(layers):
        own = [module.eval() for module in modules(options, x)]
        for module in own:
            x = module(x)
        whole += own
        parameters |= {f"{index}.{name}": parameter for name, parameter in own[-1].named_parameters()}
    with torch.no_grad():
        for name, parameter in parameters.items():
            scale = 1.5 * parameter[0].numel() ** -0.5 if name.endswith("weight") else 0.3
            parameter.copy_(torch.randn_like(parameter) * scale)
            if name.endswith("bias"):
                parameter.abs_()
    return nn.Sequential(*whole).eval(), parameters


def given(labels):
    """BackPACK's sampled square root of cross-entropy's Hessian, with these labels instead of drawn ones."""

    def root(self, module, g_inp, g_out, mc_samples=1, subsampling=None):
        probabilities = module.input0.softmax(1)
        one_hot = nn.functional.one_hot(labels, probabilities.shape[1])
        return (probabilities - one_hot) / (mc_samples * probabilities.shape[0]) ** 0.5

    return root


def quantities(model, parameters, x, y, labels):
    """Everything that BackPACK computes here, by the program's names."""
    found = {}
    model, loss = extend(model), extend(nn.CrossEntropyLoss())
    CrossEntropyLossDerivatives._sqrt_hessian_sampled = given(labels)
    for name, extension in EXTENSIONS.items():
        model.zero_grad()
        with backpack(extension):
            output = model(x)
            value = loss(output, y)
            value.backward()
        for key, parameter in parameters.items():
            part = getattr(parameter, extension.savefield)
            if isinstance(part, list):
                found[f"{name}.{key}.B"] = part[0]
                if len(part) == 2 and name == "kfac":
                    found[f"{name}.{key}.A"] = part[1]
            else:
                found[f"{name}.{key}"] = part
    found |= {f"grad.{key}": parameter.grad for key, parameter in parameters.items()}
    return found | {"loss": value, "output": output}


def main():
    arguments = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    arguments.add_argument("--out", type=pathlib.Path, default=GOLDEN / "backpack.safetensors")
    out = arguments.parse_args().out
    torch.manual_seed(0)
    golden = {}
    for net, shape in SHAPES.items():
        layers = tomllib.loads((GOLDEN / f"{net}.toml").read_text())["layers"]
        x = torch.randn(SAMPLES, *shape)
        model, parameters = build(layers, x)
        classes = model(x).shape[1]
        y, labels = torch.randint(classes, (SAMPLES,)), torch.randint(classes, (DRAWS, SAMPLES))
        tensors = {"x": x, "y": y, "mc_labels": labels}
        tensors |= {f"w/{key}": parameter for key, parameter in parameters.items()}
        tensors |= {f"q/{key}": value for key, value in quantities(model, parameters, x, y, labels).items()}
        golden |= {f"{net}/{key}": value.detach().clone().contiguous() for key, value in tensors.items()}
    made_with = f"torch {torch.__version__.split('+')[0]}, backpack-for-pytorch {version('backpack-for-pytorch')}"
    save_file(golden, out, metadata={"made_with": made_with})
    out.chmod(0o644)


if __name__ == "__main__":
    main()
