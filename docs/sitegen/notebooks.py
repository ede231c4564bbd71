"""The notebooks of examples/notebooks: scripts in jupytext's percent format, and their pages and .ipynb files."""

from __future__ import annotations

from pathlib import Path

from sitegen import ROOT
from sitegen.registry import count

FOLDER = ROOT / "examples" / "notebooks"
NETWORKS = {  # name of the notebook -> registered network
    "lenet": "lenet",
    "alexnet": "alexnet",
    "vgg": "vgg11_d2l",
    "nin": "nin_d2l",
    "googlenet": "googlenet_d2l",
    "batch_norm": "lenet",
    "resnet": "resnet18_d2l",
    "densenet": "densenet_d2l",
}


def files() -> list[Path]:
    """Returns the notebooks, in the order of the book."""
    return [FOLDER / f"{name}.py" for name in NETWORKS]


def table() -> str:
    """Returns a table of the notebooks: network, parameters, what it is about."""
    lines = ["| notebook | network | parameters | multiply-adds |", "| --- | --- | ---: | ---: |"]
    for file in files():
        name = NETWORKS[file.stem]
        report = count(name)
        link = f"[{title(file)}](../examples/notebooks/{file.name})"
        lines.append(f"| {link} | `{name}` | {report.params.total:,} | {report.macs:,} |")
    return "\n".join(lines)


def title(file: Path) -> str:
    """Returns the title of a notebook."""
    return next(line for line in file.read_text().splitlines() if line.startswith("# # ")).removeprefix("# # ")


def page(file: Path) -> str:
    """Returns a notebook as Markdown, with a link to its .ipynb file."""
    import jupytext

    cells = jupytext.read(file).cells
    parts = [cell.source if cell.cell_type == "markdown" else f"```python\n{cell.source}\n```" for cell in cells]
    parts.insert(1, f"[{file.stem}.ipynb]({file.stem}.ipynb) is this page as a notebook.")
    return "\n\n".join(parts)


def ipynb(file: Path) -> str:
    """Returns a notebook in Jupyter's format, without outputs."""
    import jupytext

    notebook = jupytext.read(file)
    for number, cell in enumerate(notebook.cells):
        cell["id"] = f"{file.stem}-{number}".replace("_", "-")  # not random
    notebook.metadata = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    text: str = jupytext.writes(notebook, fmt="ipynb")
    return text
