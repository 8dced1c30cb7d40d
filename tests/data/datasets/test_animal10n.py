"""ANIMAL-10N from its official files."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from noisylabels_pl.data import Animal10N, LabelNoise
from tests.data.datasets.paper_files import label_of_brightness, write_animal10n, write_image
from tests.data.datasets.vision_files import ready


def test_labels_are_in_the_names_of_the_files(tmp_path: Path) -> None:
    arrays = ready(Animal10N(str(write_animal10n(tmp_path)))).arrays
    assert arrays.x_train.shape == (40, 3, 64, 64)
    for x, y in ((arrays.x_train, arrays.y_train), (arrays.x_test, arrays.y_test)):
        brightness = x[torch.arange(len(y))].float().mean((1, 2, 3))
        assert [label_of_brightness(value) for value in brightness.tolist()] == y.tolist()
    assert arrays.y_train.tolist() == sorted(list(range(10)) * 4)
    assert arrays.class_names[3] == "coyote"
    assert arrays.train_ids is not None
    assert arrays.train_ids[4] == "training/1_1000.jpg"
    assert arrays.y_train_clean is None


def test_animals_are_mistaken_for_each_other_in_pairs(tmp_path: Path) -> None:
    data = ready(Animal10N(str(write_animal10n(tmp_path)), noise=LabelNoise("asym", rate=1.0)))
    flips = dict(zip(data.arrays.y_train.tolist(), data.labels.observed.tolist(), strict=True))
    assert flips == {0: 1, 1: 0, 2: 3, 3: 2, 4: 5, 5: 4, 6: 7, 7: 6, 8: 9, 9: 8}


@pytest.mark.parametrize("folder", ["training", "testing"])
def test_a_missing_folder_is_named(tmp_path: Path, folder: str) -> None:
    shutil.rmtree(write_animal10n(tmp_path) / folder)
    with pytest.raises(FileNotFoundError, match=f"Animal10N: there is no {folder} in root=.*docs/datasets.md"):
        Animal10N(str(tmp_path)).setup()


@pytest.mark.parametrize("name", ["cat_1.jpg", "12_3.jpg"])
def test_a_file_without_a_label_is_named(tmp_path: Path, name: str) -> None:
    write_image(write_animal10n(tmp_path) / "training" / name, 0)
    with pytest.raises(ValueError, match=f"{name} must begin with the number of its class"):
        Animal10N(str(tmp_path)).setup()


def test_an_empty_folder(tmp_path: Path) -> None:
    for file in (write_animal10n(tmp_path) / "testing").iterdir():
        file.unlink()
    with pytest.raises(ValueError, match="Animal10N: its lists name no image"):
        Animal10N(str(tmp_path)).setup()
