"""The examples of the documentation and its notebooks run."""

import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parents[2]
# How the blocks begin that are run in this process. A word behind ```python would keep the site from seeing the block.
BLOCKS = {
    "docs/python.md": r"(?<!<!-- not run -->\n)^```python\n",
    "docs/extract.md": r"^<!-- run in this process -->\n```python\n",
    "README.md": r"^```python\n",
}


@pytest.mark.parametrize("page", BLOCKS)
def test_the_examples_run_one_after_the_other(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(rf"{BLOCKS[page]}(.*?)^```$", (ROOT / page).read_text(), re.MULTILINE | re.DOTALL)
    assert blocks
    exec(compile("\n".join(blocks), page, "exec"), {})


@pytest.mark.parametrize("notebook", sorted(path.name for path in (ROOT / "docs").glob("*.ipynb")))
def test_the_notebooks_run(notebook: str, tmp_path: Path):
    content = nbformat.read(ROOT / "docs" / notebook, as_version=4)
    NotebookClient(content, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    code = [cell for cell in content.cells if cell.cell_type == "code"]
    assert any("image/png" in output.get("data", {}) for cell in code for output in cell.outputs)
