"""Makes the links of Markdown files work on the site as they do in the repository.

A page may show a file from elsewhere in the repository, such as ``experiments/elr/README.md``, by an ``include``. A
link to that file then leads to the page, and links in the file count from its own folder. Of files without a page, code
is a download, and Markdown is not linked.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parents[1]
_LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)#:\s]+)(#[^)\s]*)?\)")
_INCLUDE = re.compile(r"^```\{include\} (\S+)$", re.MULTILINE)


def pages_of_files() -> dict[Path, Path]:
    """Return the page of each file that has one: of the pages themselves, and of files that a page includes."""
    pages = {}
    for page in DOCS.rglob("*.md"):
        pages[page] = page
        for target in _INCLUDE.findall(page.read_text()):
            pages[(page.parent / target).resolve()] = page
    return pages


def adapt(text: str, file: Path, pages: dict[Path, Path]) -> str:
    """Return the text of a file with links that count from the folder of the site.

    Args:
        text: of the file.
        file: from whose folder its links count.
        pages: of :func:`pages_of_files`.
    """

    def adapted(match: re.Match[str]) -> str:
        mark, title, target, anchor = match.groups(default="")
        path = (file.parent / target).resolve()
        if path.is_dir():
            path /= "README.md"
        if not path.is_file():
            return match[0]  # no link, or one of which the build says that it leads nowhere
        if path.suffix == ".md" and path not in pages:
            return title  # the README
        place = os.path.relpath(pages.get(path, path), DOCS)
        return f"{mark}[{title}](/{place}{anchor})"

    return _LINK.sub(adapted, text)


def setup(app: Any) -> dict[str, bool]:
    """Connect to the events at which Sphinx has read a page, or a file that a page includes."""
    pages = pages_of_files()

    def adapt_page(app: Any, docname: str, content: list[str]) -> None:
        content[0] = adapt(content[0], Path(app.env.doc2path(docname)), pages)

    def adapt_included(app: Any, path: Path, docname: str, content: list[str]) -> None:
        content[0] = adapt(content[0], (DOCS / path).resolve(), pages)

    app.connect("source-read", adapt_page)
    app.connect("include-read", adapt_included)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
