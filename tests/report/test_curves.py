"""The figure of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure

from noisylabels_pl.report.curves import draw_curves


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures that are saved, still open."""
    saved: list[Figure] = []
    save = Figure.savefig

    def keep(self: Figure, path: Path, **options: Any) -> None:
        saved.append(self)
        save(self, path, **options)

    monkeypatch.setattr(Figure, "savefig", keep)
    return saved


def lines(axis: Any) -> dict[str, tuple[list[float], list[float]]]:
    return {line.get_label(): (list(line.get_xdata()), list(line.get_ydata())) for line in axis.get_lines()}


def test_accuracy_and_memorization(figures: list[Figure], tmp_path: Path) -> None:
    history = {"test/acc": [0.5, 0.75], "train/memorized": [None, 0.25], "val/acc": [0.1, 0.2], "epoch": [0, 1]}
    draw_curves(history, "a run", tmp_path / "curves.png")
    ((axis,),) = [figure.axes for figure in figures]
    assert lines(axis) == {
        "test": ([0, 1], [50, 75]),
        "train, wrongly labeled: wrong label predicted": ([1], [25]),
    }
    assert axis.get_ylabel() == "accuracy (%)"
    (memorized,) = [line for line in axis.get_lines() if "wrong label" in line.get_label()]
    assert memorized.get_marker() == "o"  # a single point
    assert (tmp_path / "curves.png").stat().st_size > 5000


def test_selection_has_a_panel_of_its_own(figures: list[Figure], tmp_path: Path) -> None:
    history = {"test/acc": [0.5, 0.75], "selection/precision": [None, 0.875], "selection/overlap": [None, 0.5]}
    draw_curves(history, "a run", tmp_path / "curves.png", 0.625)
    (figure,) = figures
    assert len(figure.axes) == 2
    drawn = lines(figure.axes[1])
    assert drawn["rightly labeled"] == ([1], [87.5])
    assert drawn["also selected the epoch before"] == ([1], [50])
    assert drawn["rightly labeled among all samples"][1] == [62.5, 62.5]


def test_r2_is_not_in_per_cent(figures: list[Figure], tmp_path: Path) -> None:
    draw_curves({"test/r2": [-7.0, 0.5], "val/r2": [0.1, 0.2]}, "a run", tmp_path / "curves.png")
    ((axis,),) = [figure.axes for figure in figures]
    assert lines(axis) == {"test": ([0, 1], [-7, 0.5]), "noisy validation": ([0, 1], [0.1, 0.2])}
    assert axis.get_ylim() == (-1.05, 1.05)
    assert "R²" in axis.get_ylabel()


def test_a_run_without_an_epoch(figures: list[Figure], tmp_path: Path) -> None:
    draw_curves({}, "a run", tmp_path / "curves.png")
    assert not figures[0].axes[0].get_lines()


def test_the_best_epoch_is_marked_and_the_legend_covers_no_curve(figures: list[Figure], tmp_path: Path) -> None:
    history = {"test/acc": [0.5, 0.75], "selection/precision": [None, 0.875]}
    draw_curves(history, "a run", tmp_path / "curves.png", best_epoch=1)
    (figure,) = figures
    for axis in figure.axes:
        assert lines(axis)["best noisy-validation epoch (1)"][0] == [1, 1]
        assert axis.get_legend().get_window_extent().y1 < axis.get_window_extent().y0
        assert all(tick == int(tick) for tick in axis.get_xticks())
