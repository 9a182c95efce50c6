#!/usr/bin/env python3
"""Exports small networks as torch.export archives, the test files of `backpack-run import`.

For each network NAME.pt2 and NAME.safetensors in tests/golden/import.tar.gz: the batch `x`, targets `y`, `output`, and the
gradient `grad.PARAMETER` of mse_loss(output, y), all in double precision. Archives are packed again with deflate to keep
them small, those of STORED excepted. With names, the other networks stay as they are.

Needs torch 2.13.0, torchvision 0.28.0 and safetensors:
  python scripts/make_import_archives.py [NAME ..]
"""

import gzip
import io
import math
import pathlib
import sys
import tarfile
import tempfile
import zipfile

import torch
import torchvision
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional as F
from torchvision.models.convnext import CNBlockConfig

GOLDEN = pathlib.Path(__file__).resolve().parent.parent / "tests" / "golden" / "import.tar.gz"
STORED = ["lenet"]


def lenet():
    return nn.Sequential(
        nn.Conv2d(1, 3, 5, padding=2), nn.ReLU(inplace=True), nn.MaxPool2d(2),
        nn.Conv2d(3, 4, 5), nn.ReLU(inplace=True), nn.AvgPool2d(2),
        nn.Flatten(), nn.Linear(16, 12), nn.Tanh(), nn.Dropout(0.5), nn.Linear(12, 5),
    ), torch.randn(3, 1, 16, 16)


def vgg():
    model = torchvision.models.VGG(torchvision.models.vgg.make_layers([4, "M", 6, 6, "M"], batch_norm=True), num_classes=5)
    model.avgpool = nn.AdaptiveAvgPool2d(2)
    model.classifier = nn.Sequential(nn.Linear(24, 8), nn.ReLU(True), nn.Dropout(), nn.Linear(8, 5))
    return model, torch.randn(3, 3, 12, 12)


def resnet18():
    """torchvision's, with channels 4, 8, 12, 16 in place of 64, 128, 256, 512."""
    class Narrow(torchvision.models.ResNet):
        def _make_layer(self, block, planes, blocks, stride=1, dilate=False):
            width = {64: 4, 128: 8, 256: 12, 512: 16}[planes]
            if planes == 64:
                self.inplanes = 4
            return super()._make_layer(block, width, blocks, stride, dilate)

    model = Narrow(torchvision.models.resnet.BasicBlock, [2, 2, 2, 2], num_classes=5)
    model.conv1, model.bn1 = nn.Conv2d(3, 4, 7, 2, 3, bias=False), nn.BatchNorm2d(4)
    model.fc = nn.Linear(16, 5)
    return model, torch.randn(3, 3, 32, 32)


def mobilenet_v2():
    setting = [[1, 4, 1, 1], [3, 8, 2, 2], [3, 8, 1, 2]]
    model = torchvision.models.MobileNetV2(5, width_mult=1.0, inverted_residual_setting=setting, round_nearest=4)
    first = model.features[0]
    first[0], first[1] = nn.Conv2d(3, 4, 3, 2, 1, bias=False), nn.BatchNorm2d(4)
    expanded = model.features[1].conv
    expanded[0][0], expanded[0][1] = nn.Conv2d(4, 4, 3, 1, 1, groups=4, bias=False), nn.BatchNorm2d(4)
    expanded[1] = nn.Conv2d(4, 4, 1, bias=False)
    model.features[-1][0], model.features[-1][1] = nn.Conv2d(8, 12, 1, bias=False), nn.BatchNorm2d(12)
    model.classifier[1] = nn.Linear(12, 5)
    return model, torch.randn(3, 3, 16, 16)


def vit():
    """vit_b_16's architecture: 16 becomes 4, 12 layers 2, 768 wide 8."""
    return torchvision.models.VisionTransformer(8, 4, 2, 2, 8, 16, num_classes=5), torch.randn(3, 3, 8, 8)


def convnext():
    return torchvision.models.ConvNeXt([CNBlockConfig(4, 6, 2), CNBlockConfig(6, None, 1)], num_classes=5), torch.randn(3, 3, 16, 16)


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 12, batch_first=True), 2)
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        return self.head(self.encoder(x).mean(1))


def transformer_encoder():
    return Encoder(), torch.randn(3, 5, 8)


class CausalAttention(nn.Module):
    def __init__(self, width, heads, length):
        super().__init__()
        self.heads = heads
        self.c_attn, self.c_proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.register_buffer("bias", torch.tril(torch.ones(length, length)).view(1, 1, length, length))

    def forward(self, x):
        n, t, d = x.size()
        q, k, v = self.c_attn(x).split(d, dim=2)
        q, k, v = (z.view(n, t, self.heads, d // self.heads).transpose(1, 2) for z in (q, k, v))
        weights = (q @ k.transpose(-2, -1)) * (1.0 / math.sqrt(k.size(-1)))
        weights = weights.masked_fill(self.bias[:, :, :t, :t] == 0, float("-inf"))
        return self.c_proj((F.softmax(weights, dim=-1) @ v).transpose(1, 2).contiguous().view(n, t, d))


class Block(nn.Module):
    def __init__(self, width, heads, length):
        super().__init__()
        self.ln_1, self.attn = nn.LayerNorm(width, bias=False), CausalAttention(width, heads, length)
        self.ln_2 = nn.LayerNorm(width, bias=False)
        self.mlp = nn.ModuleDict({"c_fc": nn.Linear(width, 2 * width), "c_proj": nn.Linear(2 * width, width)})

    def forward(self, x):
        x = x + self.attn(self.ln_1(x))
        return x + self.mlp["c_proj"](F.gelu(self.mlp["c_fc"](self.ln_2(x))))


class NanoGpt(nn.Module):
    """The head's weight is the embedding's."""

    def __init__(self, letters=11, length=6, width=8):
        super().__init__()
        self.transformer = nn.ModuleDict({
            "wte": nn.Embedding(letters, width), "wpe": nn.Embedding(length, width), "drop": nn.Dropout(0.0),
            "h": nn.ModuleList([Block(width, 2, length) for _ in range(2)]), "ln_f": nn.LayerNorm(width, bias=False),
        })
        self.lm_head = nn.Linear(width, letters, bias=False)
        self.transformer.wte.weight = self.lm_head.weight

    def forward(self, tokens):
        places = torch.arange(0, tokens.size(1), dtype=torch.long, device=tokens.device)
        x = self.transformer.drop(self.transformer.wte(tokens) + self.transformer.wpe(places))
        for block in self.transformer.h:
            x = block(x)
        return self.lm_head(self.transformer.ln_f(x)), None


def nanogpt():
    return NanoGpt(), torch.randint(0, 11, (3, 6))


class Tagger(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding, self.lstm, self.tags = nn.Embedding(11, 4), nn.LSTM(4, 5, batch_first=True), nn.Linear(5, 3)

    def forward(self, words):
        return self.tags(self.lstm(self.embedding(words))[0]).transpose(1, 2)


def lstm_tagger():
    return Tagger(), torch.randint(0, 11, (3, 7))


class UNet(nn.Module):
    def __init__(self):
        super().__init__()
        def double(into, out):
            return nn.Sequential(nn.Conv2d(into, out, 3, padding=1), nn.GroupNorm(2, out), nn.ReLU(inplace=True),
                                 nn.Conv2d(out, out, 3, padding="same"), nn.SiLU())
        self.down1, self.down2, self.bottom = double(1, 4), double(4, 6), double(6, 8)
        self.up2, self.merge2 = nn.ConvTranspose2d(8, 6, 2, stride=2), double(12, 6)
        self.up1, self.merge1 = nn.ConvTranspose2d(6, 4, 2, stride=2), double(8, 4)
        self.out = nn.Conv2d(4, 2, 1)

    def forward(self, x):
        one = self.down1(x)
        two = self.down2(F.max_pool2d(one, 2))
        x = self.up2(self.bottom(F.max_pool2d(two, 2)))
        x = self.up1(self.merge2(torch.cat([two, x], dim=1)))
        return self.out(self.merge1(torch.cat([one, x], dim=1)))


def unet():
    return UNet(), torch.randn(3, 1, 8, 8)


class Attention(nn.Module):
    """nn.MultiheadAttention as most write it: with weights that nobody takes and an additive mask; sequence first."""

    def __init__(self):
        super().__init__()
        self.attention, self.scale = nn.MultiheadAttention(6, 3), nn.Parameter(torch.tensor([[0.5], [1.0], [2.0], [3.0]]))

    def forward(self, x):
        x = x.transpose(0, 1)
        mask = nn.Transformer.generate_square_subsequent_mask(4)
        x = x - self.attention(x, x, x, attn_mask=mask, is_causal=True)[0]
        return self.scale * x.transpose(0, 1)


def attention():
    return Attention(), torch.randn(3, 4, 6)


class Sound(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.norm, self.rnn = nn.Conv1d(2, 4, 3, stride=2, padding=1), nn.BatchNorm1d(4), nn.RNN(4, 3, nonlinearity="relu", bias=False)
        self.rms, self.out = nn.RMSNorm(3), nn.Linear(3, 2)

    def forward(self, x):
        x = F.max_pool1d(F.leaky_relu(self.norm(self.conv(x)), 0.2), 2)
        _, last = self.rnn(x.permute(2, 0, 1))
        return self.out(self.rms(last[0]))


def sound():
    return Sound(), torch.randn(3, 2, 16)


class Volume(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.up = nn.Conv3d(1, 3, 2), nn.ConvTranspose3d(3, 2, 2, stride=2)

    def forward(self, x):
        x = F.elu(F.avg_pool3d(self.conv(F.pad(x, (0, 1, 1, 0, 0, 0), value=0.5)), 2))
        x = torch.sigmoid(self.up(x))[:, :, 1:, ::2]
        one, other = x.chunk(2, dim=1)
        return (one * other / 3 + 0.0).flatten(1)


def volume():
    return Volume(), torch.randn(2, 1, 4, 4, 4)


class Gates(nn.Module):
    """What takes several layers each: gates, hard activations, numbers that are added, repeated entries."""

    def __init__(self):
        super().__init__()
        self.conv, self.gate, self.out = nn.Conv2d(2, 8, 3, padding=1), nn.Conv2d(4, 4, 1), nn.Linear(9, 2)
        self.exporting = True

    def forward(self, x):
        x = F.glu(self.conv(x), dim=1)
        t = torch.sigmoid(self.gate(x))
        x = F.hardswish(3 * x) * t + F.celu(x, 1.5) * (1 - t)
        x = 2 * F.interpolate(x, scale_factor=(2, 3), mode="nearest") - 0.5
        # PyTorch computes the gradient of hardsigmoid with 1 / 6 in single precision, whatever the type.
        x = F.hardsigmoid(x) if self.exporting else F.relu6(x + 3) / 6
        return self.out(x).flatten(1)


def gates():
    return Gates(), torch.randn(3, 2, 2, 3)


NETWORKS = [lenet, vgg, resnet18, mobilenet_v2, vit, convnext, transformer_encoder, nanogpt, lstm_tagger, unet, attention, sound, volume, gates]
# Networks whose number of samples stays open in the archive; the others have that of the example.
DYNAMIC = ["vgg", "mobilenet_v2", "vit", "nanogpt", "unet"]
# Networks exported in training mode.
TRAINING = ["unet", "lstm_tagger"]


def settle(model):
    """Parameters and statistics that are not as new, so that each takes part."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
        for name, buffer in model.named_buffers():
            if name.endswith("running_mean"):
                buffer.normal_(0, 0.3)
            elif name.endswith("running_var"):
                buffer.uniform_(0.5, 2)


def pack(path, method):
    """Packs an archive anew, without the example's pickle and with paths of source files from their folders on."""
    root = str(pathlib.Path(__file__).resolve().parent.parent) + "/"
    packages = str(pathlib.Path(torch.__file__).resolve().parent.parent) + "/"
    packed = io.BytesIO()
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(packed, "w", method, compresslevel=9) as new:
        for member in old.infolist():
            if member.filename.endswith("sample_inputs/model.pt"):
                continue
            content = old.read(member)
            if member.filename.endswith(".json"):
                content = content.replace(packages.encode(), b"site-packages/").replace(root.encode(), b"")
            new.writestr(zipfile.ZipInfo(member.filename), content, method)
    path.write_bytes(packed.getvalue())


def read_golden():
    """The files in the golden archive, by name."""
    with tarfile.open(GOLDEN) as archive:
        return {member.name: archive.extractfile(member).read() for member in archive}


def write_golden(files):
    """Writes the golden archive. Equal files give equal bytes: sorted, without times and owners."""
    packed = io.BytesIO()
    with gzip.GzipFile("", "wb", 9, packed, mtime=0) as stream:
        with tarfile.open(fileobj=stream, mode="w", format=tarfile.USTAR_FORMAT) as archive:
            for name, content in sorted(files.items()):
                member = tarfile.TarInfo(name)
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    GOLDEN.write_bytes(packed.getvalue())


def main():
    torch.set_default_dtype(torch.float64)
    files = read_golden() if sys.argv[1:] else {}
    with tempfile.TemporaryDirectory() as folder:
        export(pathlib.Path(folder))
        files |= {path.name: path.read_bytes() for path in pathlib.Path(folder).iterdir()}
    write_golden(files)


def export(folder):
    """Writes the files of the networks that were asked for."""
    for make in NETWORKS:
        name = make.__name__
        if sys.argv[1:] and name not in sys.argv[1:]:
            continue
        torch.manual_seed(0)
        model, x = make()
        settle(model)
        model.train(name in TRAINING)
        shapes = ({0: torch.export.Dim("batch")},) if name in DYNAMIC else None
        path = folder / f"{name}.pt2"
        torch.export.save(torch.export.export(model, (x,), dynamic_shapes=shapes), path)
        pack(path, zipfile.ZIP_STORED if name in STORED else zipfile.ZIP_DEFLATED)
        model.exporting = False
        output = model(x)
        output = output[0] if isinstance(output, tuple) else output
        y = torch.randn_like(output).contiguous()
        parameters = dict(model.named_parameters())
        gradients = torch.autograd.grad(F.mse_loss(output, y), list(parameters.values()))
        tensors = {"x": x, "y": y, "output": output.detach().contiguous()}
        tensors |= {f"grad.{name}": gradient.contiguous() for name, gradient in zip(parameters, gradients)}
        save_file(tensors, folder / f"{name}.safetensors")
        print(name, path.stat().st_size, (folder / f"{name}.safetensors").stat().st_size)


if __name__ == "__main__":
    main()
