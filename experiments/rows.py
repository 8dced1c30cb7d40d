"""Reading the result rows of runs, for the reports in the folders beside this file."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any


def read(folder: Path) -> list[dict[str, Any]]:
    """All ``result.json`` below a folder; an error if there is none."""
    rows = [json.loads(path.read_text()) for path in sorted(folder.rglob("result.json"))]
    if not rows:
        raise SystemExit(f"there is no result.json below {folder.resolve()}; run the experiment first")
    return rows


def group(rows: Sequence[dict[str, Any]], key: Callable[[dict[str, Any]], Any]) -> dict[Any, list[dict[str, Any]]]:
    """Rows by what ``key`` says of them, in the order of first appearance."""
    groups: dict[Any, list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault(key(row), []).append(row)
    return groups


def mean_std(shares: Sequence[float | None]) -> str:
    """``mean ± standard deviation`` (n - 1) in per cent; ``n/a`` where a run has no value."""
    values = [100 * share for share in shares if share is not None]
    if len(values) < len(shares):
        return "n/a"
    return f"{statistics.mean(values):.1f} ± {statistics.stdev(values):.1f}"


def markdown(header: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *body]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def provenance(rows: Sequence[dict[str, Any]]) -> str:
    """Where rows come from: seeds, commit, versions, data."""
    seeds = sorted({row["config"]["seed"] for row in rows})
    versions, first = rows[0]["versions"], rows[0]
    commits = sorted({row["commit"][:12] + row["commit"][40:] for row in rows})  # what follows the hash is "-dirty"
    return (
        f"Seeds {', '.join(map(str, seeds))}; each draws its own noise, split and initial weights. "
        f"torch {versions['torch']}, lightning {versions['lightning']}, Python {versions['python']}; "
        f"commit {', '.join(commits)}; "
        f"data {Path(first['data']['origin']).name}, SHA-256 {first['data']['sha256'][:16]}."
    )


def replace_section(document: Path, text: str) -> None:
    """Put ``text`` between the lines ``<!-- results -->`` and ``<!-- end of results -->``."""
    start, end = "<!-- results -->", "<!-- end of results -->"
    before, rest = document.read_text().split(start)
    _, after = rest.split(end)
    document.write_text(f"{before}{start}\n{text}\n{end}{after}")
