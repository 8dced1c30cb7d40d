"""Draws mermaid graphs as SVG while the site is built, so that a page needs neither a script nor the network.

It knows what the pages use: ``graph LR``, ``RL`` and ``TD``, nodes ``name`` and ``name["text"]``, arrows ``-->``,
``-- text -->`` and ``-. text .->``. ``<br>`` breaks a line.
"""

from __future__ import annotations

import re
from html import escape
from itertools import pairwise
from typing import Any

from docutils import nodes
from docutils.parsers.rst import Directive
from graph_layout import LABEL_CHARACTER, Edge, Graph, Layout, label_lines, lay_out, node_height, node_width

_NODE = r'(\w+)(?:\["([^"]*)"\])?'
_LINE = re.compile(rf"^\s*{_NODE}\s*(?:(--|-\.)\s*(.*?)\s*)??(-->|\.->)\s*{_NODE}\s*$")
_MARGIN = 6
_LEAST_SCALE = 0.8  # on a narrow page a graph shrinks to this, and then scrolls


class Mermaid(Directive):
    """Replaces a mermaid graph by its drawing."""

    has_content = True

    def run(self) -> list[nodes.Node]:
        try:
            drawing = draw(parse(list(self.content)))
        except ValueError as error:
            raise self.error(f"mermaid: {error}") from error
        html = f'<div class="graph">{drawing}</div>'
        return [nodes.raw("", html, format="html")]


def parse(lines: list[str]) -> Graph:
    """Read the lines of a graph.

    Raises:
        ValueError: a line is neither the first one nor an arrow.
    """
    first = re.fullmatch(r"\s*graph (LR|RL|TD)\s*", lines[0])
    if first is None:
        raise ValueError(f"the first line is {lines[0]!r}; it must be graph LR, graph RL or graph TD")
    labels: dict[str, str] = {}
    edges: list[Edge] = []
    for line in lines[1:]:
        if not line.strip():
            continue
        arrow = _LINE.match(line)
        if arrow is None:
            raise ValueError(f"{line!r} is no arrow between two nodes")
        source, source_text, _, label, head, target, target_text = arrow.groups()
        for name, text in ((source, source_text), (target, target_text)):
            if text or name not in labels:
                labels[name] = (text or name).replace("<br>", "\n")
        edges.append(Edge(source, target, label or "", is_dashed=head == ".->"))
    return Graph(first[1], labels, edges)


def draw(graph: Graph) -> str:
    """Return the graph as an SVG element, in the colors of the page."""
    layout = lay_out(graph)
    width, height = layout.width + 2 * _MARGIN, layout.height + 2 * _MARGIN
    names = ", ".join(label.replace("\n", " ") for label in graph.labels.values())
    parts = [
        f'<svg role="img" aria-label="{escape(f"Graph of {names}")}" width="{width:.0f}" height="{height:.0f}" '
        f'style="min-width: {_LEAST_SCALE * width:.0f}px" viewBox="{-_MARGIN} {-_MARGIN} {width:.0f} {height:.0f}" xmlns="http://www.w3.org/2000/svg">',
        '<defs><marker id="arrow" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="8" markerHeight="8" orient="auto">'
        '<path d="M0 0 L8 4 L0 8 z"/></marker></defs>',
    ]
    parts += [_line(edge, graph, layout) for edge in graph.edges]
    parts += [_label(edge, graph, layout) for edge in graph.edges if edge.label]
    parts += [_box(label, *layout.places[name]) for name, label in graph.labels.items()]
    return "".join([*parts, "</svg>"])


def _line(edge: Edge, graph: Graph, layout: Layout) -> str:
    """Return a curve from the side of the source through the bends to the side of the target."""
    points = _points(edge, graph, layout)
    path = f"M{points[0][0]:.1f} {points[0][1]:.1f}"
    for (x0, y0), (x1, y1) in pairwise(points):
        if graph.direction == "TD":
            middle = (y0 + y1) / 2
            path += f" C{x0:.1f} {middle:.1f} {x1:.1f} {middle:.1f} {x1:.1f} {y1:.1f}"
        else:
            middle = (x0 + x1) / 2
            path += f" C{middle:.1f} {y0:.1f} {middle:.1f} {y1:.1f} {x1:.1f} {y1:.1f}"
    dashes = ' stroke-dasharray="4 3"' if edge.is_dashed else ""
    return f'<path class="edge" d="{path}"{dashes} marker-end="url(#arrow)"/>'


def _points(edge: Edge, graph: Graph, layout: Layout) -> list[tuple[float, float]]:
    points = [layout.places[name] for name in edge.path]
    sign = -1 if graph.direction == "RL" else 1

    def side(name: str, sign: int) -> tuple[float, float]:
        """The middle of the side at which an arrow leaves (sign 1) or arrives (sign -1)."""
        x, y = layout.places[name]
        label = graph.labels[name]
        if graph.direction == "TD":
            return x, y + sign * node_height(label) / 2
        return x + sign * node_width(label) / 2, y

    points[0] = side(edge.source, sign)
    points[-1] = side(edge.target, -sign)
    return points


def _label(edge: Edge, graph: Graph, layout: Layout) -> str:
    """Return the text of an arrow, on its first part: where arrows to different nodes have parted."""
    (x0, y0), (x1, y1) = _points(edge, graph, layout)[:2]
    x, y = (x0 + x1) / 2, (y0 + y1) / 2 if graph.direction == "TD" else y1
    lines = label_lines(edge.label)
    width, height = LABEL_CHARACTER * max(map(len, lines)) + 4, 14 * len(lines)
    box = (
        f'<rect class="label" x="{x - width / 2:.1f}" y="{y - height / 2:.1f}" width="{width:.1f}" height="{height}"/>'
    )
    return box + _text(lines, x, y, 14, ' class="label"')


def _box(label: str, x: float, y: float) -> str:
    width, height = node_width(label), node_height(label)
    box = f'<rect class="node" x="{x - width / 2:.1f}" y="{y - height / 2:.1f}" width="{width:.1f}" height="{height}"'
    return f'{box} rx="4"/>{_text(label.split(chr(10)), x, y, 16)}'


def _text(lines: list[str], x: float, y: float, line_height: int, attributes: str = "") -> str:
    """Return lines of text around a center."""
    top = y - line_height * (len(lines) - 1) / 2
    return "".join(
        f'<text{attributes} x="{x:.1f}" y="{top + line_height * number:.1f}">{escape(line)}</text>'
        for number, line in enumerate(lines)
    )


def setup(app: Any) -> dict[str, bool]:
    """Register the directive with Sphinx."""
    app.add_directive("mermaid", Mermaid)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
