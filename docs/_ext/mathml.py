"""Writes formulas as MathML, which browsers show by themselves: MathJax would have to be fetched."""

from __future__ import annotations

import re
from typing import Any

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.errors import ExtensionError


def _to_mathml(node: nodes.math | nodes.math_block, *, as_block: bool) -> str:
    """Return a formula as a MathML element."""
    formula = re.sub(r"\\dots\b", r"\\ldots", node.astext())  # docutils does not know \dots
    try:
        return str(tex2mathml(formula, as_block=as_block))
    except SyntaxError as error:
        raise ExtensionError(f"{node.source}, line {node.line}: {error}") from error


def _inline(writer: Any, node: nodes.math) -> None:
    writer.body.append(_to_mathml(node, as_block=False))
    raise nodes.SkipNode


def _block(writer: Any, node: nodes.math_block) -> None:
    writer.body.append(f'<div class="math-block">{_to_mathml(node, as_block=True)}</div>')
    raise nodes.SkipNode


def setup(app: Any) -> dict[str, bool]:
    """Register the renderer with Sphinx, under the name ``mathml``."""
    app.add_html_math_renderer("mathml", (_inline, None), (_block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
