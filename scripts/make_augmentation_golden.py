#!/usr/bin/env python3
"""Writes tests/golden/augmentation.safetensors: small images, drawn parameters, and what torchvision makes of them.

usage: make_augmentation_golden.py [DESTINATION [COUNT]]      (needs torch, torchvision, Pillow, numpy, safetensors)

Every image is padded, cropped, mirrored and jittered with torchvision's functional operations on 8-bit PIL images. The
crops reach every corner, the jitters come in each of their six orders, and the factors reach the ends of their ranges.

images, expected  [n, 3, 32, 32] uint8
rows, columns     [n] int64, where the crop begins in the padded image
flips             [n] uint8
order             [n, 3] int64, 0 brightness, 1 contrast, 2 saturation, first to last
factors           [n, 3] float32, of brightness, contrast, saturation
"""

import itertools
import pathlib
import sys

import numpy
import PIL
import torch
import torchvision
import torchvision.transforms.functional as F
from PIL import Image
from safetensors.torch import save_file

PADDING = 2
SPREADS = numpy.array([63 / 255, 0.8, 0.5])
JITTERS = [F.adjust_brightness, F.adjust_contrast, F.adjust_saturation]


def make_images(count, generator):
    """Noise, smooth gradients, flat and saturated images, in turn."""
    ramp = numpy.linspace(0, 255, 32)
    for index in range(count):
        kind = index % 4
        if kind == 0:
            yield generator.integers(0, 256, (32, 32, 3))
        elif kind == 1:
            scale = generator.uniform(0.3, 1.0, 3)
            yield (ramp[:, None, None] + ramp[None, :, None]) / 2 * scale
        elif kind == 2:
            base = generator.integers(0, 256, 3)
            yield base + generator.integers(-20, 21, (32, 32, 3))
        else:
            yield generator.choice([0, 1, 127, 128, 254, 255], (32, 32, 3))


def main(destination, count):
    generator = numpy.random.default_rng(1)
    images = numpy.stack([numpy.clip(image, 0, 255).astype(numpy.uint8) for image in make_images(count, generator)])
    orders = list(itertools.permutations(range(3)))
    order = numpy.array([orders[index % 6] for index in range(count)])
    # Every third image has its factors at the ends of their ranges.
    signs = generator.uniform(-1, 1, (count, 3))
    signs[::3] = numpy.sign(signs[::3])
    factors = (1 + SPREADS * signs).astype(numpy.float32)
    offsets = generator.integers(0, 2 * PADDING + 1, (count, 2))
    corners = list(itertools.product([0, 2 * PADDING], repeat=2))
    offsets[:len(corners)] = corners[:count]
    flips = generator.integers(0, 2, count)

    expected = []
    for index in range(count):
        image = F.pad(Image.fromarray(images[index]), PADDING)
        image = F.crop(image, int(offsets[index, 0]), int(offsets[index, 1]), 32, 32)
        if flips[index]:
            image = F.hflip(image)
        for jitter in order[index]:
            image = JITTERS[jitter](image, float(factors[index, jitter]))
        expected.append(numpy.asarray(image))

    def channels_first(arrays):
        return torch.from_numpy(numpy.ascontiguousarray(numpy.stack(arrays).transpose(0, 3, 1, 2)))

    tensors = {
        "images": channels_first(images),
        "expected": channels_first(expected),
        "rows": torch.from_numpy(offsets[:, 0].copy()),
        "columns": torch.from_numpy(offsets[:, 1].copy()),
        "flips": torch.from_numpy(flips.astype(numpy.uint8)),
        "order": torch.from_numpy(order),
        "factors": torch.from_numpy(factors),
    }
    made_with = {"torchvision": torchvision.__version__, "Pillow": PIL.__version__}
    destination.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, destination, made_with)
    print(destination, destination.stat().st_size, "bytes", made_with)


if __name__ == "__main__":
    default = pathlib.Path(__file__).resolve().parent.parent / "tests" / "golden" / "augmentation.safetensors"
    destination = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else default
    main(destination, int(sys.argv[2]) if len(sys.argv) > 2 else 12)
