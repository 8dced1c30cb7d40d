"""Embeddings in npz and Parquet files."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from noisylabels_pl.data import FeatureData, LabelNoise

ROWS = 60
LABELS = np.array(["cat", "dog", "fox"])[np.arange(ROWS) % 3]
X = np.random.default_rng(0).normal(size=(ROWS, 8)).astype(np.float32)


def set_up(path: Path, **options: Any) -> FeatureData:
    data = FeatureData(str(path), **options)
    data.setup()
    return data


def save(folder: Path, **arrays: Any) -> Path:
    np.savez(folder / "mine.npz", **{name: array for name, array in arrays.items() if array is not None})
    return folder / "mine.npz"


@pytest.mark.parametrize("names", [("x", "y"), ("X", "targets"), ("embeddings", "labels")])
def test_one_pair_of_arrays_is_split(tmp_path: Path, names: tuple[str, str]) -> None:
    data = set_up(save(tmp_path, **dict(zip(names, (X, LABELS), strict=True))))
    arrays = data.arrays
    assert (arrays.class_names, data.input_shape) == (("cat", "dog", "fox"), (8,))
    assert (len(arrays.y_train), len(arrays.y_test)) == (48, 12)
    assert arrays.test_ids is not None
    rows = [int(name.split()[1]) for name in arrays.test_ids]
    assert torch.equal(arrays.x_test, torch.from_numpy(X[rows]))
    assert [arrays.class_names[label] for label in arrays.y_test] == LABELS[rows].tolist()


@pytest.mark.parametrize(("train", "test"), [("{}_train", "{}_test"), ("train_{}", "test_{}")])
def test_a_training_and_a_test_set(tmp_path: Path, train: str, test: str) -> None:
    arrays = {train.format("features"): X[:40], train.format("label"): LABELS[:40]}
    arrays |= {test.format("features"): X[40:], test.format("label"): LABELS[40:]}
    data = set_up(save(tmp_path, **arrays))
    assert torch.equal(data.arrays.x_train, torch.from_numpy(X[:40]))
    assert torch.equal(data.arrays.x_test, torch.from_numpy(X[40:]))


def test_named_arrays_and_true_labels(tmp_path: Path) -> None:
    wrong = np.where(np.arange(ROWS) < 15, "cat", LABELS)
    path = save(tmp_path, x=np.zeros((ROWS, 2)), clip=X, y=np.zeros(ROWS, int), noted=wrong, truth=LABELS)
    data = set_up(path, features="clip", label="noted", clean_label="truth")
    assert data.input_shape == (8,)
    assert 0 < (data.labels.rate or 0) < 0.25


@pytest.mark.parametrize("name", ["y_train_clean", "y_clean_train", "clean_labels_train"])
def test_true_labels_are_found(tmp_path: Path, name: str) -> None:
    wrong = np.where(np.arange(40) < 15, "cat", LABELS[:40])
    arrays = {"x_train": X[:40], "y_train": wrong, "x_test": X[40:], "y_test": LABELS[40:], name: LABELS[:40]}
    assert set_up(save(tmp_path, **arrays)).labels.rate == pytest.approx(10 / 40)


def test_half_precision_stays_so_in_memory(tmp_path: Path) -> None:
    data = set_up(save(tmp_path, x=X.astype(np.float16), y=LABELS))
    assert data.arrays.x_train.dtype == torch.float16
    rows = data.train_indices[:5]
    batch = data.on_after_batch_transfer((data.arrays.x_train[rows], data.labels.observed[rows]), 0)
    assert batch[0].dtype == torch.float32
    expected = (data.arrays.x_train[rows].float() - data.arrays.mean) / data.arrays.std
    torch.testing.assert_close(batch[0], expected)
    broken = X.astype(np.float16)
    broken[3, 1] = np.inf
    path = save(tmp_path, x=broken, y=LABELS)
    with pytest.raises(ValueError, match=r"^x\[3\] holds a value that is not finite"):
        set_up(path)


@pytest.mark.parametrize("labels", [np.arange(ROWS) % 3 + 1, (np.arange(ROWS) % 3)[:, None] + 0.0])
def test_labels_of_any_kind(tmp_path: Path, labels: Any) -> None:
    data = set_up(save(tmp_path, x=X, y=labels), noise=LabelNoise("sym", rate=0.5, count="exact"))
    assert data.arrays.num_outputs == 3
    assert data.labels.rate == pytest.approx(0.5)


def test_one_hot_labels_are_told(tmp_path: Path) -> None:
    data = set_up(save(tmp_path, x=X, y=np.eye(3)[np.arange(ROWS) % 3]))
    assert data.warnings == ["the label has one-hot rows of 3 classes; the column of the 1 is the class"]


def test_parquet(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow", reason="Parquet needs pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "mine.parquet"
    parquet.write_table(pyarrow.table({"embedding": list(X.tolist()), "label": LABELS.tolist()}), path)
    arrays = set_up(path).arrays
    rows = [int(name.split()[1]) for name in arrays.train_ids or ()]
    torch.testing.assert_close(arrays.x_train, torch.from_numpy(X[rows]))
    ragged = [row[: 8 - (number == 5)] for number, row in enumerate(X.tolist())]
    parquet.write_table(pyarrow.table({"embedding": ragged, "label": LABELS.tolist()}), path)
    with pytest.raises(ValueError, match=r"^embedding of row 5 has 7 numbers, that of row 0 8; all rows need equally"):
        set_up(path)


@pytest.mark.parametrize(
    ("arrays", "options", "message"),
    [
        ({"z": X, "y": LABELS}, {}, "features: .* has no x or X or features or embeddings or embedding; it has z, y"),
        ({"x": X, "kind": LABELS}, {}, "label: .* has no y or labels or label or targets; it has x, kind"),
        ({"x": X, "y": LABELS}, {"features": "clip"}, "features: .* has no clip; it has x, y"),
        ({"x": X, "y": LABELS}, {"clean_label": "truth"}, "clean_label: .* has no truth; it has x, y"),
        ({"x": X, "features": X, "y": LABELS}, {}, "features: .* has x and features; set features to the one to use"),
        ({"x": X, "y": LABELS, "labels": LABELS}, {}, "label: .* has y and labels; set label to the one to use"),
        (
            {"x": X, "y": LABELS, "y_clean": LABELS, "clean_label": LABELS},
            {},
            "clean_label: .* has y_clean and clean_label; set clean_label to the one to use",
        ),
        (
            {"x_train": X, "y_train": LABELS, "x_test": X, "y_test": np.where(LABELS == "cat", "emu", LABELS)},
            {},
            "the label of test sample row 0 is emu, which no training sample has; name all classes in class_names",
        ),
        (
            {"x_train": X, "y_train": np.arange(ROWS) % 3, "x_test": X, "y_test": LABELS},
            {},
            "the label is an integer (0) in one place and text ('cat') in another, of the training and the test set",
        ),
        ({"x": X, "y": LABELS[:50]}, {}, r"y has shape (50,), but x has 60 rows"),
        ({"x": X, "y": np.array(3)}, {}, r"y has shape (), but x has 60 rows"),
        ({"x": X.reshape(60, 2, 4), "y": LABELS}, {}, "x has shape (60, 2, 4); embeddings are one row"),
        ({"x_train": X, "y_train": LABELS}, {}, "features: .* has no x_test or "),
        (
            {"x_train": X, "y_train": LABELS, "x_test": X[:, :5], "y_test": LABELS},
            {},
            "path: .* has 8 numbers for each training sample, but 5",
        ),
        ({"x": X, "y": np.where(LABELS == "cat", "", LABELS)}, {}, "the label of row 0 is missing"),
        ({"x": X, "y": X[:, 0]}, {}, "the label of row 0 (0.125.*) is no class; .*data=npz_regression"),
        ({"x": X, "y": X[:, :3]}, {}, "the label of row 0 is .*, which is not one-hot"),
        ({"x": X, "y": LABELS.astype(object)}, {}, "path: .* (objects are not read; save text by labels.astype(str))"),
    ],
)
def test_mistakes(tmp_path: Path, arrays: dict[str, Any], options: dict[str, Any], message: str) -> None:
    path = save(tmp_path, **arrays)
    with pytest.raises(ValueError, match="^" + re.escape(message).replace(r"\.\*", ".*")):
        set_up(path, **options)


def test_a_damaged_file(tmp_path: Path) -> None:
    path = save(tmp_path, x=X, y=LABELS)
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(ValueError, match=r"^path: .*mine\.npz is not a readable npz file"):
        set_up(path)
