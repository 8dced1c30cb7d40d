"""The figure of transition matrices."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image

from noisylabels_pl.report.transition import draw_transitions


def test_numbers_are_written_into_small_matrices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved: list[Figure] = []
    save = Figure.savefig

    def keep(self: Figure, path: Path, **options: Any) -> None:
        saved.append(self)
        save(self, path, **options)

    monkeypatch.setattr(Figure, "savefig", keep)
    T = torch.tensor([[0.75, 0.25], [0.004, 0.996]])
    draw_transitions({"T as used": T, "another": torch.eye(2)}, "a run", tmp_path / "T.png")
    (figure,) = saved
    first, second, _ = figure.axes  # the last is the color bar
    assert [text.get_text() for text in first.texts] == ["0.75", "0.25", "1.00"]
    assert [text.get_position() for text in first.texts] == [(0, 0), (1, 0), (1, 1)]
    assert [text.get_color() for text in first.texts] == ["black", "white", "black"]
    assert [first.get_title(), second.get_title()] == ["T as used", "another"]
    with Image.open(tmp_path / "T.png") as image:
        assert image.width > 1.5 * image.height


def test_a_large_matrix_has_no_numbers(tmp_path: Path) -> None:
    draw_transitions({"T": torch.eye(100)}, "a run", tmp_path / "T.png")
    assert (tmp_path / "T.png").stat().st_size > 5000
