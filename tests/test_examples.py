"""The examples run as they stand."""

import os
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from running import REPOSITORY

pytestmark = pytest.mark.slow


def test_the_notebook_goes_from_a_folder_to_a_verdict(tmp_path, monkeypatch):
    programs = Path(sys.executable).parent  # not activated where pytest is called by its path
    monkeypatch.setenv("PATH", os.pathsep.join([str(programs), os.environ["PATH"]]))
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    notebook = nbformat.read(REPOSITORY / "examples/folder_to_verdict.ipynb", as_version=4)
    resources = {"metadata": {"path": str(tmp_path)}}
    NotebookClient(notebook, timeout=300, kernel_name="python3", resources=resources).execute()  # errors are raised

    said = ["".join(output.get("text", "") for output in cell.get("outputs", ())) for cell in notebook.cells]
    assert sum("AUC score = " in text for text in said) == 1
    verdicts = [line for text in said for line in text.splitlines() if line.startswith("films/")]
    assert len([line for line in verdicts if "% of normal films" in line]) == 8
    shown = [output["data"] for cell in notebook.cells for output in cell.get("outputs", ()) if "data" in output]
    assert any(data.get("text/html", "").startswith("<figure><img") for data in shown)
    assert (tmp_path / "log/run/report.html").exists() and (tmp_path / "explanation.pdf").exists()
