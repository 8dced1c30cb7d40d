"""Writes the tables of experiments/prl/README.md: R2 with corrupted targets, accuracy with wrong labels.

usage: python -m experiments._report.prl RUNS, from the repository root
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Sequence
from pathlib import Path

from experiments._report.markdown import markdown_table, replace_section
from experiments._report.rows import Row, group_by, mean_std, provenance, read_rows

# Folders of run.sh, and their titles.
REGRESSION_DATA = {
    "synthetic": "512 generated features, 10 targets",
    "features": "The same, with noise of 3 standard deviations on the features of the corrupted samples too",
    "diabetes": "Diabetes, one target",
}
CLASSIFICATION_DATA = {"digits": "scikit-learn's digits", "mnist": "10,000 images of MNIST"}

# The order of the columns of the first tables, of the lines of the second ones, and of the lines of the first ones.
REGRESSION_METHODS = ("mse", "norm_clip", "huber", "min_sgd", "individual_clip", "prl_g", "prl_l", "co_prl_l")
CLASSIFICATION_METHODS = (
    "ce",
    "norm_clip",
    "min_sgd",
    "individual_clip",
    "spl",
    "prl_l",
    "prl_g",
    "co_teaching",
    "co_prl_l",
)
CORRUPTIONS = ("linadv", "signflip", "uninoise", "pairflip", "mixture")

CLASSIFICATION_HEADER = (
    "noise",
    "method",
    "seeds",
    "mean of last 10",
    "last epoch",
    "best noisy-validation epoch",
    "right labels among the kept",
)


def noise_and_method(row: Row) -> tuple[str, float, str]:
    """Return the run's kind of noise, its rate, and its method.

    A variant ``..._paper``, which takes its forget rate from the noise, is listed under the name of its method. The
    text of the document says so.
    """
    return row["noise"]["name"], row["config"]["noise"]["rate"], row["method"].removesuffix("_paper")


def regression_table(rows: Sequence[Row]) -> str:
    """Return the table of R2: a line for each corruption and rate, a column for each method."""
    cells = group_by(rows, noise_and_method)
    methods = [name for name in REGRESSION_METHODS if any(method == name for _, _, method in cells)]
    body = []
    for corruption in CORRUPTIONS:
        for rate in sorted({rate for kind, rate, _ in cells if kind == corruption}):
            line = [f"{corruption} {rate}"]
            for method in methods:
                line.append(mean_r2(cells.get((corruption, rate, method), [])))
            body.append(line)
    return markdown_table(["corruption", *(f"`{name}`" for name in methods)], body)


def mean_r2(runs: Sequence[Row]) -> str:
    """Return the mean R2 over the last ten epochs and all seeds, with its standard deviations.

    Args:
        runs: of different seeds.

    Returns:
        ``mean ± deviation (deviation)``, where the first deviation is over seeds, and the second one over epochs and
        seeds, as in the paper. For a single run it is the mean alone, and without runs it is empty.
    """
    if not runs:
        return ""
    means = [run["test_r2"]["last_10"] for run in runs]
    mean = statistics.mean(means)
    digits = 3 if abs(mean) < 1 else 1
    if len(runs) == 1:
        return f"{mean:.{digits}f}"
    single_epochs = [value for run in runs for value in run["history"]["test/r2"][-10:]]
    over_seeds = statistics.stdev(means)
    over_epochs = statistics.stdev(single_epochs)
    return f"{mean:.{digits}f} ± {over_seeds:.{digits}f} ({over_epochs:.{digits}f})"


def classification_table(rows: Sequence[Row]) -> str:
    """Return the table of accuracies: a line for each noise and method."""
    groups = group_by(rows, noise_and_method)
    body = []
    for kind, rate, method in sorted(groups, key=_line_order):
        runs = groups[kind, rate, method]
        accuracies = [mean_std([run["test_acc"][number] for run in runs]) for number in ("last_10", "last", "best_val")]
        precision = mean_std([run["selection_precision"] for run in runs])
        body.append([f"{kind} {rate}", f"`{method}`", str(len(runs)), *accuracies, precision])
    return markdown_table(CLASSIFICATION_HEADER, body)


def _line_order(key: tuple[str, float, str]) -> tuple[str, int]:
    """Return the sort key of a line: noise, then method; methods that are not listed come last."""
    kind, rate, method = key
    position = len(CLASSIFICATION_METHODS)
    if method in CLASSIFICATION_METHODS:
        position = CLASSIFICATION_METHODS.index(method)
    return f"{kind} {rate}", position


def write(document: Path, runs: Path) -> None:
    """Write the tables of the runs below a folder into the document."""
    sections = []
    for name, title in REGRESSION_DATA.items():
        rows = read_rows(runs / name)
        sections += [f"### R²: {title}", regression_table(rows), provenance(rows)]
    for name, title in CLASSIFICATION_DATA.items():
        rows = read_rows(runs / name)
        sections += [f"### Accuracy: {title}", classification_table(rows), provenance(rows)]
    replace_section(document, "\n\n".join(sections))


if __name__ == "__main__":
    write(Path("experiments/prl/README.md"), Path(sys.argv[1]))
