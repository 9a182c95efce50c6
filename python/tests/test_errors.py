"""Which exception each thing that goes wrong becomes, in this process and through the program."""

import resource
from pathlib import Path

import backpack_run as bp
import pytest
import torch
from backpack_run._native import Network
from torch import nn

LOSS = nn.CrossEntropyLoss()
PROBLEM = """
name = "net"
dataset = "mnist"
loss = "cross_entropy"
[[layers]]
type = "flatten"
[[layers]]
type = "linear"
out_features = 10
"""


@pytest.mark.parametrize("archive", [b"", b"no zip", b"PK\x03\x04", b"\x80\x02}q\x00."])
def test_an_archive_that_is_none_is_a_usage_error(archive: bytes):
    with pytest.raises(bp.UsageError, match="the exported model: "):
        Network(archive, False)


def test_memory_that_is_not_there_is_a_memory_error(capfd: pytest.CaptureFixture[str]):
    model = nn.Sequential(nn.Linear(1000, 1000), nn.Linear(1000, 4))
    x, y = torch.randn(1000, 1000), torch.zeros(1000, dtype=torch.long)
    engine = bp.Engine(model, LOSS, x)
    with pytest.raises(bp.UnsupportedError, match="memory"):
        engine.extract(x, y, "batch_grad", memory_budget=2**30)
    # Individual gradients of 4 GB, where the process may have another one.
    before = resource.getrlimit(resource.RLIMIT_AS)
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + 2**30, before[1]))
    try:
        with pytest.raises(MemoryError, match="libtorch: .*bytes.*: take fewer samples") as raised:
            engine.extract(x, y, "batch_grad", memory_budget=2**62)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
    assert len(str(raised.value)) < 400 and "panicked" not in capfd.readouterr().err
    assert engine.extract(x[:2], y[:2], "grad").loss.isfinite()


def test_the_programs_exit_code_comes_with_its_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    Path("broken.pt2").write_bytes(b"PK\x03\x04")
    # Denied permission would stop only who is not root.
    Path("loop.pt2").symlink_to("loop.pt2")
    Path("net.toml").write_text(PROBLEM)
    for command, arguments, flags, code, words in [
        ("import", ["none.pt2"], {"out": "n.toml", "weights": "w.safetensors"}, 2, "none.pt2.*no such file"),
        ("import", ["broken.pt2"], {"out": "n.toml", "weights": "w.safetensors"}, 2, "broken.pt2.*damaged"),
        ("import", ["loop.pt2"], {"out": "n.toml", "weights": "w.safetensors"}, 3, "loop.pt2.*reading failed"),
        ("train", [], {"problem": "net.toml", "optimizer": "sgd", "lr": 0.1, "data_dir": "empty"}, 3, "mnist: not found"),
    ]:
        with pytest.raises(bp.CommandError, match=f"(?s){words}") as raised:
            bp.run(command, *arguments, quiet=True, **flags)
        assert raised.value.exit_code == code, raised.value
    assert not Path("n.toml").exists() and not Path("w.safetensors").exists()
