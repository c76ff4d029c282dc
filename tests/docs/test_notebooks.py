"""The notebooks of `examples/` run from their first cell to their last, in a real kernel, and show what they should."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted((ROOT / "examples").glob("*.ipynb"))

pytestmark = pytest.mark.notebooks


def executed(path: Path, folder: Path) -> Any:
    nbclient, nbformat = pytest.importorskip("nbclient"), pytest.importorskip("nbformat")
    pytest.importorskip("ipykernel")
    notebook = nbformat.read(path, as_version=4)
    os.environ.setdefault("PYTHONPATH", str(ROOT))
    return nbclient.NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(folder)}}).execute()


def outputs(notebook: Any) -> list[Any]:
    return [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]


def test_there_are_two() -> None:
    assert [path.name for path in NOTEBOOKS] == ["compare_models.ipynb", "own_module.ipynb"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_kept_without_outputs(path: Path) -> None:
    nbformat = pytest.importorskip("nbformat")
    assert not outputs(nbformat.read(path, as_version=4))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_and_shows_tables_and_progress(path: Path, tmp_path: Path) -> None:
    shown = outputs(executed(path, tmp_path))
    pages = [output["data"]["text/html"] for output in shown if "data" in output and "text/html" in output["data"]]
    assert any("<progress" in page and "% · " in page for page in pages)
    assert any("of 46 complete" in page for page in pages)
    assert sum("<table" in page for page in pages) >= 3
    assert not [output for output in shown if output["output_type"] == "error"]
    assert not [output for output in shown if output.get("name") == "stderr"], shown
