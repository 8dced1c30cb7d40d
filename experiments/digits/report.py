"""Writes the README's table and picture from the runs of run.sh.

usage: python experiments/digits/report.py RUNS
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "experiments"))

from rows import group, markdown, mean_std, provenance, read, replace_section  # noqa: E402

HEADER = (
    "digits, 40 % symmetric noise",
    "epochs",
    "steps",
    "last epoch",
    "mean of last 10",
    "best noisy-validation epoch",
    "best (oracle)",
    "right labels: selected",
    "right labels: all",
    "realized noise",
)


def table(rows: list[dict[str, Any]]) -> str:
    body = []
    for (name, momentum, epochs), runs in group(rows, lambda row: (method(row), *budget(row))).items():
        accuracy = {key: mean_std([run["test_accuracy"][key] for run in runs]) for key in runs[0]["test_accuracy"]}
        steps = sorted({run["steps"] for run in runs})
        body.append(
            (
                f"`method={name}{' optim=sgd_momentum' if momentum else ''}`",
                str(epochs),
                f"{steps[0]:,}" if len(steps) == 1 else f"{steps[0]:,}-{steps[-1]:,}",
                *accuracy.values(),
                mean_std([run["selection_precision"] for run in runs]),
                mean_std([run["pool_precision"] for run in runs]),
                mean_std([run["noise"]["realized_rate"] for run in runs]),
            )
        )
    return markdown(HEADER, body)


def budget(row: dict[str, Any]) -> tuple[float, int]:
    return row["config"]["optim"]["momentum"], row["epochs"]


def method(row: dict[str, Any]) -> str:
    return row["name"].split(" on ")[0]


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """Mean and range over seeds of what becomes of test and of wrongly labeled training samples."""
    figure = Figure(figsize=(9, 3.4), dpi=150, layout="constrained")
    axes = figure.subplots(1, 2, sharey=True, sharex=True)
    panels = (("test/acc", "test accuracy"), ("train/memorized", "wrong training labels memorized"))
    styles = {"crust": ("#0072B2", "-", "CRUST"), "ce": ("#D55E00", "--", "cross-entropy")}
    longest = max(row["epochs"] for row in rows)
    for name, runs in group([row for row in rows if budget(row) == (0, longest)], method).items():
        if name not in styles:
            continue
        color, line, label = styles[name]
        for axis, (metric, _) in zip(axes, panels, strict=True):
            curves = [[100 * value for value in run["history"][metric]] for run in runs]
            epochs = range(longest)
            axis.plot(
                epochs, [sum(values) / len(values) for values in zip(*curves, strict=True)], line, c=color, label=label
            )
            low, high = ([f(values) for values in zip(*curves, strict=True)] for f in (min, max))
            axis.fill_between(epochs, low, high, color=color, alpha=0.2, linewidth=0)
    for axis, (_, title) in zip(axes, panels, strict=True):
        axis.set(xlabel="epoch", title=title, ylim=(0, 100))
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("share of samples (%)")
    axes[0].legend(loc="lower left")
    figure.suptitle(
        "scikit-learn digits, 40 % symmetric label noise, MLP 512-512: mean and range of 3 seeds", fontsize=10
    )
    figure.savefig(path)


if __name__ == "__main__":
    found = read(Path(sys.argv[1]))
    replace_section(ROOT / "README.md", f"{table(found)}\n\n{provenance(found)}")
    draw(found, ROOT / "docs" / "images" / "digits.png")
