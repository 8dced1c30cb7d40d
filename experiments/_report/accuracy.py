"""Writes the table of a folder's README.md: the accuracy of each method.

usage: python -m experiments._report.accuracy FOLDER RUNS, from the repository root; FOLDER is
       experiments/loss_correction
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from experiments._report.markdown import markdown_table, replace_section
from experiments._report.rows import Row, check_seeds, group_by, last_value, mean_std, provenance, read_rows

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
NUMBERS = ("last", "last_10", "best_val", "best_oracle")
SHOWN_OPTIONS = ("T", "penalty")  # options that tell the runs of one method apart


def label(row: Row) -> str:
    """Return the overrides that choose the run's method, such as ``method=elr method.penalty=kl``."""
    overrides = [f"method={row['method']}"]
    for name in SHOWN_OPTIONS:
        value = row["method_options"].get(name)
        if value is not None:
            overrides.append(f"method.{name}={value}")
    return " ".join(overrides)


def table(rows: Sequence[Row]) -> str:
    """Return the table: a line for each method. The last column is left out if no method used a transition matrix."""
    groups = group_by(rows, label)
    check_seeds(groups)
    body = []
    for name, runs in groups.items():
        accuracies = [mean_std([run["test_acc"][number] for run in runs]) for number in NUMBERS]
        memorized = mean_std([last_value(run, "train/memorized") for run in runs])
        error = mean_std([run.get("transition", {}).get("error") for run in runs])
        body.append([f"`{name}`", str(len(runs)), *accuracies, memorized, error])
    if all(line[-1] == "n/a" for line in body):
        return markdown_table(HEADER[:-1], [line[:-1] for line in body])
    return markdown_table(HEADER, body)


def write(document: Path, runs: Path) -> None:
    """Write the table of the runs below a folder into the document."""
    rows = read_rows(runs)
    replace_section(document, f"{table(rows)}\n\n{provenance(rows)}")


if __name__ == "__main__":
    write(Path(sys.argv[1]) / "README.md", Path(sys.argv[2]))
