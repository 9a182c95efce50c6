#!/usr/bin/env python3
"""Writes small whole files for each fuzz target into a folder of its name (needs only Python).

usage: fuzz/make_seeds.py [FOLDER], by default fuzz/seeds
"""

import gzip
import hashlib
import json
import pathlib
import struct
import sys
import tarfile
import zlib

HERE = pathlib.Path(__file__).resolve().parent
SEEDS = pathlib.Path(sys.argv[1]) if sys.argv[1:] else HERE / "seeds"


def write(target, name, content):
    folder = SEEDS / target
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(content)


def idx(sizes, elements):
    return bytes([0, 0, 8, len(sizes)]) + b"".join(struct.pack(">I", size) for size in sizes) + elements


def element(kind, data):
    if 1 <= len(data) <= 4:
        return struct.pack("<I", kind | len(data) << 16) + data.ljust(4, b"\0")
    return struct.pack("<II", kind, len(data)) + data + bytes(-len(data) % 8)


def matrix(kind, sizes, name, data):
    inside = element(6, bytes([kind]) + bytes(7)) + element(5, struct.pack(f"<{len(sizes)}i", *sizes))
    inside += element(1, name) + element(2, data)
    return struct.pack("<II", 14, len(inside)) + inside


def main():
    images, labels = idx([2, 2, 2], bytes(range(8))), idx([2], bytes([3, 9]))
    write("idx", "images", images)
    write("idx", "images.gz", gzip.compress(images, mtime=0))
    write("idx", "pair", images + labels.ljust(len(images), b"\0"))
    write("cifar", "ten", bytes([7]) + bytes(3072))
    write("cifar", "hundred", bytes([7, 50]) + bytes(3072))
    header = b"cifar-100-binary/test.bin".ljust(100, b"\0") + b"0000644\0" * 3 + b"%011o\0" % 30740000 + b"0" * 11 + b"\0"
    header = header.ljust(148, b"\0") + b" " * 8 + b"0" + bytes(355)
    header = header[:148] + b"%06o\0 " % sum(header) + header[156:]
    write("cifar_archive", "tar", header + bytes(1024))
    x, y = matrix(9, [32, 32, 3, 1], b"X", bytes(3072)), matrix(6, [1, 1], b"y", bytes([10]))
    head = b"MATLAB 5.0 MAT-file".ljust(124) + b"\0\1IM"
    packed = [zlib.compress(variable) for variable in (x, y)]
    write("svhn", "plain", head + x + y)
    write("svhn", "compressed", head + b"".join(struct.pack("<II", 15, len(data)) + data for data in packed))
    tensors = {
        "x": {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]},
        "y": {"dtype": "I64", "shape": [2], "data_offsets": [16, 32]},
    }
    head = json.dumps(tensors).encode()
    write("user", "safetensors", struct.pack("<Q", len(head)) + head + bytes(32))
    write("tensors", "safetensors", struct.pack("<Q", len(head)) + head + bytes(32))
    hollow = json.dumps({"x": {"dtype": "F32", "shape": [1 << 63, 0], "data_offsets": [0, 0]}}).encode()
    write("tensors", "hollow", struct.pack("<Q", len(hollow)) + hollow)
    write("checkpoint", "whole", checkpoint())
    study()


def checkpoint():
    """As study/store/checkpoint.rs writes it: progress and a checksum over it and each tensor."""
    progress = '{"schema_version":1,"epoch":0,"step":1,"train_seconds":0.5,"epochs":"","steps":"epoch,step,loss\\n1,0,2.5\\n"}'
    digest = hashlib.sha256(struct.pack("<Q", len(progress)) + progress.encode() + b"\nw F32 [2]\n" + bytes(8)).hexdigest()
    tensors = {
        "__metadata__": {"progress": progress, "sha256": digest},
        "w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]},
    }
    head = json.dumps(tensors).encode()
    return struct.pack("<Q", len(head)) + head + bytes(8)


def study():
    """What runs, results and configurations consist of."""
    write("state", "status", b'{"schema_version": 1, "status": "interrupted", "epoch": 2, "epochs": 10, "reason": null}')
    write("state", "lock", b'{"host": "h", "pid": 1, "started": 2, "token": "t"}')
    epochs = "epoch,train_loss,train_accuracy,valid_loss,valid_accuracy,test_loss,test_accuracy,train_seconds,eval_seconds\n"
    write("tables", "epochs", (epochs + "0,2.3,0.1,2.3,0.1,2.3,0.1,0,0.5\n").encode())
    write("tables", "steps", b"epoch,step,loss\n1,0,2.5\n1,10,NaN\n")
    seeds = "problem,optimizer,seed,status,epoch,train_loss,train_accuracy,valid_loss,valid_accuracy,test_loss,test_accuracy"
    write("results", "seeds", b"\3" + (seeds + ",train_seconds,eval_seconds\nnet,SGD,42,done,0,2,0.1,2,0.1,2,0.1,0,1\n").encode())
    write("results", "meta", b'\4{"schema_version": 1, "name": "study", "select": {"metric": "valid_accuracy"}}')
    run = {
        "testproblem": "net",
        "optimizer_name": "SGD",
        "random_seed": 42,
        "num_epochs": 1,
        "train_losses": [2.5, 2.0],
        "test_losses": [2.5, float("nan")],
    }
    write("deepobs", "run", json.dumps(run).encode())
    problem = """name = "net"
dataset = { synthetic = { shape = [3, 8, 8], classes = 4, train = 100, test = 20 } }
loss = "cross_entropy"
[[layers]]
type = "conv2d"
out_channels = 4
kernel_size = [3, 2]
padding = "same"
[[layers]]
type = "flatten"
[[layers]]
type = "linear"
out_features = 4
"""
    write("problem", "net", problem.encode())
    experiment = """problem = ["mnist_logreg", "fmnist_2c2d"]
seeds = "42..51"
[[optimizer]]
curvature = "kfac"
learning_rate = "logspace(-4, 0, 5)"
damping = [0.1, 1]
"""
    write("experiment", "grid", experiment.encode())
    with tarfile.open(HERE.parent / "tests" / "golden" / "import.tar.gz") as golden:
        write("import", "archive", b"\0" + golden.extractfile("volume.pt2").read())
    tensor = lambda name: {"as_tensor": {"name": name}}
    meta = lambda *sizes: {"dtype": 7, "sizes": [{"as_int": size} for size in sizes]}
    node = {
        "target": "torch.ops.aten.mul.Tensor",
        "inputs": [{"name": "self", "arg": tensor("x")}, {"name": "other", "arg": tensor("p")}],
        "outputs": [tensor("y")],
    }
    program = {
        "schema_version": {"major": 8, "minor": 20},
        "graph_module": {
            "graph": {"nodes": [node], "tensor_values": {"x": meta(3, 2), "y": meta(3, 2)}},
            "signature": {
                "input_specs": [{"parameter": {"arg": {"name": "p"}, "parameter_name": "w"}}, {"user_input": {"arg": tensor("x")}}],
                "output_specs": [{"user_output": {"arg": tensor("y")}}],
            },
        },
    }
    write("import", "program", b"\1" + json.dumps(program).encode())


if __name__ == "__main__":
    main()
