"""Places for the nodes of a small graph: layers from the sources on, few crossings."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise

NODE_HEIGHT = 30
NODE_GAP = 16
LAYER_GAP = 26
CHARACTER = 7.0  # width of a letter in a node, in pixels
LABEL_CHARACTER = 6.2


@dataclass
class Edge:
    """An arrow, with the places it passes through once the graph is laid out.

    Attributes:
        source: name of a node.
        target: name of a node.
        label: text beside the arrow.
        is_dashed: whether the line is dashed.
        path: names of the nodes on the way: the source, a bend for each layer between, the target.
    """

    source: str
    target: str
    label: str = ""
    is_dashed: bool = False
    path: list[str] = field(default_factory=list)


@dataclass
class Graph:
    """Nodes with their texts, and the arrows between them."""

    direction: str
    labels: dict[str, str]
    edges: list[Edge]


@dataclass
class Layout:
    """Where everything is: ``places`` has the center of each node and bend, in a frame of ``width`` by ``height``."""

    places: dict[str, tuple[float, float]]
    width: float
    height: float


def label_lines(label: str) -> list[str]:
    """Return the lines of an arrow's text: two if it is long."""
    words = label.split()
    if len(label) <= 12 or len(words) == 1:
        return [label]
    middle = min(range(1, len(words)), key=lambda cut: abs(len(" ".join(words[:cut])) - len(label) / 2))
    return [" ".join(words[:middle]), " ".join(words[middle:])]


def node_width(label: str) -> float:
    """Return the width of a node's box in pixels; a bend, which has no text, has none."""
    return CHARACTER * max(len(line) for line in label.split("\n")) + 20 if label else 0.0


def node_height(label: str) -> float:
    """Return the height of a node's box in pixels."""
    return NODE_HEIGHT + 16 * label.count("\n")


def lay_out(graph: Graph) -> Layout:
    """Place the nodes of a graph without cycles, and fill the paths of its edges.

    Args:
        graph: its ``direction`` is ``LR``, ``RL`` or ``TD``.
    """
    ranks = _ranks(graph)
    layers = _layers(graph, ranks)
    _reduce_crossings(layers, graph.edges)
    is_vertical = graph.direction == "TD"

    def extent(name: str, along: bool) -> float:
        """Size of a node in the direction of the layers (``along``) or across it."""
        label = graph.labels.get(name, "")
        return node_height(label) if along == is_vertical else node_width(label)

    spans = [sum(extent(name, along=False) + NODE_GAP for name in layer) - NODE_GAP for layer in layers]
    breadth = max(spans)
    places: dict[str, tuple[float, float]] = {}
    start = 0.0
    for rank, layer in enumerate(layers):
        depth = max(extent(name, along=True) for name in layer)
        position = (breadth - spans[rank]) / 2
        for name in layer:
            size = extent(name, along=False)
            across, along = position + size / 2, start + depth / 2
            places[name] = (across, along) if is_vertical else (along, across)
            position += size + NODE_GAP
        start += depth + _gap_after(rank, ranks, graph)
    length = start - _gap_after(len(layers) - 1, ranks, graph)
    if graph.direction == "RL":
        places = {name: (length - x, y) for name, (x, y) in places.items()}
    return Layout(places, *((breadth, length) if is_vertical else (length, breadth)))


def _ranks(graph: Graph) -> dict[str, int]:
    """Return the layer of each node: one more than that of the last node with an arrow to it."""
    ranks = dict.fromkeys(graph.labels, 0)
    for _ in graph.labels:
        for edge in graph.edges:
            ranks[edge.target] = max(ranks[edge.target], ranks[edge.source] + 1)
    if max(ranks.values()) >= len(ranks):
        raise ValueError("the graph has a cycle; draw one without")
    return ranks


def _layers(graph: Graph, ranks: dict[str, int]) -> list[list[str]]:
    """Return the names of each layer, with bends where an arrow passes a layer, and fill the paths of the edges."""
    layers: list[list[str]] = [[] for _ in range(max(ranks.values()) + 1)]
    for name, rank in ranks.items():
        layers[rank].append(name)
    for number, edge in enumerate(graph.edges):
        edge.path = [edge.source]
        for rank in range(ranks[edge.source] + 1, ranks[edge.target]):
            bend = f"bend {number} {rank}"
            layers[rank].append(bend)
            edge.path.append(bend)
        edge.path.append(edge.target)
    return layers


def _reduce_crossings(layers: list[list[str]], edges: list[Edge]) -> None:
    """Sort each layer by the mean position of the neighbors in the layer before, then by those in the layer after."""
    before: dict[str, list[str]] = {}
    after: dict[str, list[str]] = {}
    for edge in edges:
        for first, second in pairwise(edge.path):
            before.setdefault(second, []).append(first)
            after.setdefault(first, []).append(second)
    for _ in range(4):
        for layer in layers:
            _sort_by_neighbors(layer, before, layers)
        for layer in reversed(layers):
            _sort_by_neighbors(layer, after, layers)


def _sort_by_neighbors(layer: list[str], neighbors: dict[str, list[str]], layers: list[list[str]]) -> None:
    """Sort a layer by the mean position of each node's neighbors; a node without any keeps its place."""
    position = {name: index / len(names) for names in layers for index, name in enumerate(names)}
    means = {}
    for name in layer:
        linked = neighbors.get(name, [name])
        means[name] = sum(position[other] for other in linked) / len(linked)
    layer.sort(key=means.__getitem__)


def _gap_after(rank: int, ranks: dict[str, int], graph: Graph) -> float:
    """Return the room between a layer and the next one, in which the labels of their arrows must fit."""
    labels = [edge.label for edge in graph.edges if edge.label and ranks[edge.source] == rank]
    lines = [line for label in labels for line in label_lines(label)]
    if graph.direction == "TD":
        return LAYER_GAP + (40 if lines else 16)
    return LAYER_GAP + LABEL_CHARACTER * max(map(len, lines), default=0)
