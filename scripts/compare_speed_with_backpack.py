#!/usr/bin/env python3
"""Times `backpack-run` against BackPACK 1.7.1, quantity by quantity and step by step, and prints a Markdown table.

Two processes, one of each, answer one timed request at a time and take turns: a pass of BackPACK's, one of ours, a
gradient of PyTorch's, one of libtorch's. Both have the same network in training mode, the same number of threads, and
drawn data of the same shape, given in memory. Ratios are medians over the rounds with their 95 % bootstrap intervals.
Peak memory is each process's VmHWM after two passes and before any gradient by itself.

A step is what the paper's authors ran: the quantity, its mean over all steps so far, the inverse by eigenvalues
(diagonals: a division), and the update with the problem's l2. Before BackPACK's steps are timed two are made, before ours
as many as it takes until the mean has full rank: an eigenvalue decomposition takes as long either way.

usage: scripts/compare_speed_with_backpack.sh, or this with a Python that has torch and backpack-for-pytorch
"""

import argparse
import json
import os
import pathlib
import random
import statistics
import subprocess
import sys
import time
import tomllib

ROOT = pathlib.Path(__file__).resolve().parent.parent
SHAPES = {
    "mnist": (1, 28, 28),
    "fashion_mnist": (1, 28, 28),
    "fashion_mnist_mini": (1, 28, 28),
    "cifar10": (3, 32, 32),
    "cifar100": (3, 32, 32),
    "svhn": (3, 32, 32),
}
EXTENSIONS = {
    "grad": None,
    "batch_grad": "BatchGrad",
    "batch_l2": "BatchL2Grad",
    "sum_grad_squared": "SumGradSquared",
    "variance": "Variance",
    "diag_ggn": "DiagGGNExact",
    "diag_ggn_mc": "DiagGGNMC",
    "diag_hessian": "DiagHessian",
    "kfac": "KFAC",
    "kflr": "KFLR",
    "kfra": "KFRA",
}
DEFAULT = "batch_grad,batch_l2,sum_grad_squared,variance,diag_ggn_mc,kfac"
LEARNING_RATE, DAMPING = 1e-3, 1e-2


def definition(problem):
    """The problem file of a built-in name or a path."""
    built_in = ROOT / "src/problems/definitions" / f"{problem}.toml"
    return tomllib.loads((built_in if built_in.exists() else pathlib.Path(problem)).read_text())


def build(problem):
    """The problem's network as an nn.Sequential, and the shape of a sample."""
    from torch import nn

    dataset = problem["dataset"]
    shape = tuple(dataset["synthetic"]["shape"]) if isinstance(dataset, dict) else SHAPES[dataset]

    def pair(value):
        return tuple(value) if isinstance(value, list) else (value, value)

    def zeros(padding, size, kernel, stride):
        """What has to be padded before a layer, and what the layer pads itself."""
        if isinstance(padding, list) and len(padding) == 4:
            return padding, (0, 0)
        if padding != "same":
            return None, pair(padding)
        total = [max((-(-n // s) - 1) * s + k - n, 0) for n, k, s in zip(size, kernel, stride)]
        (top, left) = (total[0] // 2, total[1] // 2)
        sides = [left, total[1] - left, top, total[0] - top]
        if left * 2 == total[1] and top * 2 == total[0]:
            return None, (top, left)
        return sides, (0, 0)

    import torch

    def modules(entries, x):
        """The layers of a list as modules, and what they make of `x`."""
        layers = []
        for layer in entries:
            kind = layer["type"]
            if kind == "block":
                for _ in range(layer.get("repeat", 1)):
                    made, x = block(problem["blocks"][layer["block"]], x)
                    layers += made
                continue
            made = module(layer, x)
            for one in made:
                x = one(x)
            layers += made
        return layers, x

    def block(entries, x):
        """One repetition: its layers up to a sum of the last of them and the block's input, as a branch, and the rest."""
        sums = [place for place, layer in enumerate(entries) if layer["type"] == "add"]
        if not sums:
            return modules(entries, x)
        (place,) = sums
        if entries[place]["inputs"] != ["previous", "input"]:
            sys.exit("this comparison knows blocks that add their input to the layer before the sum")
        from backpack.custom_module.branching import Parallel

        branch, y = modules(entries[:place], x)
        rest, y = modules(entries[place + 1 :], y + x)
        return [Parallel(nn.Identity(), nn.Sequential(*branch)), *rest], y

    def module(layer, x):
        kind = layer["type"]
        made = []
        if kind == "linear":
            made.append(nn.Linear(x.shape[-1], layer["out_features"], layer.get("bias", True)))
        elif kind in ("conv2d", "max_pool2d", "avg_pool2d"):
            kernel = pair(layer["kernel_size"])
            stride = pair(layer.get("stride", 1 if kind == "conv2d" else layer["kernel_size"]))
            before, inside = zeros(layer.get("padding", 0), x.shape[2:], kernel, stride)
            if kind != "conv2d" and before is None and layer.get("padding") == "same" and any(inside):
                before, inside = [inside[1], inside[1], inside[0], inside[0]], (0, 0)
            if before is not None and any(before):
                made.append(nn.ZeroPad2d(before))
            if kind == "conv2d":
                bias = layer.get("bias", True)
                made.append(nn.Conv2d(x.shape[1], layer["out_channels"], kernel, stride, inside, bias=bias))
            else:
                made.append((nn.MaxPool2d if kind == "max_pool2d" else nn.AvgPool2d)(kernel, stride, inside))
        else:
            simple = {
                "flatten": nn.Flatten,
                "relu": nn.ReLU,
                "sigmoid": nn.Sigmoid,
                "tanh": nn.Tanh,
                "elu": nn.ELU,
                "dropout": lambda: nn.Dropout(layer["p"]),
                "zero_pad2d": lambda: nn.ZeroPad2d(layer["padding"]),
            }
            if kind not in simple:
                sys.exit(f"layer type {kind}: this comparison does not know it")
            made.append(simple[kind]())
        return made

    layers, x = modules(problem["layers"], torch.zeros(1, *shape))
    return nn.Sequential(*layers).train(), shape, x.shape[-1]


class BackPack:
    """The answering process on BackPACK's side."""

    def __init__(self, name, subject, step, batch_size):
        import warnings

        import torch
        from backpack import backpack, extend, extensions
        from torch import nn

        warnings.filterwarnings("ignore")
        torch.manual_seed(0)
        self.torch, self.backpack, self.nn, self.extend = torch, backpack, nn, extend
        self.problem = definition(name)
        if self.problem["loss"] != "cross_entropy":
            sys.exit("this comparison is for the cross-entropy loss")
        self.model, shape, outputs = build(self.problem)
        self.model, self.loss = extend(self.model), extend(nn.CrossEntropyLoss())
        self.make = getattr(extensions, EXTENSIONS[subject]) if EXTENSIONS[subject] else None
        self.step = step
        self.batches = [
            (torch.randn(batch_size, *shape), torch.randint(0, outputs, (batch_size,))) for _ in range(4 if step else 1)
        ]
        self.plain = None
        self.means, self.taken = {}, 0

    def gradient(self):
        if self.plain is None:
            self.plain, _, _ = build(self.problem)
        for parameter in self.plain.parameters():
            parameter.grad = None
        x, y = self.batches[0]
        began = time.perf_counter()
        self.nn.functional.cross_entropy(self.plain(x), y).backward()
        return time.perf_counter() - began

    def one_pass(self):
        for parameter in self.model.parameters():
            parameter.grad = None
        x, y = self.batches[self.taken % len(self.batches)]
        self.taken += 1
        began = time.perf_counter()
        if self.make is None:
            self.loss(self.model(x), y).backward()
        else:
            extension = self.make()
            with self.backpack(extension):
                self.loss(self.model(x), y).backward()
            if self.step:
                with self.torch.no_grad():
                    self.update(extension.savefield)
        return time.perf_counter() - began

    def update(self, field):
        l2 = self.problem.get("l2", 0.0)
        for parameter in self.model.parameters():
            weight_l2 = l2 if parameter.dim() > 1 else 0.0
            new = getattr(parameter, field)
            new = new if isinstance(new, list) else [new]
            old = self.means.get(parameter)
            mean = new if old is None else [o + (n - o) / self.taken for o, n in zip(old, new)]
            self.means[parameter] = mean
            gradient = parameter.grad + weight_l2 * parameter if weight_l2 else parameter.grad
            if field.startswith("diag"):
                step = gradient / (mean[0] + DAMPING + weight_l2)
            elif len(mean) == 1:
                step = self.inverse(mean[0], DAMPING) @ gradient
            else:
                b, a = mean
                pi = ((a.trace() / len(a)) / (b.trace() / len(b))).sqrt()
                root = (DAMPING + weight_l2) ** 0.5
                step = self.inverse(b, root / pi) @ gradient.reshape(len(b), -1) @ self.inverse(a, pi * root)
            parameter -= LEARNING_RATE * step.view_as(parameter)

    def inverse(self, matrix, shift):
        values, vectors = self.torch.linalg.eigh(matrix)
        return vectors @ ((1 / (values + shift)).clamp(0, 1e8).unsqueeze(1) * vectors.T)

    def serve(self):
        print(json.dumps({}), flush=True)
        for line in sys.stdin:
            request = line.strip()
            try:
                if request == "warm_up":
                    answer = {}
                    if self.step:
                        self.one_pass(), self.one_pass()
                elif request == "gradient":
                    answer = {"seconds": self.gradient()}
                elif request == "pass":
                    answer = {"seconds": self.one_pass()}
                else:
                    status = pathlib.Path("/proc/self/status").read_text()
                    answer = {"peak_bytes": int(status.split("VmHWM:")[1].split()[0]) * 1024}
            except Exception as error:
                answer = {"error": f"{type(error).__name__}: {error}".splitlines()[0][:120]}
            print(json.dumps(answer), flush=True)


class Worker:
    """A process that answers one request a line."""

    def __init__(self, command, threads):
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=environment)
        self.read()

    def ask(self, request):
        self.process.stdin.write(request + "\n")
        self.process.stdin.flush()
        return self.read()

    def read(self):
        line = self.process.stdout.readline()
        answer = json.loads(line) if line else {"error": f"its process ended (exit code {self.process.wait()})"}
        if "error" in answer:
            raise RuntimeError(answer["error"])
        return answer

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def interval(ratios):
    """The median and its 95 % bootstrap interval."""
    draw = random.Random(42)
    medians = sorted(statistics.median(draw.choices(ratios, k=len(ratios))) for _ in range(1000))
    return statistics.median(ratios), medians[25], medians[974]


def measure(ours, theirs, rounds, seconds):
    """The times of all rounds, by who took them, and the peaks."""
    peaks = []
    for worker, passes in ((ours, 2), (theirs, 2)):
        for _ in range(passes):
            worker.ask("pass")
        peaks.append(worker.ask("peak")["peak_bytes"])
        worker.ask("warm_up")
        worker.ask("gradient")
    times = {"ours": [], "theirs": [], "our_gradient": [], "their_gradient": []}
    began = time.perf_counter()
    while True:
        times["theirs"].append(theirs.ask("pass")["seconds"])
        times["ours"].append(ours.ask("pass")["seconds"])
        times["their_gradient"].append(theirs.ask("gradient")["seconds"])
        times["our_gradient"].append(ours.ask("gradient")["seconds"])
        count = len(times["ours"])
        if count >= (rounds or 1000) or (not rounds and time.perf_counter() - began > seconds):
            return times, peaks


def ratios(times, one, other):
    return [a / b for a, b in zip(times[one], times[other])]


def row(arguments, problem, batch_size, subject, step):
    kind = "--optimizer" if step else "--quantity"
    threads = str(arguments.threads)
    shared = ["--problem", problem, kind, subject, "--batch-size", str(batch_size), "--threads", threads]
    ours = theirs = None
    title = f"{'step of ' if step else ''}{subject}"
    try:
        ours = Worker([arguments.program, "-qq", "bench-worker", *shared], threads)
        theirs = Worker([sys.executable, __file__, "--serve", *shared], threads)
        times, peaks = measure(ours, theirs, arguments.rounds, arguments.seconds)
    except RuntimeError as error:
        who = "ours" if theirs is None else "BackPACK or ours"
        return f"| {problem} | {title} | {batch_size} | {who}: {error} | | | | | | |"
    finally:
        for worker in (ours, theirs):
            if worker is not None:
                worker.close()
    middle, low, high = interval(ratios(times, "ours", "theirs"))
    over = statistics.median(ratios(times, "ours", "our_gradient"))
    their_over = statistics.median(ratios(times, "theirs", "their_gradient"))
    cells = [
        problem,
        title,
        batch_size,
        f"{statistics.median(times['ours']):.4g}",
        f"{statistics.median(times['theirs']):.4g}",
        f"{middle:.3f} ({low:.3f} to {high:.3f}, {len(times['ours'])} rounds)",
        f"{over:.2f}",
        f"{their_over:.2f}",
        *(f"{peak / 2**20:.0f} MiB" for peak in peaks),
    ]
    return f"| {' | '.join(map(str, cells))} |"


def words(text):
    return [word for word in text.split(",") if word]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--problem", type=words, default=["mnist_logreg", "fmnist_2c2d", "cifar10_3c3d"], metavar="LIST")
    parser.add_argument("--quantity", type=words, metavar="LIST", help=f"default: {DEFAULT}, unless --optimizer is given")
    parser.add_argument("--optimizer", type=words, default=[], metavar="LIST", help="whole steps of these curvatures")
    parser.add_argument("--batch-size", type=int, default=128, metavar="N")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), metavar="N")
    parser.add_argument("--rounds", type=int, metavar="N", help="exactly so many rounds a row")
    parser.add_argument("--seconds", type=float, default=20.0, metavar="S", help="otherwise so long a row (20)")
    parser.add_argument("--program", default=str(ROOT / "target/release/backpack-run"), metavar="PATH")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    quantities = arguments.quantity
    if quantities is None:
        quantities = [] if arguments.optimizer else words(DEFAULT)
    for name in quantities + arguments.optimizer:
        if name not in EXTENSIONS or (name in arguments.optimizer and name == "grad"):
            parser.error(f"{name}: expected one of {', '.join(EXTENSIONS)}")
    if arguments.serve:
        import torch

        torch.set_num_threads(arguments.threads)
        step = bool(arguments.optimizer)
        subject = (arguments.optimizer or quantities)[0]
        BackPack(arguments.problem[0], subject, step, arguments.batch_size).serve()
        return
    print("| problem | quantity | batch | ours, s | BackPACK, s | ours / BackPACK | ours / gradient "
          "| BackPACK / gradient | our peak | BackPACK's peak |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |", flush=True)
    for problem in arguments.problem:
        for subject, step in [(name, False) for name in quantities] + [(name, True) for name in arguments.optimizer]:
            print(row(arguments, problem, arguments.batch_size, subject, step), flush=True)


if __name__ == "__main__":
    main()
