#!/usr/bin/env python3
"""Compares `backpack-run extract` with BackPACK 1.7.1, net by net and quantity by quantity, in float64.

usage: scripts/compare_with_backpack.py [--program PATH] [--bound 1e-9] [--seed 0]

Needs torch, backpack-for-pytorch and safetensors. Each net is written as a problem file, with weights and a batch as
safetensors; the program extracts, BackPACK computes the same, and the largest |ours - theirs| / max|theirs| of each
quantity is printed. Sampled quantities are compared by making BackPACK draw the labels that the program used. Exit
code 1 when an error is beyond the bound. Known defects of BackPACK 1.7.1 (autograd is the judge): its batch_l2 of
grouped convolutions is wrong, so there the squared norms of its individual gradients are the reference; it leaves
output_padding out when it unfolds the input of a transposed convolution, so that no net here has one.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile
import warnings

import torch
from backpack import backpack, extend, extensions
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

warnings.filterwarnings("ignore")
torch.set_default_dtype(torch.float64)
torch.set_num_threads(1)

EXACT = {
    "batch_grad": extensions.BatchGrad,
    "batch_l2": extensions.BatchL2Grad,
    "sum_grad_squared": extensions.SumGradSquared,
    "variance": extensions.Variance,
    "diag_ggn": extensions.DiagGGNExact,
    "diag_hessian": extensions.DiagHessian,
    "batch_diag_ggn": extensions.BatchDiagGGNExact,
    "batch_diag_hessian": extensions.BatchDiagHessian,
    "sqrt_ggn": extensions.SqrtGGNExact,
    "kflr": extensions.KFLR,
    "kfra": extensions.KFRA,
}
SAMPLED = {"diag_ggn_mc": extensions.DiagGGNMC, "sqrt_ggn_mc": extensions.SqrtGGNMC, "kfac": extensions.KFAC}
BEYOND_TABLE_1 = ["batch_diag_ggn", "batch_diag_hessian", "sqrt_ggn", "sqrt_ggn_mc"]
LOSSES = {"cross_entropy": nn.CrossEntropyLoss, "mse": nn.MSELoss, "bce_with_logits": nn.BCEWithLogitsLoss}


def layer(kind, **options):
    return {"type": kind, **options}


def linear(outputs, **options):
    return layer("linear", out_features=outputs, **options)


def conv(channels, kernel, **options):
    return layer("conv2d", out_channels=channels, kernel_size=kernel, **options)


def transposed(channels, kernel, **options):
    return layer("conv_transpose2d", out_channels=channels, kernel_size=kernel, **options)


def act(kind, **options):
    return layer(kind, **options)


FLAT = layer("flatten")
# Name, shape of a sample, layers. `every` adds all losses and both reductions.
NETS = [
    ("linear", [7], [linear(4)], True),
    ("mlp with relu and sigmoid", [7], [linear(6), act("relu"), linear(5), act("sigmoid"), linear(4)], True),
    ("mlp with tanh, without biases", [7], [linear(6, bias=False), act("tanh"), linear(4, bias=False)], True),
    ("mlp with elu, selu, leaky_relu, log_sigmoid", [5], [linear(5), act("elu"), linear(5), act("selu"), linear(5), act("leaky_relu"), linear(5), act("log_sigmoid"), linear(3)], False),
    ("one class", [5], [linear(4), act("sigmoid"), linear(1)], True),
    ("conv, relu, max_pool", [3, 9, 8], [conv(4, [3, 2]), act("relu"), layer("max_pool2d", kernel_size=2), FLAT, linear(4)], True),
    ("two convs, sigmoid, avg_pool", [2, 9, 8], [conv(4, 3, padding=1, stride=[2, 1]), act("sigmoid"), conv(3, [2, 3]), act("tanh"), layer("avg_pool2d", kernel_size=[2, 3], stride=[1, 2], padding=[1, 1]), FLAT, linear(4)], True),
    ("strides that leave a rest, dilation", [2, 11, 10], [conv(3, [3, 2], stride=[3, 2], dilation=[1, 2], padding=[2, 1]), act("relu"), FLAT, linear(3)], False),
    ("grouped convs", [4, 7, 6], [conv(6, 3, groups=2), act("relu"), conv(6, 2, groups=3), act("sigmoid"), FLAT, linear(3)], False),
    ("max_pool with stride 2, window 3, padding 1", [2, 8, 9], [conv(3, 3), act("relu"), layer("max_pool2d", kernel_size=3, stride=2, padding=1), FLAT, linear(3)], False),
    ("asymmetric zero_pad", [2, 6, 5], [layer("zero_pad2d", padding=[1, 0, 2, 1]), conv(3, [3, 2]), act("relu"), FLAT, linear(3)], False),
    ("conv_transpose", [3, 4, 3], [transposed(4, [3, 2], stride=[2, 1], padding=[1, 0]), act("relu"), FLAT, linear(3)], True),
    ("conv_transpose behind sigmoid, dilation", [2, 6, 5], [conv(3, 2), act("sigmoid"), transposed(2, 2, dilation=2, bias=False), act("tanh"), FLAT, linear(3)], False),
    ("conv_transpose with groups", [4, 3, 4], [transposed(6, 2, groups=2, stride=2), act("relu"), FLAT, linear(3)], False),
    ("batch_norm in evaluation mode", [3, 6, 5], [conv(4, 3), layer("batch_norm2d"), act("relu"), FLAT, linear(4)], True),
    ("adaptive_avg_pool and dropout off", [2, 6, 8], [conv(4, 3), act("tanh"), layer("adaptive_avg_pool2d", output_size=[2, 3]), FLAT, layer("dropout", p=0.5), linear(3)], False),
    ("small 3c3d", [3, 16, 16], [conv(6, 5), act("relu"), layer("max_pool2d", kernel_size=3, stride=2, padding=1), conv(5, 3), act("relu"), layer("max_pool2d", kernel_size=3, stride=2, padding=1), conv(4, 3, padding=1), act("relu"), FLAT, linear(6), act("relu"), linear(4)], False),
    ("all-convolutional", [3, 8, 8], [conv(4, 3, padding=1), act("relu"), conv(4, 3, stride=2, padding=1), act("relu"), conv(5, 1), act("relu"), layer("avg_pool2d", kernel_size=4), FLAT], False),
]


def toml(name, loss, reduction, layers):
    def value(v):
        return json.dumps(v)

    text = [f'name = "{name}"', 'dataset = { synthetic = { shape = [1], classes = 2, train = 10, test = 10 } }']
    text += [f'loss = "{loss}"', f'reduction = "{reduction}"']
    for options in layers:
        text.append("[[layers]]")
        text += [f"{key} = {value(v)}" for key, v in options.items()]
    return "\n".join(text) + "\n"


def build(options, x):
    options = {key: tuple(v) if isinstance(v, list) else v for key, v in options.items()}
    kind = options.pop("type")
    if kind == "linear":
        return nn.Linear(x.shape[-1], **options)
    if kind == "batch_norm2d":
        return nn.BatchNorm2d(x.shape[1])
    if kind in ("conv2d", "conv_transpose2d"):
        return {"conv2d": nn.Conv2d, "conv_transpose2d": nn.ConvTranspose2d}[kind](x.shape[1], **options)
    names = {"relu": nn.ReLU, "elu": nn.ELU, "selu": nn.SELU, "tanh": nn.Tanh, "sigmoid": nn.Sigmoid}
    names |= {"leaky_relu": nn.LeakyReLU, "log_sigmoid": nn.LogSigmoid, "dropout": nn.Dropout, "flatten": nn.Flatten}
    names |= {"max_pool2d": nn.MaxPool2d, "avg_pool2d": nn.AvgPool2d, "zero_pad2d": nn.ZeroPad2d}
    names |= {"adaptive_avg_pool2d": nn.AdaptiveAvgPool2d}
    return names[kind](**options)


def sampled_root(labels, loss, reduction):
    """A replacement of BackPACK's sampled square root that uses given labels; its scale is BackPACK's own."""

    def root(self, module, g_inp, g_out, mc_samples=1, subsampling=None):
        output = module.input0
        samples = output.shape[0]
        if loss == "cross_entropy":
            target = torch.nn.functional.one_hot(labels, output.shape[1]).to(output.dtype)
            vectors = output.softmax(1) - target
            count = samples
        elif loss == "mse":
            vectors, count = 2 * (output - labels), output.numel()
        else:
            vectors, count = output.sigmoid() - labels, output.numel()
        scale = labels.shape[0] * (count if reduction == "mean" else 1)
        return vectors / scale**0.5

    return root


def reference(model, lossf, batch, names, labels, loss, reduction):
    """BackPACK's quantities by the program's names, and the quantities that it refuses."""
    found, refused = {}, {}
    out = model(batch["x"])
    found["loss"], found["output"] = lossf(out, batch["y"]), out
    found["loss"].backward()
    for key, parameter in model.named_parameters():
        found[f"grad.{key}"] = parameter.grad.clone()
    module, function = extend(model), extend(lossf)
    from backpack.core.derivatives.basederivatives import BaseLossDerivatives

    original = BaseLossDerivatives.sqrt_hessian_sampled
    for name in names:
        extension = (EXACT | SAMPLED)[name]
        try:
            module.zero_grad()
            if name in SAMPLED:
                BaseLossDerivatives.sqrt_hessian_sampled = sampled_root(labels, loss, reduction)
                extension = extension(mc_samples=labels.shape[0])
            else:
                extension = extension()
            with backpack(extension):
                function(module(batch["x"]), batch["y"]).backward()
            for key, parameter in module.named_parameters():
                value = getattr(parameter, extension.savefield)
                if name in ("kfac", "kflr", "kfra"):
                    found[f"{name}.{key}.B"] = value[0]
                    if len(value) == 2:
                        found[f"{name}.{key}.A"] = value[1]
                else:
                    found[f"{name}.{key}"] = value
        except Exception as error:  # BackPACK refuses in many ways
            found = {key: value for key, value in found.items() if not key.startswith(name + ".")}
            refused[name] = str(error).split("\n")[0][:80]
        finally:
            BaseLossDerivatives.sqrt_hessian_sampled = original
    return {key: value.detach() for key, value in found.items()}, refused


def compare(program, folder, net, loss, reduction):
    """The largest relative error of each quantity, and what BackPACK refused."""
    name, shape, layers, _ = net
    x = torch.randn(4, *shape)
    modules, h = [], x
    for options in layers:
        modules.append(build(options, h).eval())
        h = modules[-1](h)
    model = nn.Sequential(*modules).eval()
    with torch.no_grad():
        for key, tensor in model.state_dict().items():
            if key.endswith("running_var"):
                tensor.uniform_(0.5, 2)
            elif "num_batches" not in key:
                tensor.copy_(torch.randn_like(tensor) * (0.3 + tensor[:1].numel() ** -0.5))
    outputs = h.shape[1]
    y = torch.randint(outputs, (4,)) if loss == "cross_entropy" else torch.randn(4, outputs)
    y = torch.rand(4, outputs).round() if loss == "bce_with_logits" else y
    batch = {"x": x, "y": y}
    save_file(batch, folder / "b.safetensors")
    save_file(model.state_dict(), folder / "w.safetensors")
    (folder / "net.toml").write_text(toml("net", loss, reduction, layers))
    command = [program, "extract", "--problem", folder / "net.toml", "--batch", folder / "b.safetensors"]
    command += ["--weights", folder / "w.safetensors", "--dtype", "f64", "--mc-samples", "3", "--threads", "1"]
    command += ["--out", folder / "q.safetensors", "--quantities", ",".join(["all", *BEYOND_TABLE_1])]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, f"{name}: {done.stderr}"
    ours = load_file(folder / "q.safetensors")
    wanted = sorted({key.split(".")[0] for key in ours} - {"loss", "output", "mc_labels"})
    with safe_open(folder / "q.safetensors", "pt") as file:
        assert file.metadata()["dtype"] == "f64", file.metadata()
    theirs, refused = reference(
        model, LOSSES[loss](reduction=reduction), batch, list(EXACT | SAMPLED), ours.get("mc_labels"), loss, reduction
    )
    grouped = any(options.get("groups", 1) > 1 for options in layers)
    errors = {}
    for key, value in theirs.items():
        quantity = key.split(".")[0]
        if quantity not in wanted + ["loss", "output"]:
            refused[quantity] = "refused here alone"
            continue
        if quantity == "batch_l2" and grouped:
            value = theirs[key.replace("batch_l2", "batch_grad")].flatten(1).square().sum(1)
        mine = ours[key]
        assert mine.shape == value.shape, f"{name}: {key} {tuple(mine.shape)} for {tuple(value.shape)}"
        scale = value.abs().max()
        if quantity == "variance":
            scale = theirs[key.replace("variance", "sum_grad_squared")].max() / 4
        error = ((mine - value).abs().max() / scale.clamp(min=1e-30)).item()
        errors[quantity] = max(errors.get(quantity, 0.0), error)
    return errors, refused, sorted(set(wanted) - set(errors))


def main():
    arguments = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    arguments.add_argument("--program", default="target/release/backpack-run")
    arguments.add_argument("--bound", type=float, default=1e-9)
    arguments.add_argument("--seed", type=int, default=0)
    arguments = arguments.parse_args()
    torch.manual_seed(arguments.seed)
    names = ["loss", "output", "grad", *EXACT, *SAMPLED]
    print("| net | loss | " + " | ".join(names) + " |")
    print("|---" * (len(names) + 2) + "|")
    beyond = []
    with tempfile.TemporaryDirectory() as folder:
        for net in NETS:
            combinations = [(loss, reduction) for loss in LOSSES for reduction in ("mean", "sum")]
            for loss, reduction in combinations if net[3] else combinations[:1]:
                errors, refused, ours_alone = compare(arguments.program, pathlib.Path(folder), net, loss, reduction)
                cells = []
                for name in names:
                    if name in errors:
                        cells.append(f"{errors[name]:.0e}")
                    elif refused.get(name) == "refused here alone":
                        cells.append("theirs only")
                    else:
                        cells.append("ours only" if name in ours_alone else "neither")
                print(f"| {net[0]} | {loss}, {reduction} | " + " | ".join(cells) + " |", flush=True)
                for name, error in errors.items():
                    if not error <= arguments.bound:
                        beyond.append(f"{net[0]}, {loss}, {reduction}: {name} {error:.1e}")
    for line in beyond:
        print("beyond the bound:", line, file=sys.stderr)
    return 1 if beyond else 0


if __name__ == "__main__":
    sys.exit(main())
