"""Writes the table "pattern x method" into docs/drop_in.md; the tests hold every cell of it.

python -m tests.dropin.table [--check]
"""

from __future__ import annotations

import argparse
from pathlib import Path

from tests.dropin.patterns import METHODS, PATTERNS

PAGE = Path(__file__).parents[2] / "docs" / "drop_in.md"
BEGIN = "<!-- pattern x method -->"
END = "<!-- end of pattern x method -->"


def make_table() -> str:
    """Return the table, and the reasons that its numbers stand for."""
    reasons: list[str] = []
    lines = ["| your module | " + " | ".join(f"`{method}`" for method in METHODS) + " |"]
    lines.append("| --- |" + " --- |" * len(METHODS))
    for pattern in PATTERNS:
        cells = []
        for method in METHODS:
            refusal = pattern.refusals.get(method)
            if refusal is None:
                cells.append("works")
                continue
            if refusal.reason not in reasons:
                reasons.append(refusal.reason)
            cells.append(f"refused ({reasons.index(refusal.reason) + 1})")
        lines.append(f"| {pattern.meaning} | " + " | ".join(cells) + " |")
    lines += ["", "Refused because:", ""]
    lines += [f"{number}. {reason}" for number, reason in enumerate(reasons, 1)]
    return "\n".join(lines).replace("`Crust without mixing`", "`Crust(partner='none')`")


def updated(page: str) -> str:
    """Return the page with the present table between its markers."""
    before, rest = page.split(BEGIN)
    after = rest.split(END)[1]
    return f"{before}{BEGIN}\n\n{make_table()}\n\n{END}{after}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="say whether the page is up to date, and leave it alone")
    is_check = parser.parse_args().check
    page = PAGE.read_text()
    if not is_check:
        PAGE.write_text(updated(page))
    elif page != updated(page):
        raise SystemExit(f"{PAGE.name} is not up to date; run python -m tests.dropin.table")


if __name__ == "__main__":
    main()
