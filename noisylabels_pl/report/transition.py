"""The figure of a transition matrix beside its estimate."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

MAX_CLASSES_WITH_NUMBERS = 12
"""Of more classes, neither the numbers nor the names would fit into a figure or a table."""


def draw_transitions(
    matrices: dict[str, Tensor], name: str, path: Path, *, class_names: Sequence[str] | None = None
) -> None:
    """Draw transition matrices as heat maps side by side, on one color scale.

    Args:
        matrices: ``(C, C)`` transition matrices by title.
        name: the run's title, as the title of the figure.
        path: the PNG file to write.
        class_names: for the axes, if there are few; numbers if not given.
    """
    from matplotlib.colors import Normalize, PowerNorm
    from matplotlib.figure import Figure

    figure = Figure(figsize=(1 + 4.2 * len(matrices), 5), dpi=150, layout="constrained")
    axes = figure.subplots(1, len(matrices), squeeze=False)[0]
    # Of many classes, each wrong one has a small fraction, which only the square root makes visible.
    has_numbers = len(next(iter(matrices.values()))) <= MAX_CLASSES_WITH_NUMBERS
    norm = Normalize(0, 1) if has_numbers else PowerNorm(0.5, 0, 1)
    for axis, (title, T) in zip(axes, matrices.items(), strict=True):
        image = axis.imshow(T.numpy(), norm=norm, cmap="cividis")
        axis.set(xlabel="observed class", ylabel="true class")
        axis.set_title(title, fontsize=10)
        if has_numbers:
            _write_numbers(axis, T)
            axis.set(xticks=range(len(T)), yticks=range(len(T)))
            if class_names is not None:
                is_short = max(map(len, class_names)) <= 2
                axis.set_xticklabels(class_names, rotation=0 if is_short else 90)
                axis.set_yticklabels(class_names)
    figure.colorbar(image, ax=list(axes), label="fraction of the true class", shrink=0.8)
    figure.suptitle(name, fontsize=11)
    figure.savefig(path, bbox_inches="tight")  # or long names of classes would be cut off


def _write_numbers(axis: Any, T: Tensor) -> None:
    """Write the probabilities that do not round to 0.00 into their squares."""
    for true_class, row in enumerate(T.tolist()):
        for observed_class, probability in enumerate(row):
            if probability < 0.005:
                continue
            color = "black" if probability > 0.5 else "white"
            axis.text(
                observed_class, true_class, f"{probability:.2f}", ha="center", va="center", fontsize=6, color=color
            )
