"""Markdown tables, and the section of a document that holds them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

START = "<!-- results -->"
END = "<!-- end of results -->"


def markdown_table(header: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [header, ["---"] * len(header), *body]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def replace_section(document: Path, text: str) -> None:
    """Replace the text between the lines ``<!-- results -->`` and ``<!-- end of results -->``."""
    before, rest = document.read_text().split(START)
    _, after = rest.split(END)
    document.write_text(f"{before}{START}\n{text}\n{END}{after}")
