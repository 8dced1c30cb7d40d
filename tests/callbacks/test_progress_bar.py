"""A bar for passes over the training set outside training."""

from __future__ import annotations

import pytest
import torch
from rich.progress import Progress
from torch.utils.data import DataLoader, TensorDataset

from noisylabels_pl.callbacks import ProgressBar

LOADER = DataLoader(TensorDataset(torch.arange(7)), batch_size=3)


def test_without_a_bar_the_batches_come_all_the_same() -> None:
    assert [batch.tolist() for (batch,) in ProgressBar().track(LOADER, "Scoring", len(LOADER))] == [
        [0, 1, 2],
        [3, 4, 5],
        [6],
    ]


def test_the_bar_counts_batches_and_disappears() -> None:
    bar = ProgressBar()
    bar.progress = Progress()
    counts = [bar.progress.tasks[0].completed for _ in bar.track(LOADER, "Scoring", len(LOADER))]
    (task,) = bar.progress.tasks
    assert counts == [0, 1, 2]
    assert (task.description, task.total, task.completed, task.visible) == ("Scoring", 3, 3, False)


def test_the_bar_disappears_after_an_error() -> None:
    bar = ProgressBar()
    bar.progress = Progress()
    batches = bar.track(LOADER, "Scoring", len(LOADER))
    next(batches)
    with pytest.raises(ValueError, match="stopped"):
        batches.throw(ValueError("stopped"))
    (task,) = bar.progress.tasks
    assert not task.visible
