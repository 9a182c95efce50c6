"""Types: the package holds under mypy's strict rules, and so does a program that uses it."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

PROGRAM = """
import backpack_run as bp
import torch
from torch import Tensor, nn

model = nn.Sequential(nn.Linear(3, 2))
x, y = torch.randn(4, 3), torch.tensor([0, 1, 1, 0])
engine = bp.Engine(model, nn.CrossEntropyLoss(), x)
q: bp.Quantities = engine.extract(x, y, ["variance", "kfac"], mc_samples=2)
loss: Tensor = q.loss
vector: dict[str, Tensor] = engine.ggn_vector_product(x, y, {"0.weight": torch.zeros(2, 3)})
other: list[Tensor] = engine.hessian_vector_product(x, y, [torch.zeros(2, 3)])
step: Tensor = bp.optim.Damped(model, "mse", lr=0.1).step(x, x)
problem: bp.Problem = bp.problem(model, x, dataset="mnist")
table = bp.grid(problem, curv="kfac", lr=[0.1, 1.0])
"""


def mypy(*arguments: str) -> str:
    checked = subprocess.run(
        [sys.executable, "-m", "mypy", "--no-incremental", "--cache-dir=/dev/null", *arguments],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    return checked.stdout + checked.stderr if checked.returncode else ""


def test_the_package_and_a_program_that_uses_it_hold(tmp_path: Path):
    file = tmp_path / "program.py"
    file.write_text(PROGRAM)
    assert mypy("python/backpack_run", str(file)) == ""


def test_a_wrong_type_is_found(tmp_path: Path):
    file = tmp_path / "program.py"
    file.write_text(PROGRAM + "engine.extract(x, y, 3)\nbp.optim.Damped(model, 'mse', lr='much')\n")
    told = mypy(str(file))
    assert told.count("error:") == 2, told
