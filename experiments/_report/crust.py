"""Writes the table of experiments/crust/README.md from the runs of run_precision.sh.

usage: python -m experiments._report.crust RUNS, from the repository root
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from experiments._report.markdown import markdown_table, replace_section
from experiments._report.rows import Row, group_by, mean_std, provenance, read_rows

HEADER = (
    "variant",
    "partition",
    "first selection",
    "last selection",
    "pool",
    "test accuracy, last epoch",
    "best noisy-validation epoch",
)


def variant_and_partition(row: Row) -> tuple[str, str]:
    """Return the run's variant of CRUST and its partition; the runs of one pair make a line of the table."""
    return row["method"], row["method_options"]["partition"]


def table(rows: Sequence[Row]) -> str:
    """Return the label precision of the coresets by variant; the predicted partition comes first."""
    groups = group_by(rows, variant_and_partition)
    body = []
    for variant, partition in sorted(groups, key=lambda key: (key[0], key[1] != "predicted")):
        runs = groups[variant, partition]
        precision = [selection_precision(run) for run in runs]
        body.append(
            [
                f"`{variant}`",
                partition,
                mean_std([values[0] for values in precision]),
                mean_std([values[-1] for values in precision]),
                mean_std([run["pool_precision"] for run in runs]),
                mean_std([run["test_acc"]["last"] for run in runs]),
                mean_std([run["test_acc"]["best_val"] for run in runs]),
            ]
        )
    return markdown_table(HEADER, body)


def selection_precision(row: Row) -> list[float]:
    """Return the label precision of every epoch's coreset, from the first selection on."""
    return [value for value in row["history"]["selection/precision"] if value is not None]


def write(document: Path, runs: Path) -> None:
    """Write the table of the runs below a folder into the document."""
    rows = read_rows(runs)
    replace_section(document, f"{table(rows)}\n\n{provenance(rows)}")


if __name__ == "__main__":
    write(Path("experiments/crust/README.md"), Path(sys.argv[1]))
