"""The page "Does it resume?": docs/records/resuming.json as a table, and the code that was measured."""

from __future__ import annotations

import ast
import json

from sitegen import ROOT
from sitegen.markdown import collapsible

RECORD = ROOT / "docs" / "records" / "resuming.json"
SCRIPT = ROOT / "tests" / "benchmarks" / "resuming.py"

# per library: the function that trains with it, and the page of its documentation
LIBRARIES = {
    "cnnzoo": ("train_cnnzoo", "Exact resuming", "training.md#exact-resuming"),
    "Hugging Face Trainer": ("train_transformers", "Trainer", "https://huggingface.co/docs/transformers/trainer"),
    "Accelerate": (
        "train_accelerate", "Checkpointing", "https://huggingface.co/docs/accelerate/usage_guides/checkpoint"
    ),
    "Lightning": (
        "train_lightning", "Saving and loading checkpoints",
        "https://lightning.ai/docs/pytorch/stable/common/checkpointing_basic.html",
    ),
    "Keras": ("train_keras", "BackupAndRestore", "https://keras.io/api/callbacks/backup_and_restore/"),
}  # fmt: skip


def table() -> str:
    """Returns what happens to each library's run, and where and when it was measured."""
    record = json.loads(RECORD.read_text())
    cases = record["cases"].values()
    lines = [
        "| library | resumed with | images of epoch 2 | order of epochs 2, 3 | largest difference | same bytes |",
        "| --- | --- | --- | --- | ---: | --- |",
    ]
    for case in cases:
        repeated, missed = case["seen_twice"], case["never_seen"]
        images = f"{repeated:,} twice, {missed:,} never" if repeated or missed else "each once"
        order = ", ".join("same" if is_same else "other" for is_same in case["same_order"])
        difference = f"{case['largest_difference']:.2g}"
        lines.append(
            f"| {case['library']} | {case['settings']} | {images} | {order} | {difference} | "
            f"{'**yes**' if case['same_bytes'] else 'no'} |"
        )
    assert all(case["repeatable"] for case in cases), "two undisturbed runs of a library differ"
    gap = max(abs(a - b) for a, b in (case["test_acc"] for case in cases))
    machine = record["machine"]
    versions = {"torch": machine["torch"]}
    for case in cases:
        versions |= case["versions"]
    versions["Python"] = machine["python"]
    return "\n".join(
        [
            *lines,
            "",
            "Two undisturbed runs give the same bytes with each library. The test accuracies of the undisturbed and",
            f"the resumed run differ by at most {gap:.3f}, on 1,000 images.",
            "",
            f"Measured on {record['date']} on {machine['cores']} cores of {machine['cpu']}, with",
            ", ".join(f"{package} {number}" for package, number in versions.items()) + ".",
        ]
    )


def code() -> str:
    """Returns the function of each library, as tests/benchmarks/resuming.py runs it."""
    text = SCRIPT.read_text()
    functions = {node.name: node for node in ast.parse(text).body if isinstance(node, ast.FunctionDef)}
    boxes = []
    for library, (function, title, address) in LIBRARIES.items():
        source = ast.get_source_segment(text, functions[function])
        boxes.append(collapsible(library, f"Its documentation: [{title}]({address}).\n\n```python\n{source}\n```"))
    return "\n\n".join(boxes)
