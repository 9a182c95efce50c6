#!/usr/bin/env python3
"""Makes assets/fashion_mnist_mini from Fashion-MNIST: the first images of each class, in the order of the files.

usage: make_fashion_mnist_mini.py [SOURCE] [DESTINATION]

SOURCE holds the four published files (default: where Debian's package dataset-fashion-mnist puts them). The files that
are written hold 350 training and 100 test images of each of the ten classes, in the same format, under two megabytes
together. Needs only Python; the result does not depend on the machine (the contents' SHA-256 are printed).
"""

import gzip
import hashlib
import pathlib
import struct
import sys

PARTS = {"train": 350, "t10k": 100}
CLASSES = 10


def read(path, dimensions):
    content = gzip.decompress(path.read_bytes())
    magic, *sizes = struct.unpack(f">{1 + dimensions}I", content[: 4 * (1 + dimensions)])
    assert magic == 2048 + dimensions, f"{path}: magic {magic}"
    return sizes, content[4 * (1 + dimensions):]


def write(path, sizes, elements):
    content = struct.pack(f">{1 + len(sizes)}I", 2048 + len(sizes), *sizes) + elements
    path.write_bytes(gzip.compress(content, 9, mtime=0))
    print(hashlib.sha256(content).hexdigest(), f"{path.stat().st_size:>9} bytes", path)
    return path.stat().st_size


def main(source, destination):
    destination.mkdir(parents=True, exist_ok=True)
    total = 0
    for part, each in PARTS.items():
        images, labels = f"{part}-images-idx3-ubyte.gz", f"{part}-labels-idx1-ubyte.gz"
        (_, height, width), pixels = read(source / images, 3)
        _, classes = read(source / labels, 1)
        left = [each] * CLASSES
        chosen = []
        for index, label in enumerate(classes):
            if left[label]:
                left[label] -= 1
                chosen.append(index)
        assert not any(left), f"{part}: too few images of some class"
        size = height * width
        taken = b"".join(pixels[index * size:(index + 1) * size] for index in chosen)
        total += write(destination / images, (len(chosen), height, width), taken)
        total += write(destination / labels, (len(chosen),), bytes(classes[index] for index in chosen))
    assert total <= 2_000_000, f"{total} bytes"


if __name__ == "__main__":
    arguments = [pathlib.Path(argument) for argument in sys.argv[1:]]
    here = pathlib.Path(__file__).resolve().parent.parent
    defaults = [pathlib.Path("/usr/share/datasets/fashion-mnist"), here / "assets" / "fashion_mnist_mini"]
    if len(arguments) > 2:
        sys.exit(__doc__)
    main(*arguments, *defaults[len(arguments):])
