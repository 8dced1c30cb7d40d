"""The figure of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

# Okabe and Ito's palette, which color-blind readers can tell apart; line styles repeat the distinction.
_LINES = (
    ("test/acc", "test", "#000000", "-"),
    ("train/clean_acc", "train, rightly labeled", "#0072B2", "--"),
    ("train/recovered", "train, wrongly labeled: true class predicted", "#009E73", "-."),
    ("train/memorized", "train, wrongly labeled: wrong label predicted", "#D55E00", ":"),
    ("test/r2", "test", "#000000", "-"),
    ("val/r2", "noisy validation", "#E69F00", "--"),
)


def draw_curves(
    history: Mapping[str, Sequence[float | None]], title: str, path: Path, pool: float | None = None
) -> None:
    """The metric by epoch, of classes also on rightly and wrongly labeled samples; how clean the selection is, if any.

    Args:
        history: metrics by epoch.
        title: identity of the run.
        path: of the PNG file.
        pool: share of right labels in the whole training set.
    """
    from matplotlib.figure import Figure

    panels = 2 if "selection/precision" in history else 1
    figure = Figure(figsize=(6.4 * panels, 4.6), dpi=150, layout="constrained")
    figure.suptitle(title, fontsize=10)
    axes = figure.subplots(1, panels, squeeze=False, sharex=True)[0]
    is_regression = "test/r2" in history
    for name, label, color, style in _LINES:
        _line(axes[0], history, name, label, color, style, scale=1 if is_regression else 100)
    _finish(axes[0], "R², mean over outputs (clipped at -1)" if is_regression else "accuracy (%)")
    if is_regression:
        axes[0].set(ylim=(-1.05, 1.05))
    if panels == 2:
        _line(axes[1], history, "selection/precision", "rightly labeled", "#0072B2", "-")
        _line(axes[1], history, "selection/overlap", "also selected the epoch before", "#E69F00", ":")
        if pool is not None:
            axes[1].axhline(100 * pool, color="#000000", linestyle="--", label="rightly labeled among all samples")
        _finish(axes[1], "share of the selected samples (%)")
    figure.savefig(path)


def _line(
    axes: Any,
    history: Mapping[str, Sequence[float | None]],
    name: str,
    label: str,
    color: str,
    style: str,
    scale: float = 100,
) -> None:
    points = [(epoch, scale * value) for epoch, value in enumerate(history.get(name, ())) if value is not None]
    if points:
        marker = "o" if len(points) == 1 else None
        axes.plot(*zip(*points, strict=True), label=label, color=color, linestyle=style, marker=marker)


def _finish(axes: Any, label: str) -> None:
    axes.set(xlabel="epoch", ylabel=label, ylim=(-2, 102))
    axes.grid(alpha=0.3)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize=8)
