"""A transition matrix beside its estimate."""

from __future__ import annotations

from itertools import product
from pathlib import Path

from torch import Tensor


def draw_transitions(matrices: dict[str, Tensor], name: str, path: Path) -> None:
    """Heat maps of transition matrices, in the colors of one scale.

    Args:
        matrices: ``(C, C)`` by title.
        name: identity of the run.
        path: of the PNG file.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(1 + 4.2 * len(matrices), 4.4), dpi=150, layout="constrained")
    axes = figure.subplots(1, len(matrices), squeeze=False)[0]
    for axis, (title, T) in zip(axes, matrices.items(), strict=True):
        image = axis.imshow(T, vmin=0, vmax=1, cmap="cividis")
        axis.set(title=title, xlabel="observed class", ylabel="true class")
        if len(T) <= 12:
            axis.set(xticks=range(len(T)), yticks=range(len(T)))
            for i, j in product(range(len(T)), repeat=2):
                value = float(T[i, j])
                if value >= 0.005:
                    axis.text(j, i, f"{value:.2f}", ha="center", va="center", fontsize=6, color="wk"[value > 0.5])
    figure.colorbar(image, ax=list(axes), label="share of the true class", shrink=0.8)
    figure.suptitle(name, fontsize=10)
    figure.savefig(path)
