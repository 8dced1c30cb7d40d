"""Images in folders: the layouts, the files that are left out or refused, and that runs do not depend on the way."""

from __future__ import annotations

import csv
import os
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pytest
import torch
from PIL import Image

from noisylabels_pl.core import Classifier
from noisylabels_pl.data import Batch, ImageFolder, LabelNoise, NpzData
from noisylabels_pl.nets import small_cnn
from tests.data.datasets.image_files import write_images


def image_folder(path: Path, **options: Any) -> ImageFolder:
    datamodule = ImageFolder(str(path), **({"image_size": 8, "batch_size": 4, "val_fraction": 0.0} | options))
    datamodule.setup()
    return datamodule


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_images(tmp_path / "train")
    write_images(tmp_path / "test", per_class=2)
    return tmp_path


# --- layouts ----------------------------------------------------------------------------------------------------------


def test_training_and_test_folder(folder: Path) -> None:
    arrays = image_folder(folder).arrays
    assert arrays.class_names == ("cat", "dog")
    assert arrays.y_train.tolist() == [0] * 6 + [1] * 6
    assert arrays.y_test.tolist() == [0, 0, 1, 1]
    assert arrays.train_ids is not None
    assert arrays.train_ids[0] == os.path.join("train", "cat", "0.png")
    assert arrays.x_train.shape == (12, 3, 8, 8)
    # The color of a class.
    means = arrays.x_train[torch.arange(12)].float().mean((2, 3))
    assert means.argmax(1).tolist() == arrays.y_train.tolist()


def test_test_set_is_split_off_by_class(tmp_path: Path) -> None:
    write_images(tmp_path, per_class=10)
    first = image_folder(tmp_path, test_fraction=0.3, seed=0).arrays
    other = image_folder(tmp_path, test_fraction=0.3, seed=1).arrays
    assert first.y_test.tolist() == [0, 0, 0, 1, 1, 1]
    assert first.train_ids is not None
    assert first.test_ids is not None
    assert not {*first.train_ids} & {*first.test_ids}
    assert other.test_ids == first.test_ids  # of all seeds of a run
    assert image_folder(tmp_path, test_fraction=0.3, split_seed=1).arrays.test_ids != first.test_ids


def test_folders_within_classes_and_links(folder: Path) -> None:
    elsewhere = folder / "elsewhere"
    write_images(elsewhere, classes=("more",), per_class=1)
    (folder / "train" / "cat" / "linked").symlink_to(elsewhere / "more")
    (folder / "train" / "cat" / "circle").symlink_to(folder / "train" / "cat")
    ids = image_folder(folder).arrays.train_ids
    assert ids is not None
    assert os.path.join("train", "cat", "linked", "0.png") in ids
    assert len(ids) == 13


def test_class_that_only_the_test_set_has(folder: Path) -> None:
    write_images(folder / "test2", classes=("fox",), per_class=1)
    (folder / "test2" / "fox").rename(folder / "test" / "fox")
    assert image_folder(folder).arrays.class_names == ("cat", "dog", "fox")


def test_validation_folder(folder: Path) -> None:
    write_images(folder / "val", per_class=2)
    datamodule = image_folder(folder, val_fraction=0.25)
    ids = datamodule.arrays.train_ids
    assert ids is not None
    assert [ids[row] for row in datamodule.val_indices.tolist()] == [
        os.path.join("val", name, f"{number}.png") for name in ("cat", "dog") for number in (0, 1)
    ]
    assert len(datamodule.train_indices) == 12
    assert len(image_folder(folder, test_folder="val").arrays.y_train) == 12


def test_split_is_saved(folder: Path, tmp_path: Path) -> None:
    datamodule = image_folder(folder, val_fraction=0.25)
    datamodule.save_split(tmp_path / "split.csv")
    rows = list(csv.DictReader((tmp_path / "split.csv").open()))
    assert [row["split"] for row in rows].count("val") == 3
    assert {row["id"] for row in rows if row["split"] == "test"} == {*(datamodule.arrays.test_ids or ())}
    assert all(f"{os.sep}{row['label']}{os.sep}" in row["id"] for row in rows)


# --- bad files --------------------------------------------------------------------------------------------------------


def cut_off(path: Path) -> None:
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 255, (64, 64, 3), dtype=np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:1000])


def text(path: Path) -> None:
    path.write_text("<html>404 Not Found</html>")


def sixteen_bits(path: Path) -> None:
    Image.fromarray(np.full((9, 9), 40_000, dtype=np.uint16)).save(path)


@pytest.mark.parametrize("name", ["z.png", "z.jpg"])
@pytest.mark.parametrize("spoil", [cut_off, text])
def test_unreadable_file(folder: Path, name: str, spoil: Any) -> None:
    spoil(folder / "train" / "dog" / name)
    with pytest.raises(ValueError, match=rf"{name} is no readable image .*; remove it, or, in a folder"):
        image_folder(folder)
    skipping = image_folder(folder, bad_files="skip")
    assert len(skipping.arrays.y_train) == 12
    assert skipping.warnings == [f"left out, because they are no readable images of a class: train/dog/{name}"]


def test_pixels_of_16_bits_are_refused(folder: Path) -> None:
    """Pillow would cut them at 255, and all of the image would be white."""
    sixteen_bits(folder / "train" / "dog" / "z.png")
    with pytest.raises(ValueError, match=r"z\.png is no readable image \(its pixels have more than 8 bits"):
        image_folder(folder)


@pytest.mark.parametrize("kind", ["empty", "broken link"])
def test_file_without_contents(folder: Path, kind: str) -> None:
    bad = folder / "train" / "dog" / "a.png"
    if kind == "empty":
        bad.touch()
    else:
        bad.symlink_to(folder / "gone.png")
    with pytest.raises(ValueError, match=r"a\.png is empty or a broken link; remove it, or set bad_files to skip"):
        image_folder(folder)
    assert len(image_folder(folder, bad_files="skip").arrays.y_train) == 12


def test_other_and_hidden_files(folder: Path) -> None:
    (folder / "train" / "cat" / "notes.txt").write_text("mine")
    (folder / "train" / "cat" / "._0.png").write_bytes(b"of a Mac")
    (folder / "train" / ".cache").mkdir()
    (folder / "train" / "loose.png").touch()
    datamodule = image_folder(folder)
    assert len(datamodule.arrays.y_train) == 12
    left_out = "train/cat/notes.txt, train/loose.png"
    assert datamodule.warnings == [f"left out, because they are no readable images of a class: {left_out}"]


# --- refused ----------------------------------------------------------------------------------------------------------


def test_missing_folders(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"path: there is no folder .*nowhere"):
        image_folder(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match=r"there is .*train but no .*val; set test_folder to the name"):
        image_folder(folder, test_folder="val")
    (folder / "none").mkdir()
    with pytest.raises(FileNotFoundError, match=r"path: there is no image in .*none; it needs a folder for each class"):
        image_folder(folder / "none")


def test_one_class(tmp_path: Path) -> None:
    write_images(tmp_path, classes=("cat",))
    with pytest.raises(ValueError, match=r"the folder has 1 class \(cat\); training needs at least 2"):
        image_folder(tmp_path)


def test_folder_that_is_no_class(folder: Path) -> None:
    with pytest.raises(ValueError, match=r"the folder of train.cat.0\.png is cat, but the classes are dog, fox"):
        image_folder(folder, class_names=["dog", "fox"])


def test_parts_of_a_dataset_are_no_classes(tmp_path: Path) -> None:
    write_images(tmp_path / "training")
    write_images(tmp_path / "testing")
    with pytest.raises(
        ValueError, match=r"testing looks like a part of the dataset, not like a class; name the folders"
    ):
        image_folder(tmp_path)


def test_crop_of_a_mean_image(folder: Path) -> None:
    with pytest.raises(ValueError, match=r"normalization='pixel_mean' needs whole images"):
        image_folder(folder, crop_size=6, normalization="pixel_mean")


def test_options(folder: Path) -> None:
    with pytest.raises(ValueError, match="mode must be one of RGB, L, got 'CMYK'"):
        image_folder(folder, mode="CMYK")
    with pytest.raises(ValueError, match=r"crop_size=9 is larger than the images of 8 x 8 pixels"):
        image_folder(folder, crop_size=9)
    with pytest.raises(ValueError, match=r"test_fraction must lie in \(0, 1\), got 0"):
        image_folder(folder, test_fraction=0)


# --- the same training, however samples are read ----------------------------------------------------------------------


def classifier(side: int) -> Classifier:
    return Classifier(small_cnn((3, side, side), 2, width=4), 2, partial(torch.optim.SGD, lr=0.1))


def weights(datamodule: L.LightningDataModule) -> torch.Tensor:
    L.seed_everything(0, verbose=False)
    module = classifier(6)
    trainer = L.Trainer(
        max_epochs=2,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, datamodule=datamodule)
    return torch.cat([parameter.detach().flatten() for parameter in module.parameters()])


def test_resident_decoded_by_workers_and_in_memory(folder: Path, tmp_path: Path) -> None:
    noise = LabelNoise("sym", rate=0.3)
    options: dict[str, Any] = {"noise": noise, "crop_size": 6, "crop_padding": 1, "flip": True, "val_fraction": 0.2}
    stored = image_folder(folder, **options)
    everything = {
        "x_train": stored.arrays.x_train[torch.arange(12)],
        "y_train": stored.arrays.y_train,
        "x_test": stored.arrays.x_test[torch.arange(4)],
        "y_test": stored.arrays.y_test,
    }
    np.savez(tmp_path / "same.npz", **{name: values.numpy() for name, values in everything.items()})
    expected = weights(NpzData(str(tmp_path / "same.npz"), batch_size=4, **options))
    for way in ({"resident": True}, {"resident": False}, {"resident": False, "num_workers": 2}):
        assert torch.equal(weights(image_folder(folder, **options, **way)), expected)


def test_resident_images_need_no_workers(folder: Path) -> None:
    datamodule = image_folder(folder, num_workers=2)
    loaders = []

    class Watch(L.Callback):
        def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
            loaders.append(trainer.train_dataloader)

    trainer = L.Trainer(max_epochs=1, accelerator="cpu", logger=False, enable_checkpointing=False, callbacks=[Watch()])
    trainer.fit(classifier(8), datamodule=datamodule)
    assert loaders[0].num_workers == 0


def test_gray_images(folder: Path) -> None:
    datamodule = image_folder(folder, mode="L")
    batch = next(iter(datamodule.train_dataloader()))
    assert isinstance(batch, Batch)
    assert batch.x.shape == (4, 1, 8, 8)
    assert datamodule.input_shape == (1, 8, 8)


def test_digest_tells_contents_apart(folder: Path) -> None:
    before = image_folder(folder).arrays.digest()
    assert image_folder(folder).arrays.digest() == before
    write_images(folder / "other", classes=("cat",), per_class=1, side=20)
    (folder / "other" / "cat" / "0.png").rename(folder / "train" / "cat" / "0.png")
    assert image_folder(folder).arrays.digest() != before
