"""Writes the table of README.md from the runs of run_precision.sh.

usage: python experiments/crust/report.py RUNS
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from rows import group, markdown, mean_std, provenance, read, replace_section  # noqa: E402

HEADER = (
    "variant",
    "partition",
    "first selection",
    "last selection",
    "pool",
    "test accuracy, last epoch",
    "best noisy-validation epoch",
)


def line(variant: str, partition: str, runs: list[dict[str, Any]]) -> tuple[str, ...]:
    precision = [[value for value in run["history"]["selection/precision"] if value is not None] for run in runs]
    return (
        f"`{variant}`",
        partition,
        mean_std([values[0] for values in precision]),
        mean_std([values[-1] for values in precision]),
        mean_std([run["pool_precision"] for run in runs]),
        mean_std([run["test_accuracy"]["last"] for run in runs]),
        mean_std([run["test_accuracy"]["best_val"] for run in runs]),
    )


if __name__ == "__main__":
    found = read(Path(sys.argv[1]))
    groups = group(found, lambda row: (row["name"].split(" on ")[0], row["config"]["method"]["partition"]))
    ordered = sorted(groups.items(), key=lambda item: (item[0][0], item[0][1] != "predicted"))
    body = [line(variant, partition, runs) for (variant, partition), runs in ordered]
    replace_section(HERE / "README.md", f"{markdown(HEADER, body)}\n\n{provenance(found)}")
