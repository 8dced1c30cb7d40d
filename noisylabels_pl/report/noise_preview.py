"""Tables and the figure that show noisy labels before a run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from rich.table import Table
from rich.text import Text
from torch import Tensor

from noisylabels_pl.data import NoisyLabels
from noisylabels_pl.report.result_table import percent
from noisylabels_pl.report.transition import MAX_CLASSES_WITH_NUMBERS, draw_transitions

_MOST_FREQUENT = 3  # wrong classes that the line of a class names
_MAX_POINTS = 2000  # in the figure of regression targets


def noise_tables(labels: NoisyLabels, class_names: Sequence[str], title: str) -> list[Table]:
    """Return the tables of the command ``python -m noisylabels_pl.noise``.

    Args:
        labels: the observed labels, and the true ones if they are known.
        class_names: one name for each class, or for each coordinate of the targets.
        title: of the first table.

    Returns:
        A table of counts and rates and, for class labels, one with a line for each true class: all fractions of T for
        few classes, the most frequent wrong classes for many.
    """
    tables = [_summary(labels, title)]
    if labels.realized_T is not None and labels.clean is not None:
        tables.append(_class_table(labels.clean, labels.realized_T, class_names))
    return tables


def draw_noise(labels: NoisyLabels, class_names: Sequence[str], title: str, path: Path) -> None:
    """Draw the transition matrices of labels as heat maps, or true and observed regression targets as points.

    Args:
        labels: the observed labels, and the true ones if they are known.
        class_names: one name for each class, or for each coordinate of the targets.
        title: of the figure.
        path: the PNG file to write.

    Raises:
        ValueError: the true labels are unknown.
    """
    if labels.clean is None:
        raise ValueError(
            "the true labels of this dataset are unknown, so there is no noise to draw; leave out --output"
        )
    realized_T = labels.realized_T
    if realized_T is None:
        _draw_targets(labels.clean, labels.observed, class_names, title, path)
        return
    matrices = {f"realized, {percent(labels.rate)} wrong": realized_T}
    if labels.T is not None:
        matrices = {"T of the noise": labels.T, **matrices}
    draw_transitions(matrices, title, path, class_names=class_names)


def _summary(labels: NoisyLabels, title: str) -> Table:
    """Return the table of counts and rates."""
    table = Table(title=Text(title), show_header=False)
    table.add_row("training samples", f"{len(labels.observed)}")
    if labels.is_wrong is None:
        table.add_row("wrong labels", "unknown: the dataset has no true labels")
        return table
    table.add_row("wrong labels", f"{int(labels.is_wrong.sum())}")
    table.add_row("realized noise rate", percent(labels.rate))
    if labels.T is not None and labels.clean is not None:
        class_fractions = torch.bincount(labels.clean, minlength=len(labels.T)).double() / len(labels.clean)
        expected = float(class_fractions @ (1 - labels.T.diagonal()))
        table.add_row("  expected by T of the noise", percent(expected))
    if labels.annotators is not None:
        for number, annotations in enumerate(labels.annotators, start=1):
            table.add_row(f"  of annotator {number}", percent(float((annotations != labels.clean).double().mean())))
    return table


def _class_table(clean: Tensor, realized_T: Tensor, class_names: Sequence[str]) -> Table:
    """Return the table with a line for each true class."""
    sizes = torch.bincount(clean, minlength=len(class_names)).tolist()
    has_all_columns = len(class_names) <= MAX_CLASSES_WITH_NUMBERS
    table = Table(title="Realized T, in % of the true class")
    table.add_column("true class")
    table.add_column("samples", justify="right")
    if has_all_columns:
        for number in range(len(class_names)):  # the names would not fit
            table.add_column(f"{number}", justify="right")
    else:
        table.add_column("right", justify="right")
        table.add_column("most often observed as")
    for number, (name, size, fractions) in enumerate(zip(class_names, sizes, realized_T.tolist(), strict=True)):
        if has_all_columns:
            cells = [_percentage(fraction) for fraction in fractions]
        else:
            cells = [_percentage(fractions[number]), _most_frequent_wrong(number, fractions, class_names)]
        shown = name if name == f"{number}" else f"{number} {name}"
        table.add_row(Text(shown), f"{size}", *cells)
    return table


def _percentage(fraction: float) -> str:
    """Return a fraction in %, such as ``30``; a point for 0."""
    if not fraction:
        return "."
    return f"{100 * fraction:.0f}" if fraction >= 0.005 else "<1"


def _most_frequent_wrong(number: int, fractions: Sequence[float], class_names: Sequence[str]) -> str:
    """Return the classes that samples of a class most often have wrongly, such as ``dog 30, fox 2``."""
    wrong = [other for other in range(len(fractions)) if other != number and fractions[other] > 0]
    wrong.sort(key=lambda other: -fractions[other])
    shown = [f"{class_names[other]} {_percentage(fractions[other])}" for other in wrong[:_MOST_FREQUENT]]
    if len(wrong) > _MOST_FREQUENT:
        shown.append(f"{len(wrong) - _MOST_FREQUENT} more")
    return ", ".join(shown)


def _draw_targets(clean: Tensor, observed: Tensor, names: Sequence[str], title: str, path: Path) -> None:
    """Draw true and observed targets as points, one square for each coordinate."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(1 + 3 * len(names), 3.6), dpi=150, layout="constrained")
    axes = figure.subplots(1, len(names), squeeze=False)[0]
    step = -(-len(clean) // _MAX_POINTS)
    for column, (axis, name) in enumerate(zip(axes, names, strict=True)):
        axis.scatter(clean[::step, column], observed[::step, column], s=4, linewidths=0)
        axis.set(title=name, xlabel="true target", ylabel="observed target")
    figure.suptitle(title, fontsize=10)
    figure.savefig(path)
