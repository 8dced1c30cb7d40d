"""Writes the tables of all documents from the rows that lie in the tree.

usage: python -m experiments.tables [--check], from the repository root

A document says which table it wants by the arguments of ``python -m noisylabels_pl.table``:

    <!-- table: experiments/digits/rows.jsonl --number last,last_10 -->
    <!-- end of table -->
"""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path

from noisylabels_pl.cli.table import table_of

_TABLE = re.compile(r"(<!-- table: (.*?) -->\n).*?(<!-- end of table -->)", re.DOTALL)


def updated(text: str) -> str:
    """Return a document with its tables made anew."""

    def make(match: re.Match[str]) -> str:
        return f"{match[1]}{table_of([*shlex.split(match[2]), '--format=md'])}\n{match[3]}"

    return _TABLE.sub(make, text)


def main() -> None:
    is_check = sys.argv[1:] == ["--check"]
    documents = [Path("README.md"), *sorted(Path("docs").rglob("*.md")), *sorted(Path("experiments").rglob("*.md"))]
    outdated = []
    for document in documents:
        text = document.read_text()
        new_text = updated(text)
        if new_text != text:
            outdated.append(str(document))
            if not is_check:
                document.write_text(new_text)
    if is_check and outdated:
        sys.exit(f"{', '.join(outdated)}: tables differ from their rows; run python -m experiments.tables")


if __name__ == "__main__":
    main()
