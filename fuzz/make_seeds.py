#!/usr/bin/env python3
"""Writes a small whole file for each fuzz target below seeds/ (needs only Python)."""

import gzip
import json
import pathlib
import struct
import zlib

HERE = pathlib.Path(__file__).resolve().parent / "seeds"


def write(target, name, content):
    folder = HERE / target
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


if __name__ == "__main__":
    main()
