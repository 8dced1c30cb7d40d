"""Writes the table of README.md from the rows of kill.py.

usage: python -m experiments.reliability.report experiments/reliability/trials.jsonl, from the repository root
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments._report.markdown import markdown_table, replace_section

HEADER = ("scenario", "trials", "methods", "interrupted", "a file was half-written", "equal", "lost")


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Return the table: a line for each scenario, and their sum."""
    scenarios = dict.fromkeys(row["scenario"] for row in rows)
    groups = {name: [row for row in rows if row["scenario"] == name] for name in scenarios}
    return markdown_table(HEADER, [_line(name, group) for name, group in [*groups.items(), ("all", rows)]])


def _line(name: str, rows: Sequence[dict[str, Any]]) -> list[str]:
    interrupted = sum(row.get("killed", row.get("exit_code", 0) != 0) for row in rows)
    numbers = (
        len(rows),
        len({row["method"] for row in rows}),
        interrupted,
        sum(row.get("partial_files", 0) > 0 for row in rows),
        sum(row["equal"] for row in rows),
        sum(row["lost"] for row in rows),
    )
    return [name, *map(str, numbers)]


if __name__ == "__main__":
    lines = Path(sys.argv[1]).read_text().splitlines()
    replace_section(Path(__file__).with_name("README.md"), table([json.loads(line) for line in lines]))
