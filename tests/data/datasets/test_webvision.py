"""Mini-WebVision and ILSVRC-12 from their official files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from noisylabels_pl.data import MiniWebVision
from noisylabels_pl.data.datasets.ilsvrc import read_ilsvrc_validation
from tests.data.datasets.paper_files import (
    SYNSETS,
    label_of_brightness,
    write_ilsvrc_folders,
    write_ilsvrc_published,
    write_lines,
    write_webvision,
)
from tests.data.datasets.vision_files import ready


def webvision(root: Path, **options: object) -> MiniWebVision:
    data = MiniWebVision(str(root), num_classes=3, image_size=16, **options)  # type: ignore[arg-type]
    ready(data)
    return data


def test_the_first_classes(tmp_path: Path) -> None:
    arrays = webvision(write_webvision(tmp_path)).arrays
    assert arrays.class_names == ("tench", "goldfish", "great white shark")
    assert arrays.y_train.tolist() == [0] * 8 + [1] * 8 + [2] * 8
    assert arrays.y_test.tolist() == [0, 0, 1, 1, 2, 2]
    assert arrays.x_train.shape == (24, 3, 16, 16)
    assert arrays.y_train_clean is None
    for x, y in ((arrays.x_train, arrays.y_train), (arrays.x_test, arrays.y_test)):
        brightness = x[torch.arange(len(y))].float().mean((1, 2, 3))
        assert [label_of_brightness(value) for value in brightness.tolist()] == y.tolist()
    assert arrays.train_ids is not None
    assert arrays.train_ids[9] == "google/q0001/1.jpg"


@pytest.mark.parametrize("write", [write_ilsvrc_folders, write_ilsvrc_published], ids=["folders", "published"])
def test_imagenet_is_a_second_test_set(tmp_path: Path, write: Callable[[Path], Path]) -> None:
    data = webvision(write_webvision(tmp_path / "web"), imagenet=str(write(tmp_path / "imagenet")))
    assert list(data.val_dataloader()) == ["val", "test", "imagenet"]
    x, y = data.arrays.further_tests["imagenet"]
    assert set(y.tolist()) == {0, 1, 2}
    brightness = x[torch.arange(len(y))].float().mean((1, 2, 3))
    assert [label_of_brightness(value) for value in brightness.tolist()] == y.tolist()


def test_published_numbers_of_classes_are_not_those_of_the_synsets(tmp_path: Path) -> None:
    names, labels = read_ilsvrc_validation(write_ilsvrc_published(tmp_path), "imagenet", SYNSETS)
    assert labels == [1, 0, 2, 0, 1]
    assert [name[-6] for name in names] == ["1", "3", "4", "5", "6"]  # the second image is of another class


def test_hash_tells_test_sets_apart(tmp_path: Path) -> None:
    root = write_webvision(tmp_path / "web")
    imagenet = str(write_ilsvrc_folders(tmp_path / "imagenet"))
    assert webvision(root).arrays.digest() != webvision(root, imagenet=imagenet).arrays.digest()
    assert webvision(root).arrays.digest() == webvision(root).arrays.digest()


@pytest.mark.parametrize(
    "name",
    [
        "info/train_filelist_google.txt",
        "info/val_filelist.txt",
        "google/q0000/0.jpg",
        "val_images_256/val000000.jpg",
    ],
)
def test_a_missing_file_is_named(tmp_path: Path, name: str) -> None:
    (write_webvision(tmp_path) / name).unlink()
    expected = name.removeprefix("val_images_256/")
    with pytest.raises(FileNotFoundError, match=f"MiniWebVision: there is no {expected} in root=.*docs/datasets.md"):
        webvision(tmp_path)


def test_names_of_classes_are_needed_for_imagenet_alone(tmp_path: Path) -> None:
    (write_webvision(tmp_path) / "info/synsets.txt").unlink()
    assert webvision(tmp_path).arrays.class_names == ("0", "1", "2")
    with pytest.raises(FileNotFoundError, match=r"MiniWebVision: there is no info/synsets\.txt in root="):
        webvision(tmp_path, imagenet=str(write_ilsvrc_folders(tmp_path / "imagenet")))


@pytest.mark.parametrize("name", ["n01443537", "ILSVRC2012_devkit_t12/data/meta.mat"])
def test_a_missing_file_of_imagenet_is_named(tmp_path: Path, name: str) -> None:
    root = tmp_path / "imagenet"
    if name.startswith("n"):
        (write_ilsvrc_folders(root) / name).rename(tmp_path / name)
    else:
        (write_ilsvrc_published(root) / name).unlink()
    with pytest.raises(FileNotFoundError, match=f"ILSVRC-12: there is no {name}.* in imagenet="):
        webvision(write_webvision(tmp_path / "web"), imagenet=str(root))


@pytest.mark.parametrize("line", ["google/q0000/0.jpg", "google/q0000/0.jpg 1000", "google/q0000/0.jpg -1", "7"])
def test_a_damaged_list_names_the_line(tmp_path: Path, line: str) -> None:
    write_lines(write_webvision(tmp_path) / "info/train_filelist_google.txt", ["google/q0000/1.jpg 0", line])
    with pytest.raises(ValueError, match=r"train_filelist_google\.txt, line 2: .* a label in 0\.\.999"):
        webvision(tmp_path)


def test_an_image_that_is_missing_later_is_named_when_it_is_read(tmp_path: Path) -> None:
    (write_webvision(tmp_path) / "google/q0001/3.jpg").unlink()
    arrays = webvision(tmp_path).arrays
    with pytest.raises(ValueError, match=r"q0001/3\.jpg is no readable image"):
        arrays.x_train[torch.tensor([11])]
