"""Blocks and stages of an architecture: chains of fewer nodes."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence

from cnnzoo.measure.architecture import Node
from cnnzoo.measure.drawing import DASH
from cnnzoo.measure.series_parallel import decompose, nodes_of


def block_graph(nodes: Sequence[Node]) -> list[Node]:
    """Returns a chain of nodes: branches and the joint behind them are one node, as are the operations of one block."""
    groups: list[list[int]] = []
    is_open = False  # whether the last group is branches whose joint follows
    for item in decompose([node.inputs for node in nodes]):
        members = nodes_of(item)
        first, last = nodes[members[0]], nodes[groups[-1][-1]] if groups else None
        if last and (_is_one_block(last, first) or (is_open and first.is_joint)):
            groups[-1] += members
        else:
            groups.append(members)
        is_open = not isinstance(item, int)
    return [_merge([nodes[i] for i in group], number) for number, group in enumerate(groups)]


def _is_one_block(last: Node, node: Node) -> bool:
    """Returns whether two nodes in a row are in one block with branches of a Spec."""
    return last.in_block and node.in_block and len(last.name) > 1 and node.name[0] == last.name[0]


def stage_graph(nodes: Sequence[Node]) -> list[Node]:
    """Returns a chain of nodes: blocks in a row whose maps have one size are one node, pools and others are not.

    Dense layers are one node if they have the same number of units.
    """
    blocks = block_graph(nodes)
    groups: list[list[int]] = []
    for i, node in enumerate(blocks):
        if groups and _is_one_stage(blocks[groups[-1][0]], blocks[groups[-1][-1]], node):
            groups[-1].append(i)
        else:
            groups.append([i])
    return [_merge_stage([blocks[i] for i in group], number) for number, group in enumerate(groups)]


def _is_one_stage(first: Node, last: Node, node: Node) -> bool:
    if not {last.kind, node.kind} <= {"conv", "block", "dense"}:
        return False
    if "dense" in (last.kind, node.kind):
        return last.kind == node.kind and last.shape == node.shape and last.op == node.op
    if last.shape[1:] != node.shape[1:]:
        return False
    has_branches = "block" in (first.kind, last.kind, node.kind)
    return not has_branches or _stem(first) == _stem(node)


def _stem(node: Node) -> str:
    """Returns the letters that a name begins with: ``fire`` of ``fire2_squeeze``; of ``features.12`` the first part."""
    return re.split(r"[\d._]", ".".join(node.name), maxsplit=1)[0]


def _merge(group: Sequence[Node], number: int) -> Node:
    """Returns the node that stands for several nodes, the ``number``-th of a chain."""
    inputs = (number - 1,) if number else ()
    if len(group) == 1:
        return dataclasses.replace(group[0], inputs=inputs)
    operations = [node for node in group if not node.is_joint]
    windows = dict.fromkeys(node.kernel for node in operations if node.kernel and node.kind != "pool")
    return Node(
        kind="block",
        name=common_name([node.name for node in group]) or group[0].name,
        shape=group[-1].shape,
        inputs=inputs,
        kernel=", ".join(windows),
        stride=next((node.stride for node in operations if node.stride), ""),
        norm=next((node.norm for node in operations if node.norm), ""),
        activation=next((node.activation for node in group if node.activation), ""),
        params=sum(node.params for node in group),
        macs=sum(node.macs for node in group),
    )


def _merge_stage(group: Sequence[Node], number: int) -> Node:
    merged = _merge(group, number)
    if len(group) == 1:
        return merged
    kinds = {node.kind for node in group}
    return dataclasses.replace(
        merged,
        kind=group[0].kind if len(kinds) == 1 else "block",
        name=(stage_name([".".join(node.name) for node in group]),),
        kernel=", ".join(dict.fromkeys(one for node in group for one in node.kernel.split(", ") if one)),
        groups=group[0].groups if len({node.groups for node in group}) == 1 else 1,
        repeats=len(group) if kinds <= {"block"} or len({node.kernel for node in group}) == len(kinds) == 1 else 0,
    )


def common_name(names: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
    """Returns the parts that names begin with alike; empty if there are none."""
    shared = []
    for parts in zip(*names, strict=False):
        if len(set(parts)) > 1:
            break
        shared.append(parts[0])
    return tuple(shared)


def stage_name(names: Sequence[str]) -> str:
    """Returns ``layer1`` for ``layer1.0`` and ``layer1.1``; else the first and the last name."""
    shared = names[0]
    while shared and not all(_begins_with(name, shared) for name in names):
        shared = shared[:-1]
    return shared or f"{names[0]}{DASH}{names[-1]}"


def _begins_with(name: str, shared: str) -> bool:
    """Returns whether a name begins with a numbered one: layer1.0 with layer1, but not conv10 with conv1."""
    return name.startswith(shared) and shared[-1].isdigit() and not name[len(shared) :][:1].isdigit()
