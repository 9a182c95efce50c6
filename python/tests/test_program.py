"""The program that comes with the package, and what leads from the module to it and back."""

import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import backpack_run as bp
import pytest
import torch
from torch import nn

PROBLEM = """
name = "tiny"
dataset = { synthetic = { shape = [6], classes = 3, train = 60, test = 20, seed = 0 } }
loss = "cross_entropy"
batch_size = 10
epochs = 1
valid_size = 20
[[layers]]
type = "linear"
out_features = 3
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.toml").write_text(PROBLEM)
    return tmp_path


def program() -> str:
    return str(Path(sys.executable).parent / "backpack-run")


def test_it_is_the_program():
    told = subprocess.run([program(), "--version"], capture_output=True, text=True, check=True).stdout
    assert told.startswith(f"backpack-run {metadata.version('backpack-run')} (tch 0.26.0, libtorch 2.13.0")
    module = subprocess.run([sys.executable, "-m", "backpack_run", "--version"], capture_output=True, text=True)
    assert module.stdout == told
    wrong = subprocess.run([program(), "grit"], capture_output=True, text=True)
    assert wrong.returncode == 2 and "grid" in wrong.stderr and "Traceback" not in wrong.stderr
    # It starts without Python's part of torch.
    code = "import sys, backpack_run; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_workers_start_from_it_and_tables_come_as_frames(folder: Path, capfd: pytest.CaptureFixture[str]):
    table = bp.grid("tiny.toml", curv="diag_ggn", lr="logspace(-2, -1, 2)", damping=[0.1, 1.0], jobs=2)
    assert len(table) == 4 and {"learning_rate", "damping", "rank"} <= set(table.columns)
    assert "done [4/4]" in capfd.readouterr().err
    bp.seeds("tiny.toml", curv="diag_ggn", lr="logspace(-2, -1, 2)", damping=[0.1, 1.0], seeds=[42, 43], quiet=True)
    assert capfd.readouterr().err == ""
    found = [path for path in (folder / "results").iterdir() if (path / "seeds.csv").exists()]
    runs = bp.results(found[0])
    assert {"metric", "epoch", "median"} <= set(runs.curves.columns) and set(runs.seeds["seed"]) == {42, 43}
    assert len(bp.status()) >= 4
    with pytest.raises(bp.Error, match="no results here"):
        bp.results(folder)


def test_a_command_that_fails_says_why(folder: Path):
    with pytest.raises(bp.CommandError, match="did you mean") as raised:
        bp.grid("tiny.toml", curv="kfax", quiet=True)
    assert raised.value.exit_code == 2


def test_a_model_becomes_a_problem(folder: Path, model: nn.Module, batch):
    x, y = batch
    problem = bp.problem(model, x, loss=nn.CrossEntropyLoss(), name="tiny_conv", start_from_weights=True)
    assert os.fspath(problem) == "net.toml" and problem.weights.is_file()
    checked = bp.check(problem, quiet=True)
    assert checked["ok"].all() and (checked["parameter"] == "weight").any()
    with pytest.raises(bp.UnsupportedError):
        bp.problem(model, x, loss=nn.NLLLoss())

    from safetensors import torch as safetensors

    safetensors.save_file({"x": x, "y": y}, "b.safetensors")
    bp.run(
        "extract", problem=problem, batch="b.safetensors", weights=problem.weights, out="q.safetensors", dtype="f64",
        quantities=["kfac", "variance"], quiet=True,
    )  # fmt: skip
    q = bp.extract(model, "cross_entropy", x, y, ["kfac", "variance"])
    theirs = safetensors.load_file("q.safetensors")
    torch.testing.assert_close(theirs["variance.0.weight"], q["variance"]["0.weight"], rtol=1e-12, atol=1e-15)
    torch.testing.assert_close(theirs["kfac.4.weight.B"], q["kfac"]["4.weight"]["B"], rtol=1e-12, atol=1e-15)
    assert torch.equal(theirs["mc_labels"], q.mc_labels)


@pytest.mark.parametrize("version, words", [("2.12.1+cpu", "is torch 2.12.1"), (None, "this Python has none")])
def test_another_torch_is_told_of(tmp_path: Path, version: str | None, words: str):
    package = Path(bp.__file__).parent
    (tmp_path / "backpack_run").symlink_to(package)
    if version is not None:
        (tmp_path / "torch").mkdir()
        (tmp_path / "torch" / "__init__.py").write_text("raise SystemExit('it was imported')")
        (tmp_path / "torch" / "version.py").write_text(f"__version__ = '{version}'\n")
    # Nothing but this folder is looked into.
    code = f"import sys; sys.path = [{str(tmp_path)!r}] + [p for p in sys.path if 'site-packages' not in p]; import backpack_run"
    told = subprocess.run([sys.executable, "-S", "-c", code], capture_output=True, text=True)
    assert told.returncode == 1
    assert "ImportError" in told.stderr and words in told.stderr and "pip install torch==2.13.0" in told.stderr
