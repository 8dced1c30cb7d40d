"""Datasets that Hugging Face's library has saved."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from noisylabels_pl.data import HfDisk

ROWS = 60
STARS = [row % 3 for row in range(ROWS)]
TEXTS = [f"a {('bad', 'fair', 'good')[star]} film" for star in STARS]


def library() -> Any:
    return pytest.importorskip("datasets", reason="needs Hugging Face's library datasets (the extra text)")


def save(folder: Path, **columns: Any) -> Path:
    """Save one dataset with these columns; the labels are a ClassLabel."""
    datasets = library()
    table = datasets.Dataset.from_dict({"label": STARS} | columns)
    table = table.cast_column("label", datasets.ClassLabel(names=["one", "two", "a lot"]))
    table.save_to_disk(folder / "saved")
    return folder / "saved"


def save_parts(folder: Path, *names: str) -> Path:
    datasets = library()
    part = datasets.Dataset.from_dict({"text": TEXTS, "label": STARS, "size": [1.0] * ROWS})
    datasets.DatasetDict(dict.fromkeys(names, part)).save_to_disk(folder / "saved")
    return folder / "saved"


def set_up(path: Path, **options: Any) -> HfDisk:
    data = HfDisk(str(path), **{"label": "label"} | options)
    data.setup()
    return data


def test_one_dataset_of_texts_is_split(tmp_path: Path) -> None:
    data = set_up(save(tmp_path, review=TEXTS), text="review", length=4, vocabulary=10)
    arrays = data.arrays
    assert arrays.class_names == ("one", "two", "a lot")  # not sorted: these are the numbers of the labels
    assert (len(arrays.y_train), len(arrays.y_test)) == (48, 12)
    assert arrays.train_ids is not None
    rows = [int(name.split()[1]) for name in arrays.train_ids]
    assert arrays.y_train.tolist() == [STARS[row] for row in rows]
    assert {data.word_numbers[word] for word in ("a", "film")} == {2, 3}
    assert arrays.x_train[0].tolist()[3] == 0


def test_parts(tmp_path: Path) -> None:
    data = set_up(save_parts(tmp_path, "train", "validation", "test", "unsupervised"), text="text")
    assert (len(data.train_indices), len(data.val_indices), len(data.arrays.y_test)) == (ROWS, ROWS, ROWS)
    assert data.arrays.train_ids is not None
    assert data.arrays.train_ids[data.val_indices[0]] == "val 0"


def test_validation_is_the_test_set_if_there_is_no_other(tmp_path: Path) -> None:
    data = set_up(save_parts(tmp_path, "train", "validation"), text="text", val_fraction=0.5)
    assert (len(data.train_indices), len(data.val_indices), len(data.arrays.y_test)) == (ROWS // 2, ROWS // 2, ROWS)


def test_features(tmp_path: Path) -> None:
    embeddings = np.random.default_rng(0).normal(size=(ROWS, 4)).astype(np.float32)
    data = set_up(save(tmp_path, embedding=embeddings.tolist(), name=["x"] * ROWS))
    assert data.input_shape == (4,)
    assert data.warnings == ["columns of text are no features unless features names them; left out: name"]


def test_images(tmp_path: Path) -> None:
    images = [Image.new("RGB", (20, 10), (row, 0, 0)) for row in range(ROWS)]
    data = set_up(save(tmp_path, photo=images, size=STARS), image="photo", image_size=8, mode="L")
    assert data.input_shape == (1, 8, 8)
    assert data.arrays.x_train[torch.tensor([3, 1])].shape == (2, 1, 8, 8)
    assert data.arrays.digest() == set_up(data.path, image="photo", image_size=8, mode="L").arrays.digest()
    with pytest.raises(ValueError, match=r"^image: size of row \d+ is a int, not an image"):
        _ = set_up(data.path, image="size", image_size=8).arrays.x_train[torch.tensor([0])]


def test_images_that_cannot_be_read(tmp_path: Path) -> None:
    file = io.BytesIO()
    Image.new("RGB", (20, 10)).save(file, "PNG")
    photos = [{"bytes": file.getvalue(), "path": None}] * ROWS
    for bad, fault in (({"bytes": b"no image", "path": None}, r"is no readable image \(.*\)"), (None, "is missing")):
        datasets = library()
        table = datasets.Dataset.from_dict({"photo": [bad] * 2 + photos[2:], "label": STARS})
        table = table.cast_column("photo", datasets.Image())
        folder = tmp_path / fault[:5].replace(" ", "_")
        table.save_to_disk(folder)
        with pytest.raises(ValueError, match=rf"^image: photo of row [01] {fault}; remove the row from the dataset"):
            set_up(folder, image="photo", image_size=8)


def test_mistakes(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"^path: there is no folder .*gone"):
        set_up(tmp_path / "gone")
    library()
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"^path: .*empty is no folder of datasets' save_to_disk"):
        set_up(tmp_path / "empty")
    with pytest.raises(ValueError, match=r"^path: .*saved needs train, and test or validation; it has train, other"):
        set_up(save_parts(tmp_path, "train", "other"))
    path = save(tmp_path / "more", label=[-1, *STARS[1:]], text=TEXTS)
    with pytest.raises(ValueError, match=r"^label of row 0 is missing; remove the row"):
        set_up(path, text="text")
    with pytest.raises(ValueError, match=r"^text: .* has no column 'review'; .*nearest first: text, "):
        set_up(save_parts(tmp_path / "parts", "train", "test"), text="review")


def test_the_library_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(
        ModuleNotFoundError, match=r"^data=hf_disk needs datasets: pip install 'noisylabels-pl\[text\]'"
    ):
        set_up(tmp_path)
