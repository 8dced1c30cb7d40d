"""Published and superclass noise on the datasets of the papers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from noisylabels_pl.data import CIFAR100, LabelNoise
from tests.cli.test_paper_data import SMALL, result
from tests.data.datasets.paper_files import write_imdb
from tests.data.datasets.vision_files import CIFAR_Y, ready, write_cifar100, write_cifar_batches

Run = Callable[..., Path]


@pytest.mark.parametrize(
    ("recipe", "write", "key"),
    [("cifar10n", write_cifar_batches, "worse_label"), ("cifar100n", write_cifar100, "noisy_label")],
)
def test_human_labels_of_cifar(
    cli: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recipe: str, write: Callable[..., Any], key: str
) -> None:
    write(tmp_path / "files", monkeypatch)
    clean = CIFAR_Y[:50]
    labels = {"clean_label": clean, "aggre_label": clean, key: (clean + (np.arange(50) % 2)) % 10}
    torch.save(labels, tmp_path / "human.pt")
    run = cli(f"experiment=cifarn/{recipe}", "noise.path=human.pt", "data.root=files", *SMALL)
    assert result(run)["noise"]["realized_rate"] == 0.5


def test_asymmetric_noise_of_cifar100_stays_in_the_superclass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    noise = LabelNoise("asym", rate=1.0, map="superclass")
    data = ready(CIFAR100(str(write_cifar100(tmp_path, monkeypatch)), noise=noise))
    following = [3, 4, 5, 6, 7, 8, 9, 1, 2, 0]  # the circles 0 3 6 9, 1 4 7 and 2 5 8
    assert data.labels.observed.tolist() == [following[label] for label in CIFAR_Y[:50].tolist()]


def test_binary_noise_of_imdb(cli: Run, tmp_path: Path) -> None:
    write_imdb(tmp_path / "files")
    recipe = ("experiment=loss_correction/imdb_flat_asym", "method=forward", "method.T=known")
    run = cli(*recipe, "data.root=files", "data.length=8", *SMALL[:3])
    assert result(run)["noise"]["realized_rate"] > 0
