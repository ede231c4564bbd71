"""Chains and branches of a graph with one input: what is drawn side by side, and what in a row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Split:
    """Branches between two nodes: each reads the node before, and the node after reads each.

    Attributes:
        lanes: The branches; an empty one is the identity.
    """

    lanes: tuple[tuple[Item, ...], ...]


@dataclass(frozen=True)
class Tangle:
    """Nodes between two nodes whose edges are neither a chain nor branches.

    Attributes:
        nodes: Their indices, in order.
    """

    nodes: tuple[int, ...]


Item = int | Split | Tangle  # a node's index, or several nodes


def decompose(inputs: Sequence[Sequence[int]]) -> tuple[Item, ...]:
    """Returns a graph as a chain of nodes and branches.

    Args:
        inputs: For each node the indices of the nodes that it reads, all of them lower; the first node reads none, and
            the nodes that nothing reads are outputs.
    """
    end = len(inputs)
    read = {source for sources in inputs for source in sources}
    edges = {node: list(sources) for node, sources in enumerate(inputs)}
    edges[end] = [node for node in range(end) if node not in read]
    return (0, *_chain(range(1, end), 0, end, edges))


def _chain(nodes: Sequence[int], entry: int, end: int, edges: dict[int, list[int]]) -> tuple[Item, ...]:
    """Returns the items of the nodes between an entry and an end, both left out."""
    inside = {entry, *nodes}
    items: list[Item] = []
    between: list[int] = []
    start = entry
    # a node that no edge passes is on all paths
    passed = {}
    for node in (*nodes, end):
        for source in edges[node]:
            if source in inside:
                passed[source] = node  # the last node that reads it
    furthest = passed.get(entry, entry)
    for node in (*nodes, end):
        if node == end or furthest <= node:
            items += _between(between, start, node, edges)
            if node != end:
                items.append(node)
            start, between = node, []
        else:
            between.append(node)
        furthest = max(furthest, passed.get(node, node))
    return tuple(items)


def _between(nodes: Sequence[int], entry: int, end: int, edges: dict[int, list[int]]) -> list[Item]:
    """Returns the items of nodes of which none is on all paths from entry to end."""
    if not nodes:
        return []
    parts = _components(nodes, edges)
    lanes: list[tuple[Item, ...]] = [()] if entry in edges[end] else []
    if len(parts) + len(lanes) == 1:
        return [Tangle(tuple(nodes))]
    for part in parts:
        own = {node: edges[node] for node in part}
        lanes.append(_chain(part, entry, end, {**own, end: [source for source in edges[end] if source in own]}))
    return [Split(tuple(lanes))]


def _components(nodes: Sequence[int], edges: dict[int, list[int]]) -> list[list[int]]:
    """Returns the parts of the nodes that no edge connects, in order of their first nodes."""
    root = {node: node for node in nodes}

    def find(node: int) -> int:
        while root[node] != node:
            node = root[node] = root[root[node]]
        return node

    for node in nodes:
        for source in edges[node]:
            if source in root:
                a, b = sorted((find(node), find(source)))
                root[b] = a
    parts: dict[int, list[int]] = {}
    for node in nodes:
        parts.setdefault(find(node), []).append(node)
    return list(parts.values())


def nodes_of(item: Item) -> list[int]:
    """Returns the nodes of an item, in order."""
    if isinstance(item, int):
        return [item]
    if isinstance(item, Tangle):
        return list(item.nodes)
    return sorted(node for lane in item.lanes for one in lane for node in nodes_of(one))


def drawn_edges(items: Sequence[Item], entry: int | None = None, end: int | None = None) -> set[tuple[int, int]]:
    """Returns the edges that follow from the places of the nodes in a chain: (node that is read, its reader).

    Args:
        items: The chain.
        entry: The node before it.
        end: The node behind it.
    """
    edges: set[tuple[int, int]] = set()
    last = entry
    for item, following in zip(items, [*items[1:], end], strict=False):
        if isinstance(item, Split):
            after = following if isinstance(following, int) else None
            for lane in item.lanes:
                edges |= drawn_edges(lane, last, after)
            last = None
            continue
        nodes = nodes_of(item)
        edges |= {(a, b) for a, b in zip((last, *nodes), nodes, strict=False) if a is not None}
        last = nodes[-1]
    if last is not None and end is not None:
        edges.add((last, end))
    return edges
