"""Reading result rows with their history, and putting them into groups."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

Row = dict[str, Any]
"""One ``result.json``, see :func:`noisylabels_pl.report.result.make_result`."""


def read_rows(folder: Path) -> list[Row]:
    """Return every ``result.json`` below a folder; exit with an error if there is none."""
    rows = [json.loads(path.read_text()) for path in sorted(folder.rglob("result.json"))]
    if not rows:
        raise SystemExit(f"there is no result.json below {folder.resolve()}; run the experiment first")
    return rows


def group_by(rows: Sequence[Row], key: Callable[[Row], Any]) -> dict[Any, list[Row]]:
    """Return the rows by their key, with the keys in the order of first appearance."""
    groups: dict[Any, list[Row]] = {}
    for row in rows:
        groups.setdefault(key(row), []).append(row)
    return groups
