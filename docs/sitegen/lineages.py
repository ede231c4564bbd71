"""The pages of the lineages."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from importlib import import_module

import cnnzoo
from cnnzoo.blocks import Block, Parallel, build_blocks
from cnnzoo.diff import align
from cnnzoo.measure.tables import human, shape_text
from cnnzoo.registry import get_entry
from sitegen import diagrams, records
from sitegen.markdown import code_list, collapsible, first_line, slug, table_body
from sitegen.registry import count, lineages, table, title

MAX_OPEN_BLOCKS = 30  # in a table that is initially open
MAX_CHANGES = 40  # in a difference that is shown


def page(lineage: str) -> str:
    """Returns the page of a lineage: per model its picture, blocks, published figures, difference and training."""
    names = lineages()[lineage]
    parts = [f"# {title(lineage)}", "", first_line(import_module(f"cnnzoo.models.{lineage}")), ""]
    parts += ["" if len(names) == 1 else table(names, "[`{name}`](#{name})"), "", usage(names), ""]
    for i, name in enumerate(names):
        parts += [f"## `{name}` {{ #{name} }}", "", first_line(get_entry(name).function), ""]
        parts += [diagrams.images(name), ""]
        parts += [block_table(name, is_first=i == 0), ""]
        for audit in cnnzoo.verify(name).tables():
            what = audit.title.partition(": ")[2]
            parts += [f"#### {what[0].upper()}{what[1:]} {{ #{name}-{slug(what)} }}", "", table_body(audit), ""]
        if i:
            parts += [nearest_difference(name, names[:i]), ""]
        parts += [training(name), ""]
    return "\n".join(parts)


def usage(names: Sequence[str]) -> str:
    """Returns the code that creates, counts and loads a model of a lineage."""
    name = names[0]
    lines = [
        "```python",
        "import cnnzoo",
        "",
        f'model = cnnzoo.create("{name}")',
        f'print(cnnzoo.count("{name}"))  # {human(count(name).params.total)} parameters, layer by layer',
        f'print(cnnzoo.verify("{name}"))  # published figures beside exact ones',
        "```",
        "",
        f'`cnnzoo.save(model, "{name}.safetensors")` writes the weights and the description of the network; '
        f'`cnnzoo.load("{name}.safetensors")` reads them.',
    ]
    for pretrained, sentence in (
        (True, "Weights ship with cnnzoo for"),
        ("torchvision", "Weights of torchvision are available for"),
    ):
        matches = [name for name in names if name in cnnzoo.list_models(pretrained=pretrained)]
        if matches:
            call = f"cnnzoo.create({matches[0]!r}, pretrained={pretrained!r})".replace("'", '"')
            lines.append(f"{sentence} {code_list(matches)}: `{call}`.")
    return "\n".join(lines)


def block_table(name: str, *, is_first: bool) -> str:
    """Returns the blocks of a model with their outputs and counts, as in the paper's table.

    Args:
        name: Name of the model.
        is_first: Whether it is the first model of the page; its table is initially open unless it is long.
    """
    report, spec = count(name), cnnzoo.get_spec(name)
    built = build_blocks(spec.features, spec.input, "features")
    built += build_blocks(spec.classifier, built[-1].shape if built else spec.input, "classifier")
    lines = [
        "| block | output | parameters | multiply-adds | receptive field, px | |",
        "| --- | --- | ---: | ---: | ---: | --- |",
    ]
    for one in built:
        layers = [layer for layer in report.layers if layer.label.partition("/")[0] == one.block.label]
        params, macs = sum(layer.params for layer in layers), sum(layer.macs for layer in layers)
        field = max((layer.receptive_field for layer in layers if layer.receptive_field is not None), default="")
        shape = shape_text(one.shape)
        lines.append(f"| {one.block.label} | {shape} | {params:,} | {macs:,} | {field} | {block_code(one.block)} |")
    lines.append(f"| **total** | | **{report.params.total:,}** | **{report.macs:,}** | | |")
    return collapsible(
        f"Block by block: {len(built)} blocks", "\n".join(lines), is_open=is_first and len(built) <= MAX_OPEN_BLOCKS
    )


def block_code(block: Block) -> str:
    """Returns a block as code, without initial weights; a Parallel as one line per path."""
    if not isinstance(block, Parallel):
        return f"`{re.sub(r', (bias_)?init=[^,)]+', '', repr(block))}`"
    paths = [" → ".join(map(block_code, path)) or "identity" for path in block.paths]
    merge = "added" if block.merge == "add" else "concatenated"
    return "<br>".join([*paths, f"{merge}{f', then {block.activation}' if block.activation else ''}"])


def nearest_difference(name: str, others: Sequence[str]) -> str:
    """Returns the difference between a model and the one of some others with the fewest different blocks."""
    spec = cnnzoo.get_spec(name)

    def changes(other: str) -> int:
        pairs = align(cnnzoo.get_spec(other), spec)
        return sum(not (old and new and old[1] == new[1]) for old, new in pairs)

    nearest = min(others, key=changes)
    if (number := changes(nearest)) > MAX_CHANGES:
        return f"It differs from `{nearest}` in {number} blocks; `cnnzoo diff {nearest} {name}` shows them."
    difference = cnnzoo.diff(nearest, name).table()
    assert difference.total is not None
    _, _, params, macs = difference.total
    return collapsible(f"From {nearest}: {params} parameters, {macs} multiply-adds", table_body(difference))


def training(name: str) -> str:
    """Returns the records of the training of a model, with their curves; an empty string if there are none."""
    files = [file for file in records.files() if json.loads(file.read_text())["architecture"] == name]
    if not files:
        return ""
    lines = [f"#### Training {{ #{name}-training }}", "", records.table(files, "../records"), ""]
    for file in files:
        if file.with_suffix(".png").is_file():
            lines.append(f"![Curves of {file.stem}](../records/{file.stem}.png)")
    return "\n".join(lines)
