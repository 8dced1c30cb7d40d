"""Writes what follows from the code: a page of the site for each method, the public names, and the README's table.

python -m docs.generate [--check]

A method's page is put together from its class's docstring, its file in ``conf/method``, the words in
``docs/methods.yaml``, the benchmarks and, where there are some, the rows of ``experiments/*/rows.jsonl``.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from docs._pages.api_pages import API_PACKAGES, api_index_page, api_page
from docs._pages.method_pages import index_page, method_page, readme_table
from docs._pages.methods import methods

DOCS = Path(__file__).parent
README = DOCS.parent / "README.md"
BEGIN, END = "<!-- methods -->", "<!-- end of methods -->"


def pages() -> dict[Path, str]:
    """Return all generated pages, by their place."""
    every = methods()
    pages = {DOCS / "methods" / f"{method.name}.md": method_page(method) for method in every}
    pages[DOCS / "methods" / "index.md"] = index_page(every)
    pages[DOCS / "api" / "index.md"] = api_index_page()
    for package in API_PACKAGES:
        pages[DOCS / "api" / f"{package}.md"] = api_page(package)
    before, rest = README.read_text().split(BEGIN)
    after = rest.split(END)[1]
    pages[README] = f"{before}{BEGIN}\n\n{readme_table(every)}\n\n{END}{after}"
    return pages


def main() -> None:
    """Write the pages, or check them."""
    parser = argparse.ArgumentParser(description="Write the generated pages of the site.")
    parser.add_argument("--check", action="store_true", help="say which pages are not up to date, and leave them alone")
    is_check = parser.parse_args().check
    current = pages()
    old = [path for path, text in current.items() if not path.is_file() or path.read_text() != text]
    written = {path for folder in ("methods", "api") for path in (DOCS / folder).glob("*.md")}
    surplus = sorted(written - current.keys())
    if is_check:
        if old or surplus:
            names = ", ".join(str(path.relative_to(DOCS.parent)) for path in (*old, *surplus))
            raise SystemExit(f"not up to date: {names}; run python -m docs.generate")
        return
    for path in old:
        path.parent.mkdir(exist_ok=True)
        path.write_text(current[path])
    for path in surplus:
        path.unlink()


if __name__ == "__main__":
    main()
