"""The figure of a run: its metrics by epoch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import wrap
from typing import Any

from noisylabels_pl.report.metric_labels import METRIC_LABELS

# Lines of the left panel: metric, label, color, line style. A run has either the metrics of classification or those of
# regression. The colors are of Okabe and Ito's palette, which color-blind readers can tell apart.
_LINES = (
    ("test/acc", "test", "#000000", "-"),
    ("train/clean_acc", "train, rightly labeled", "#0072B2", "--"),
    ("train/recovered", "train, wrongly labeled: true class predicted", "#009E73", "-."),
    ("train/memorized", "train, wrongly labeled: wrong label predicted", "#D55E00", ":"),
    ("test/r2", "test", "#000000", "-"),
    ("val/r2", "noisy validation", "#E69F00", "--"),
)

Curves = Mapping[str, Sequence[float | None]]
"""Metrics by epoch; ``None`` in an epoch without the metric."""


def draw_curves(
    history: Curves, title: str, path: Path, pool_precision: float | None = None, best_epoch: int | None = None
) -> None:
    """Draw the metrics of a run by epoch.

    The left panel shows the test metric; for classes also accuracies on the rightly and the wrongly labeled training
    samples, and in regression the noisy validation metric. If the method selects samples, a right panel shows the
    fraction of them that is rightly labeled. A vertical line marks the best epoch.

    Args:
        history: metrics by epoch.
        title: title of the figure.
        path: the PNG file to write.
        pool_precision: fraction of right labels in the whole training set.
        best_epoch: the best epoch on the noisy validation split.
    """
    from matplotlib.figure import Figure

    has_selection = "selection/precision" in history
    num_panels = 2 if has_selection else 1
    figure = Figure(figsize=(6.4 * num_panels, 5.2), dpi=150, layout="constrained")
    figure.suptitle("\n".join(wrap(title, width=80 * num_panels)), fontsize=10)
    axes = figure.subplots(1, num_panels, squeeze=False, sharex=True)[0]
    if "test/r2" in history:
        _draw_metrics(axes[0], history, f"{METRIC_LABELS['r2']}, mean over outputs (clipped at -1)", scale=1)
        axes[0].set(ylim=(-1.05, 1.05))  # R2 has no lower bound: the curve of a bad network would hide the others
    else:
        _draw_metrics(axes[0], history, f"{METRIC_LABELS['acc']} (%)", scale=100)
    if has_selection:
        _draw_selection(axes[1], history, pool_precision)
    for axis in axes:
        _finish(axis, best_epoch)
    figure.savefig(path)


def _draw_metrics(axis: Any, history: Curves, label: str, scale: float) -> None:
    """Draw the left panel: a line for each metric of ``_LINES`` that the run logged."""
    for name, line_label, color, style in _LINES:
        _draw_line(axis, history.get(name, ()), line_label, color, style, scale)
    axis.set(ylabel=label, ylim=(-2, 102))


def _draw_selection(axis: Any, history: Curves, pool_precision: float | None) -> None:
    """Draw the right panel: how clean the selected samples are."""
    _draw_line(axis, history["selection/precision"], "rightly labeled", "#0072B2", "-")
    _draw_line(axis, history.get("selection/overlap", ()), "also selected the epoch before", "#E69F00", ":")
    if pool_precision is not None:
        axis.axhline(100 * pool_precision, color="#000000", linestyle="--", label="rightly labeled among all samples")
    axis.set(ylabel="fraction of the selected samples (%)", ylim=(-2, 102))


def _draw_line(
    axis: Any, values: Sequence[float | None], label: str, color: str, style: str, scale: float = 100
) -> None:
    """Draw a metric by epoch, without the epochs that lack it."""
    points = [(epoch, scale * value) for epoch, value in enumerate(values) if value is not None]
    if points:
        epochs, heights = zip(*points, strict=True)
        marker = "o" if len(points) == 1 else None  # a line of one point would be invisible
        axis.plot(epochs, heights, label=label, color=color, linestyle=style, marker=marker)


def _finish(axis: Any, best_epoch: int | None) -> None:
    """Mark the best epoch, and add whole numbers on the axis of epochs, a grid, and a legend below the axes."""
    from matplotlib.ticker import MaxNLocator

    if best_epoch is not None:
        axis.axvline(best_epoch, color="#999999", linewidth=1, label=f"best noisy-validation epoch ({best_epoch})")
    axis.set(xlabel="epoch")
    axis.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axis.grid(alpha=0.3)
    if axis.get_legend_handles_labels()[0]:
        axis.legend(loc="upper left", bbox_to_anchor=(0, -0.13), borderaxespad=0, frameon=False, fontsize=8)
