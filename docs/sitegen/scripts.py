"""The scripts of examples/ and tests/benchmarks/: their docstrings, their output, their code."""

from __future__ import annotations

import ast
import textwrap

from sitegen import ROOT
from sitegen.markdown import collapsible, escape


def all_scripts(folder: str, level: int = 2, *, with_code: bool = False) -> str:
    """Returns every script of a folder that has a docstring, with its output if docs/records/NAME.txt exists.

    Args:
        folder: The folder, relative to the repository.
        level: Level of the headings.
        with_code: Whether the code follows, in a box.
    """
    parts = []
    for file in sorted((ROOT / folder).rglob("*.py")):
        code = file.read_text()
        docstring = ast.get_docstring(ast.parse(code))
        if docstring is None or file.name == "__init__.py":
            continue
        path = file.relative_to(ROOT)
        first, _, rest = docstring.partition("\n")
        parts += [f"{'#' * level} {path.relative_to(folder)}", "", escape(first), ""]
        for paragraph in filter(str.strip, rest.split("\n\n")):
            paragraph = textwrap.dedent(paragraph.strip("\n"))
            is_shell = paragraph.startswith(("python ", "pip ", "torchrun ", "accelerate ", "hf "))
            parts += ["```text", paragraph, "```", ""] if is_shell else [escape(paragraph), ""]
        if (output := ROOT / "docs" / "records" / f"{file.stem}.txt").exists():
            parts += ["Output:", "", f"```text\n{output.read_text().rstrip()}\n```", ""]
        if with_code:
            parts += [collapsible(f"{path}", f"```python\n{code.strip()}\n```"), ""]
    return "\n".join(parts)


def captum() -> str:
    """Returns the functions of examples/explain_with_captum.py that call Captum."""
    return functions("explain_with_captum.py", "deep_lift", "integrated_gradients", "occlusion")


def training_loops() -> str:
    """Returns the loops of Accelerate and of Lightning Fabric from examples/accelerate_and_lightning.py."""
    return functions("accelerate_and_lightning.py", "train_accelerate", "train_fabric")


def functions(script: str, *names: str) -> str:
    """Returns functions of a script of examples/."""
    code = (ROOT / "examples" / script).read_text()
    nodes = {node.name: node for node in ast.parse(code).body if isinstance(node, ast.FunctionDef)}
    return "\n\n".join(f"```python\n{ast.get_source_segment(code, nodes[name])}\n```" for name in names)
