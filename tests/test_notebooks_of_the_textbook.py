"""The notebooks on the chapters of the textbook: each runs with its quick settings, as a script and as a notebook."""

from __future__ import annotations

import json
import re
import runpy
from pathlib import Path

import pytest

import cnnzoo
from sitegen import notebooks

FILES = notebooks.files()


@pytest.mark.parametrize(
    "file", [pytest.param(f, id=f.stem, marks=() if f.stem == "nin" else pytest.mark.slow) for f in FILES]
)
def test_runs_as_a_script(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(file))
    out = capsys.readouterr().out
    network = cnnzoo.count(notebooks.NETWORKS[file.stem])
    assert f"{network.params.total:,}" in out and "test acc" in out


def test_every_notebook_has_its_page_and_the_settings_of_the_book() -> None:
    assert {file.name for file in notebooks.FOLDER.glob("*.py")} == {file.name for file in FILES}
    for file in FILES:
        text = file.read_text()
        assert "https://d2l.ai/chapter_" in text and re.search(
            r'# the chapter: "fashion_mnist",.* 10$', text, re.MULTILINE
        )
        assert notebooks.title(file) in notebooks.table()


def test_page_and_notebook_have_the_cells_of_the_script() -> None:
    pytest.importorskip("jupytext")
    for file in FILES:
        notebook = json.loads(notebooks.ipynb(file))
        assert notebooks.ipynb(file) == notebooks.ipynb(file)
        code = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]
        assert len(code) == len(re.findall(r"^# %%$", file.read_text(), re.MULTILINE)) > 3
        page = notebooks.page(file)
        assert page.startswith(f"# {notebooks.title(file)}\n") and all(
            f"```python\n{cell}\n```" in page for cell in code
        )


@pytest.mark.slow
@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_runs_in_jupyter(file: Path, tmp_path: Path) -> None:
    pytest.importorskip("jupytext")
    nbclient = pytest.importorskip("nbclient")
    import nbformat

    notebook = nbformat.reads(notebooks.ipynb(file), as_version=4)
    nbclient.NotebookClient(notebook, timeout=600, resources={"metadata": {"path": tmp_path}}).execute()
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    assert not [output for output in outputs if output.output_type == "error"]
    assert any("test acc" in output.get("text", "") for output in outputs)
