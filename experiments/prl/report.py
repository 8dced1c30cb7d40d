"""Writes the tables of README.md: R2 of regression with corrupted targets, accuracy with wrong labels.

usage: python experiments/prl/report.py RUNS
"""

from __future__ import annotations

import statistics
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
from rows import group, markdown, mean_std, provenance, read, replace_section

REGRESSION = ("mse", "norm_clip", "huber", "min_sgd", "individual_clip", "prl_g", "prl_l", "co_prl_l")
CLASSES = ("ce", "norm_clip", "min_sgd", "individual_clip", "spl", "prl_l", "prl_g", "co_teaching", "co_prl_l")
CORRUPTIONS = ("linadv", "signflip", "uninoise", "pairflip", "mixture")
Row = dict[str, Any]


def method(row: Row) -> str:
    """The method's name; the variants that are told the noise rate are called as the others, which the text says."""
    return str(row["name"].split(" on ")[0].removesuffix("_paper"))


def r2(runs: list[Row]) -> str:
    """Mean over the last ten epochs and all seeds, its deviation over seeds and, in brackets, over epochs and seeds."""
    if not runs:
        return ""
    means = [run["test_r2"]["last_10"] for run in runs]
    single = [value for run in runs for value in run["history"]["test/r2"][-10:]]
    digits = 3 if abs(statistics.mean(means)) < 1 else 1
    numbers = (statistics.mean(means), statistics.stdev(means), statistics.stdev(single))
    return "{} ± {} ({})".format(*(f"{number:.{digits}f}" for number in numbers))


def regression(rows: list[Row]) -> str:
    body = []
    cells = group(rows, lambda row: (row["config"]["noise"]["kind"], row["config"]["noise"]["rate"], method(row)))
    for kind in CORRUPTIONS:
        for rate in sorted({rate for corruption, rate, _ in cells if corruption == kind}):
            body.append([f"{kind} {rate}", *(r2(cells.get((kind, rate, name), [])) for name in REGRESSION)])
    shown = [i for i, name in enumerate(REGRESSION) if any(cell[2] == name for cell in cells)]
    header = ["corruption", *(f"`{REGRESSION[i]}`" for i in shown)]
    return markdown(header, [[line[0], *(line[i + 1] for i in shown)] for line in body])


def classification(rows: list[Row]) -> str:
    header = ["noise", "method", "seeds", "mean of last 10", "last epoch", "best noisy-validation epoch"]
    body = []
    for (kind, rate, name), runs in group(
        rows, lambda row: (row["config"]["noise"]["kind"], row["config"]["noise"]["rate"], method(row))
    ).items():
        numbers = [mean_std([run["test_accuracy"][n] for run in runs]) for n in ("last_10", "last", "best_val")]
        precision = mean_std([run["selection_precision"] for run in runs])
        body.append([f"{kind} {rate}", f"`{name}`", str(len(runs)), *numbers, precision])
    body.sort(key=lambda line: (line[0], CLASSES.index(line[1].strip("`"))))
    return markdown([*header, "right labels among the kept"], body)


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    parts = []
    for name, title in (
        ("synthetic", "512 generated features, 10 targets"),
        ("features", "The same, with noise of 3 standard deviations on the features of the corrupted samples too"),
        ("diabetes", "Diabetes, one target"),
    ):
        rows = read(folder / name)
        parts += [f"### R²: {title}", regression(rows), provenance(rows)]
    for name, title in (("digits", "scikit-learn's digits"), ("mnist", "10,000 images of MNIST")):
        rows = read(folder / name)
        parts += [f"### Accuracy: {title}", classification(rows), provenance(rows)]
    replace_section(Path(__file__).with_name("README.md"), "\n\n".join(parts))
