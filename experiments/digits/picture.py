"""Draws the README's picture from the runs of experiments/digits/run.sh.

usage: python -m experiments.digits.picture RUNS, from the repository root
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from experiments._report.rows import Row, group_by, read_rows

CURVES = (("test/acc", "test accuracy"), ("train/memorized", "wrong training labels memorized"))
STYLES = {"crust": ("#0072B2", "-", "CRUST"), "ce": ("#D55E00", "--", "cross-entropy")}


def momentum(row: Row) -> float:
    """Return the optimizer's momentum."""
    return float(row["config"]["optim"].get("momentum", 0))


def draw(rows: Sequence[Row], path: Path) -> None:
    """Draw the longest runs without momentum: mean and range over seeds of the metrics of ``CURVES`` by epoch.

    Args:
        rows: of the methods in ``STYLES``; others are left out.
        path: of the PNG file to write.
    """
    longest = max(row["epochs"] for row in rows)
    shown = [row for row in rows if row["epochs"] == longest and momentum(row) == 0 and row["method"] in STYLES]
    groups = group_by(shown, lambda row: row["method"])
    figure = Figure(figsize=(9, 3.4), dpi=150, layout="constrained")
    axes = figure.subplots(1, len(CURVES), sharey=True, sharex=True)
    for axis, (metric, title) in zip(axes, CURVES, strict=True):
        for method, runs in groups.items():
            draw_range(axis, [run["history"][metric] for run in runs], *STYLES[method])
        axis.set(xlabel="epoch", title=title, ylim=(0, 100))
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("share of samples (%)")
    axes[0].legend(loc="lower left")
    figure.suptitle(
        "scikit-learn digits, 40 % symmetric label noise, MLP 512-512: mean and range of 3 seeds", fontsize=10
    )
    figure.savefig(path)


def draw_range(axis: Any, runs: Sequence[Sequence[float]], color: str, style: str, label: str) -> None:
    """Draw the mean of several runs by epoch, in per cent, and shade their range."""
    means, lows, highs = [], [], []
    for values in zip(*runs, strict=True):  # of one epoch
        means.append(100 * sum(values) / len(values))
        lows.append(100 * min(values))
        highs.append(100 * max(values))
    epochs = range(len(means))
    axis.plot(epochs, means, style, c=color, label=label)
    axis.fill_between(epochs, lows, highs, color=color, alpha=0.2, linewidth=0)


if __name__ == "__main__":
    draw(read_rows(Path(sys.argv[1])), Path("docs/images/digits.png"))
