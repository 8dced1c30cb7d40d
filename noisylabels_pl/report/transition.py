"""The figure of a transition matrix beside its estimate."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor

_MAX_CLASSES_WITH_NUMBERS = 12  # of more classes, the numbers would not fit into the squares


def draw_transitions(matrices: dict[str, Tensor], name: str, path: Path) -> None:
    """Draw transition matrices as heat maps side by side, on one color scale.

    Args:
        matrices: ``(C, C)`` transition matrices by title.
        name: the run's title, as the title of the figure.
        path: the PNG file to write.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(1 + 4.2 * len(matrices), 4.4), dpi=150, layout="constrained")
    axes = figure.subplots(1, len(matrices), squeeze=False)[0]
    for axis, (title, T) in zip(axes, matrices.items(), strict=True):
        image = axis.imshow(T.numpy(), vmin=0, vmax=1, cmap="cividis")
        axis.set(title=title, xlabel="observed class", ylabel="true class")
        if len(T) <= _MAX_CLASSES_WITH_NUMBERS:
            _write_numbers(axis, T)
    figure.colorbar(image, ax=list(axes), label="fraction of the true class", shrink=0.8)
    figure.suptitle(name, fontsize=10)
    figure.savefig(path)


def _write_numbers(axis: Any, T: Tensor) -> None:
    """Write the probabilities that do not round to 0.00 into their squares."""
    axis.set(xticks=range(len(T)), yticks=range(len(T)))
    for true_class, row in enumerate(T.tolist()):
        for observed_class, probability in enumerate(row):
            if probability < 0.005:
                continue
            color = "black" if probability > 0.5 else "white"
            axis.text(
                observed_class, true_class, f"{probability:.2f}", ha="center", va="center", fontsize=6, color=color
            )
