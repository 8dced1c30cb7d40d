"""Reading result rows, and statistics over the runs of a group."""

from __future__ import annotations

import json
import statistics
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


def mean_std(fractions: Sequence[float | None]) -> str:
    """Return ``mean ± standard deviation`` (n - 1) in per cent.

    Args:
        fractions: one per run.

    Returns:
        The mean alone for a single run; ``n/a`` if a run has no value.
    """
    percents = [100 * fraction for fraction in fractions if fraction is not None]
    if not percents or len(percents) < len(fractions):
        return "n/a"
    mean = f"{statistics.mean(percents):.1f}"
    return mean if len(percents) == 1 else f"{mean} ± {statistics.stdev(percents):.1f}"


def provenance(rows: Sequence[Row]) -> str:
    """Return a sentence on the origin of the rows: seeds, versions, commit and data."""
    seeds = sorted({row["config"]["seed"] for row in rows})
    commits = sorted({short_commit(row["commit"]) for row in rows})
    versions = rows[0]["versions"]
    data = rows[0]["data"]
    return (
        f"Seeds {', '.join(map(str, seeds))}; each draws its own noise, split and initial weights. "
        f"torch {versions['torch']}, lightning {versions['lightning']}, Python {versions['python']}; "
        f"commit {', '.join(commits)}; "
        f"data {Path(data['origin']).name}, SHA-256 {data['sha256'][:16]}."
    )


def short_commit(commit: str | None) -> str:
    """Return the first digits of a commit, with the mark ``-dirty`` if it has one; ``unknown`` for ``None``."""
    if commit is None:  # a run of an installed package
        return "unknown"
    digits, mark = commit[:40], commit[40:]
    return digits[:12] + mark
