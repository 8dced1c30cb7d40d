"""Writes the table of a folder's README.md: what each method reached.

usage: python experiments/accuracy_report.py experiments/elr RUNS
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from rows import group, markdown, mean_std, provenance, read, replace_section

HEADER = (
    "method",
    "seeds",
    "last epoch",
    "mean of last 10",
    "best noisy-validation epoch",
    "best (oracle)",
    "wrong labels memorized",
    "T off by",
)
SHOWN = ("T", "penalty")  # options that tell rows of one method apart


def label(row: dict[str, Any]) -> str:
    method = row["config"]["method"]
    options = [f"method.{name}={method[name]}" for name in SHOWN if method.get(name) is not None]
    return " ".join([f"method={row['name'].split(' on ')[0]}", *options])


def line(name: str, runs: list[dict[str, Any]]) -> tuple[str, ...]:
    return (
        f"`{name}`",
        str(len(runs)),
        *(mean_std([run["test_accuracy"][number] for run in runs]) for number in runs[0]["test_accuracy"]),
        mean_std([run["history"]["train/memorized"][-1] for run in runs]),
        mean_std([run.get("transition", {}).get("error") for run in runs]),
    )


if __name__ == "__main__":
    folder, found = Path(sys.argv[1]), read(Path(sys.argv[2]))
    for name, runs in group(found, label).items():
        if len({run["config"]["seed"] for run in runs}) < len(runs):
            raise SystemExit(f"{name} has two runs of one seed; give a folder with the runs of one experiment")
    table = [HEADER, *(line(name, runs) for name, runs in group(found, label).items())]
    if all(row[-1] == "n/a" for row in table[1:]):  # no method here uses a transition matrix
        table = [row[:-1] for row in table]
    replace_section(folder / "README.md", f"{markdown(table[0], table[1:])}\n\n{provenance(found)}")
