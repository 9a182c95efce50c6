#!/usr/bin/env python3
"""Times the Python package against BackPACK 1.7.1 in one process, and against the program, and prints Markdown tables.

Pass by pass, BackPACK, `Engine.extract` and the program take turns: with the same network, the same number of threads, and
drawn data of the same shape. BackPACK and the package share the model's parameters too, and their gradients are compared
before they are timed. Ratios are medians over the rounds with their 95 % bootstrap intervals.

What a pass adds to the memory is measured in two more processes, one of the package and one of the program: the peak after
two passes, less what the process had when it was ready. The second table is what a call costs: small networks of two linear
layers, where the pass itself takes next to nothing, the package less the program in turns.

usage: scripts/compare_speed_in_python.py, with a Python that has this package and backpack-for-pytorch
"""

import argparse
import os
import pathlib
import statistics
import sys
import tempfile
import time

import compare_speed_with_backpack as pairs

PROBLEMS = ["cifar10_3c3d", "fmnist_2c2d", str(pairs.ROOT / "scripts/residual_network.toml")]
TWO_LAYERS = """name = "two_layers"
dataset = {{ synthetic = {{ shape = [{inputs}], classes = 4, train = 64, test = 64 }} }}
loss = "cross_entropy"

[[layers]]
type = "linear"
out_features = {hidden}
[[layers]]
type = "sigmoid"
[[layers]]
type = "linear"
out_features = 4
"""
# Samples, inputs and hidden units.
SIZES = [(8, 4, 8), (128, 64, 32)]


def unextended(module):
    """The same network with the same parameters, free of BackPACK's hooks, its sums as users write them."""
    from backpack.custom_module.branching import Parallel
    from torch import nn

    class Residual(nn.Module):
        def __init__(self, branch):
            super().__init__()
            self.branch = branch

        def forward(self, x):
            return x + self.branch(x)

    if isinstance(module, nn.Sequential):
        return nn.Sequential(*[unextended(child) for child in module])
    if isinstance(module, Parallel):
        _, branch = module.branch.children()
        return Residual(unextended(branch))
    return module


class Package:
    """The package's side: a pass of one quantity on a batch."""

    def __init__(self, model, x, y, quantity):
        import backpack_run as bp
        from torch import nn

        self.engine, self.x, self.y = bp.Engine(model, nn.CrossEntropyLoss(), x), x, y
        self.names = ["grad"] if quantity == "grad" else ["grad", quantity]

    def one_pass(self):
        began = time.perf_counter()
        taken = self.engine.extract(self.x, self.y, self.names)
        del taken
        return time.perf_counter() - began


def package(problem, quantity, batch_size):
    """The package alone, with parameters of its own."""
    import torch

    torch.manual_seed(0)
    model, shape, outputs = pairs.build(pairs.definition(problem))
    return Package(unextended(model), torch.randn(batch_size, *shape), torch.randint(0, outputs, (batch_size,)), quantity)


def status(pid, key):
    text = pathlib.Path(f"/proc/{pid}/status").read_text()
    return int(text.split(f"{key}:")[1].split()[0]) * 1024


def added(worker):
    """What two passes add to the memory of a process that is ready."""
    ready = status(worker.process.pid, "VmRSS")
    for _ in range(2):
        worker.ask("pass")
    return status(worker.process.pid, "VmHWM") - ready


def serve(arguments):
    """Answers like the program's own worker."""
    one = package(arguments.problem[0], arguments.quantity[0], arguments.batch_size)
    print("{}", flush=True)
    for _ in sys.stdin:
        print(f'{{"seconds": {one.one_pass()}}}', flush=True)


def program(arguments, problem, quantity, batch_size):
    command = [arguments.program, "-qq", "bench-worker", "--problem", problem, "--quantity", quantity]
    return pairs.Worker([*command, "--batch-size", str(batch_size), "--threads", str(arguments.threads)], arguments.threads)


def rounds_of(arguments, *sides):
    """The times of passes that take turns, for each side, after two warm ones."""
    for side in sides:
        side(), side()
    times = [[] for _ in sides]
    began = time.perf_counter()
    while True:
        for taken, side in zip(times, sides):
            taken.append(side())
        count = len(times[0])
        if count >= (arguments.rounds or 3000) or (
            not arguments.rounds and count >= 3 and time.perf_counter() - began > arguments.seconds
        ):
            return times


def ratio(one, other, digits=3):
    middle, low, high = pairs.interval([a / b for a, b in zip(one, other)])
    return f"{middle:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def compare(arguments, problem, quantity):
    import torch

    theirs = pairs.BackPack(problem, quantity, False, arguments.batch_size)
    ours = Package(unextended(pairs.build(theirs.problem)[0]), *theirs.batches[0], quantity)
    model = ours.engine.model
    with torch.no_grad():
        for own, of_theirs in zip(model.parameters(), theirs.model.parameters(), strict=True):
            own.set_(of_theirs.detach())
    theirs.one_pass()
    gradients = ours.engine.extract(*theirs.batches[0], "grad")["grad"]
    for (name, _), parameter in zip(model.named_parameters(), theirs.model.parameters()):
        # A ReLU or a maximum that rounding turns the other way shows in every layer before it.
        off = float((gradients[name] - parameter.grad).norm() / parameter.grad.norm())
        if not off < 2e-2:
            sys.exit(f"{problem}: the gradient of {name} is not BackPACK's, by a share of {off:.1e}")
    worker = program(arguments, problem, quantity, arguments.batch_size)
    try:
        times = rounds_of(
            arguments, theirs.one_pass, ours.one_pass, lambda: worker.ask("pass")["seconds"], theirs.gradient
        )
    finally:
        worker.close()
    of_theirs, of_ours, of_program, of_gradient = times
    shared = ["--problem", problem, "--quantity", quantity, "--batch-size", str(arguments.batch_size)]
    command = [sys.executable, __file__, "--serve", *shared, "--threads", str(arguments.threads)]
    memory = []
    for start in (lambda: pairs.Worker(command, arguments.threads),
                  lambda: program(arguments, problem, quantity, arguments.batch_size)):
        worker = start()
        try:
            memory.append(f"{added(worker) / 2**20:.0f} MiB")
        finally:
            worker.close()
    cells = [
        theirs.problem["name"], quantity, str(len(of_ours)),
        ratio(of_ours, of_theirs), ratio(of_program, of_theirs), ratio(of_ours, of_program),
        f"{statistics.median(a / b for a, b in zip(of_ours, of_gradient)):.2f}", *memory,
    ]  # fmt: skip
    return f"| {' | '.join(cells)} |"


def call(arguments, file, size, quantity):
    samples, inputs, hidden = size
    file.write_text(TWO_LAYERS.format(inputs=inputs, hidden=hidden))
    ours = package(str(file), quantity, samples)
    worker = program(arguments, str(file), quantity, samples)
    try:
        of_ours, of_program = rounds_of(arguments, ours.one_pass, lambda: worker.ask("pass")["seconds"])
    finally:
        worker.close()
    middle, low, high = pairs.interval([1e3 * (a - b) for a, b in zip(of_ours, of_program)])
    whole = [f"{1e3 * statistics.median(times):.2f} ms" for times in (of_ours, of_program)]
    cells = [f"{inputs}-{hidden}-4", str(samples), quantity, *whole, f"{middle:.2f} ms ({low:.2f} to {high:.2f})"]
    return f"| {' | '.join(cells)} |"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--problem", type=pairs.words, default=PROBLEMS, metavar="LIST")
    parser.add_argument("--quantity", type=pairs.words, default=["variance", "batch_grad", "kfac"], metavar="LIST")
    parser.add_argument("--batch-size", type=int, default=128, metavar="N")
    parser.add_argument("--threads", type=int, default=1, metavar="N")
    parser.add_argument("--rounds", type=int, metavar="N", help="exactly so many rounds a row")
    parser.add_argument("--seconds", type=float, default=20.0, metavar="S", help="otherwise so long a row (20)")
    parser.add_argument("--program", default=str(pathlib.Path(sys.executable).parent / "backpack-run"), metavar="PATH",
                        help="default: the one that came with the package")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    for name in arguments.quantity:
        if name not in pairs.EXTENSIONS:
            parser.error(f"{name}: expected one of {', '.join(pairs.EXTENSIONS)}")
    os.environ["OMP_NUM_THREADS"] = str(arguments.threads)
    import torch

    torch.set_num_threads(arguments.threads)
    if arguments.serve:
        serve(arguments)
        return
    print("| problem | quantity | rounds | package / BackPACK | program / BackPACK | package / program "
          "| package / gradient | the package adds | the program adds |")
    print("| --- | --- | ---: | --- | --- | --- | ---: | ---: | ---: |", flush=True)
    for problem in arguments.problem:
        for quantity in arguments.quantity:
            print(compare(arguments, problem, quantity), flush=True)
    print("\n| layers | batch | quantity | package | program | package less program |")
    print("| --- | ---: | --- | ---: | ---: | --- |", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        for size in SIZES:
            for quantity in arguments.quantity:
                print(call(arguments, pathlib.Path(folder) / "two_layers.toml", size, quantity), flush=True)


if __name__ == "__main__":
    main()
