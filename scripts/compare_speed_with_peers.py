#!/usr/bin/env python3
"""Times `backpack-run` against torch.func and Opacus (individual gradients) and curvlinops (Kronecker factors), and prints a
Markdown table.

As compare_speed_with_backpack.py measures: two processes take turns, pass by pass and gradient by gradient, with the same
network, the same number of threads and drawn data of the same shape. `text_gpt` is written out here as its users write it,
with the head tied to the embedding; other problems are chains. A pass gives the gradient too, except that curvlinops gives
the factors alone, and there ours does.

| peer | quantities |
| --- | --- |
| torch.func | batch_grad, batch_l2: vmap of grad, the norms from the gradients |
| opacus | batch_grad: GradSampleModule; not of `text_gpt`, whose tied head it does not take |
| curvlinops | kfac_expand, kfac_reduce: one label a sample, without the output's layer where it is tied |

usage: scripts/compare_speed_with_peers.py, with a Python that has torch 2.13.0, opacus and curvlinops-for-pytorch 3.0.1
"""

import argparse
import json
import os
import pathlib
import statistics
import sys
import time
import warnings

import compare_speed_with_backpack as pairs

PEERS = {
    "torch.func": ["batch_grad", "batch_l2"],
    "opacus": ["batch_grad"],
    "curvlinops": ["kfac_expand", "kfac_reduce"],
}
GPT = {"vocabulary": 65, "context": 64, "width": 128, "heads": 4, "blocks": 4}


def gpt():
    """text_gpt: its module, and a batch's shape."""
    import torch
    from torch import nn
    from torch.nn import functional as F

    width, heads = GPT["width"], GPT["heads"]

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
            self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
            self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

        def forward(self, x):
            samples, positions, _ = x.shape
            q, k, v = self.qkv(self.norm1(x)).view(samples, positions, 3, heads, -1).permute(2, 0, 3, 1, 4)
            mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
            x = x + self.proj(mixed.transpose(1, 2).reshape(samples, positions, width))
            return x + self.down(F.gelu(self.up(self.norm2(x))))

    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            self.wte = nn.Embedding(GPT["vocabulary"], width)
            self.wpe = nn.Parameter(0.02 * torch.randn(1, GPT["context"], width))
            self.h = nn.Sequential(*[Block() for _ in range(GPT["blocks"])])
            self.ln_f = nn.LayerNorm(width)

        def forward(self, x):
            x = self.ln_f(self.h(self.wte(x) + self.wpe))
            return F.linear(x, self.wte.weight).transpose(1, 2)

    return Network().eval()


class Peer:
    """The answering process on a peer's side."""

    def __init__(self, peer, problem, quantity, batch_size):
        import torch
        from torch.nn import functional as F

        warnings.filterwarnings("ignore")
        torch.manual_seed(0)
        self.torch, self.peer, self.quantity, self.loss = torch, peer, quantity, F.cross_entropy
        if problem == "text_gpt":
            self.make = gpt
            draw = lambda: torch.randint(0, GPT["vocabulary"], (batch_size, GPT["context"]))
            self.x, self.y = draw(), draw()
        else:
            definition = pairs.definition(problem)
            if definition["loss"] != "cross_entropy":
                sys.exit("this comparison is for the cross-entropy loss")
            self.make = lambda: pairs.build(definition)[0].eval()
            _, shape, outputs = pairs.build(definition)
            self.x, self.y = torch.randn(batch_size, *shape), torch.randint(0, outputs, (batch_size,))
        self.plain, self.model = self.make(), self.make()
        if peer == "opacus":
            from opacus.grad_sample import GradSampleModule

            self.model = GradSampleModule(self.model.train(), loss_reduction="mean")

    def gradient(self):
        for parameter in self.plain.parameters():
            parameter.grad = None
        began = time.perf_counter()
        self.loss(self.plain(self.x), self.y).backward()
        return time.perf_counter() - began

    def one_pass(self):
        torch = self.torch
        began = time.perf_counter()
        if self.peer == "torch.func":
            from torch.func import functional_call, grad, vmap

            parameters = {name: value.detach() for name, value in self.model.named_parameters()}

            def of_sample(parameters, x, y):
                return self.loss(functional_call(self.model, parameters, (x.unsqueeze(0),)), y.unsqueeze(0))

            gradients = vmap(grad(of_sample), in_dims=(None, 0, 0))(parameters, self.x, self.y)
            if self.quantity == "batch_l2":
                _ = [value.flatten(1).square().sum(1) for value in gradients.values()]
            _ = [value.mean(0) for value in gradients.values()]
        elif self.peer == "opacus":
            for parameter in self.model.parameters():
                parameter.grad = parameter.grad_sample = None
            self.loss(self.model(self.x), self.y).backward()
        else:
            import curvlinops

            modules = [m for m in self.model.modules() if isinstance(m, (torch.nn.Linear, torch.nn.Conv2d))]
            parameters = [parameter for module in modules for parameter in module.parameters()]
            samples = len(self.x)
            factors = curvlinops.KFACLinearOperator(
                self.model, torch.nn.CrossEntropyLoss(), parameters,
                [(self.x, self.y)], check_deterministic=False, fisher_type="mc", num_data=samples,
                num_per_example_loss_terms=self.y.numel() // samples,
                kfac_approx=self.quantity.removeprefix("kfac_"),
            )
            factors.compute_kronecker_factors()
        return time.perf_counter() - began

    def serve(self):
        print(json.dumps({}), flush=True)
        for line in sys.stdin:
            request = line.strip()
            try:
                if request == "warm_up":
                    answer = {}
                elif request in ("gradient", "pass"):
                    answer = {"seconds": self.gradient() if request == "gradient" else self.one_pass()}
                else:
                    status = pathlib.Path("/proc/self/status").read_text()
                    answer = {"peak_bytes": int(status.split("VmHWM:")[1].split()[0]) * 1024}
            except Exception as error:
                answer = {"error": f"{type(error).__name__}: {error}".splitlines()[0][:120]}
            print(json.dumps(answer), flush=True)


def row(arguments, peer, problem, quantity):
    threads = str(arguments.threads)
    size = arguments.batch_size or (16 if problem == "text_gpt" else 128)
    shared = ["--problem", problem, "--quantity", quantity, "--batch-size", str(size), "--threads", threads]
    ours = theirs = None
    try:
        alone = ["--alone"] if peer == "curvlinops" else []
        ours = pairs.Worker([arguments.program, "-qq", "bench-worker", *alone, *shared], threads)
        theirs = pairs.Worker([sys.executable, __file__, "--serve", "--peer", peer, *shared], threads)
        times, peaks = pairs.measure(ours, theirs, arguments.rounds, arguments.seconds)
    except RuntimeError as error:
        who = "ours" if theirs is None else f"{peer} or ours"
        return f"| {problem} | {quantity} | {size} | {peer} | {who}: {error} | | | | |"
    finally:
        for worker in (ours, theirs):
            if worker is not None:
                worker.close()
    middle, low, high = pairs.interval(pairs.ratios(times, "ours", "theirs"))
    over = [statistics.median(pairs.ratios(times, one, other))
            for one, other in (("ours", "our_gradient"), ("theirs", "their_gradient"))]
    rounds = len(times["ours"])
    peaks = " | ".join(f"{peak / 2**20:.0f} MiB" for peak in peaks)
    return (f"| {problem} | {quantity} | {size} | {peer} | {middle:.3f} ({low:.3f} to {high:.3f}, {rounds} rounds) "
            f"| {over[0]:.2f} | {over[1]:.2f} | {peaks} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--problem", type=pairs.words, default=["mnist_logreg", "fmnist_2c2d", "cifar10_3c3d", "text_gpt"],
                        metavar="LIST")
    parser.add_argument("--peer", type=pairs.words, default=list(PEERS), metavar="LIST", help=", ".join(PEERS))
    parser.add_argument("--quantity", type=pairs.words, metavar="LIST", help="default: all that a peer has")
    parser.add_argument("--batch-size", type=int, metavar="N", help="default: 128, of text_gpt 16")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), metavar="N")
    parser.add_argument("--rounds", type=int, metavar="N", help="exactly so many rounds a row")
    parser.add_argument("--seconds", type=float, default=20.0, metavar="S", help="otherwise so long a row (20)")
    parser.add_argument("--program", default=str(pairs.ROOT / "target/release/backpack-run"), metavar="PATH")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    known = {quantity for quantities in PEERS.values() for quantity in quantities}
    for name in arguments.peer:
        if name not in PEERS:
            parser.error(f"--peer {name}: expected one of {', '.join(PEERS)}")
    for name in arguments.quantity or []:
        if name not in known:
            parser.error(f"--quantity {name}: expected one of {', '.join(sorted(known))}")
    if arguments.serve:
        import torch

        torch.set_num_threads(arguments.threads)
        Peer(arguments.peer[0], arguments.problem[0], arguments.quantity[0], arguments.batch_size).serve()
        return
    print("| problem | quantity | batch | peer | ours / peer | ours / gradient | peer / gradient | our peak | peer's peak |")
    print("| --- | --- | ---: | --- | --- | ---: | ---: | ---: | ---: |", flush=True)
    for problem in arguments.problem:
        for peer in arguments.peer:
            for quantity in PEERS[peer]:
                if (peer, problem) != ("opacus", "text_gpt") and quantity in (arguments.quantity or known):
                    print(row(arguments, peer, problem, quantity), flush=True)


if __name__ == "__main__":
    main()
