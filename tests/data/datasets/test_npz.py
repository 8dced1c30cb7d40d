"""Datasets from an npz file: the arrays that are accepted, and the errors about others."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from noisylabels_pl.data import Batch, LabelNoise, NpzData, NpzRegression
from noisylabels_pl.data.datasets.npz import read_npz

Array = NDArray[Any]
ROWS, TEST, CLASSES = 60, 20, 4


def table(**changes: Any) -> dict[str, Array]:
    """A small, sound dataset of features."""
    rng = np.random.default_rng(0)
    sound = {
        "x_train": rng.normal(3.0, 2.0, (ROWS, 5)),
        "y_train": np.arange(ROWS) % CLASSES,
        "x_test": rng.normal(0.0, 1.0, (TEST, 5)),
        "y_test": np.arange(TEST) % CLASSES,
    }
    return {name: array for name, array in (sound | changes).items() if array is not None}


def write(folder: Path, **changes: Any) -> Path:
    path = folder / "mine.npz"
    np.savez(path, **table(**changes))
    return path


def datamodule(path: Path, **options: Any) -> NpzData:
    datamodule = NpzData(str(path), **options)
    datamodule.setup()
    return datamodule


def with_value(array: Array, where: Any, value: Any) -> Array:
    array = array.copy()
    array[where] = value
    return array


# --- reading ----------------------------------------------------------------------------------------------------------


def test_sound_file(tmp_path: Path) -> None:
    arrays = read_npz(write(tmp_path))
    expected = table()
    torch.testing.assert_close(arrays.x_train, torch.from_numpy(expected["x_train"]).float())
    torch.testing.assert_close(arrays.x_test, torch.from_numpy(expected["x_test"]).float())
    assert arrays.y_train.tolist() == expected["y_train"].tolist()
    assert arrays.y_test.tolist() == expected["y_test"].tolist()
    assert arrays.y_train.dtype == torch.int64
    assert arrays.num_outputs == CLASSES
    assert arrays.class_names == ("0", "1", "2", "3")
    assert arrays.y_train_clean is None
    assert str(tmp_path / "mine.npz") in arrays.origin


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", ">f8", "int32", "int64"])
def test_features_of_any_number_type(tmp_path: Path, dtype: str) -> None:
    x = (table()["x_train"] * 10).astype(dtype)
    arrays = read_npz(write(tmp_path, x_train=x))
    assert arrays.x_train.dtype == torch.float32
    np.testing.assert_allclose(arrays.x_train.numpy(), x.astype("float32"))


@pytest.mark.parametrize("dtype", ["uint8", "int8", "int32", "int64", ">i4", "uint64"])
def test_labels_of_any_integer_type(tmp_path: Path, dtype: str) -> None:
    arrays = read_npz(write(tmp_path, y_train=table()["y_train"].astype(dtype)))
    assert arrays.y_train.dtype == torch.int64
    assert arrays.y_train.tolist() == table()["y_train"].tolist()


@pytest.mark.parametrize(
    "change",
    [
        lambda y: y.astype("float32"),
        lambda y: y[:, None],
        lambda y: y[:, None].astype(float),
        lambda y: np.eye(CLASSES, dtype="uint8")[y],
    ],
    ids=["whole floats", "column", "column of floats", "one-hot"],
)
def test_other_layouts_of_labels_are_the_same(tmp_path: Path, change: Any) -> None:
    expected = read_npz(write(tmp_path, y_train_clean=table()["y_train"]))
    labels = {name: table()[name] for name in ("y_train", "y_test")} | {"y_train_clean": table()["y_train"]}
    arrays = read_npz(write(tmp_path, **{name: change(y) for name, y in labels.items()}))
    assert arrays.digest() == expected.digest()
    assert arrays.class_names == expected.class_names
    assert all("one-hot rows of 4 classes" in warning for warning in arrays.warnings)


def test_labels_that_are_text(tmp_path: Path) -> None:
    names = np.array(["oak", "ash", "yew", "beech"])
    labels = {name: names[table()[name]] for name in ("y_train", "y_test")}
    arrays = read_npz(write(tmp_path, **labels))
    assert arrays.class_names == ("ash", "beech", "oak", "yew")
    assert [arrays.class_names[label] for label in arrays.y_train] == labels["y_train"].tolist()
    given = datamodule(write(tmp_path, **labels), class_names=names.tolist()).arrays
    assert given.y_train.tolist() == table()["y_train"].tolist()
    path = write(tmp_path, **labels | {"y_test": with_value(labels["y_test"], 3, "elm")})
    with pytest.raises(ValueError, match=r"^y_test of row 3 is elm, but the classes are oak, ash, yew, beech"):
        datamodule(path, class_names=names.tolist())
    with pytest.raises(ValueError, match=r"^y of test sample row 3 is elm, which no training sample has; name all"):
        read_npz(path)
    with pytest.raises(ValueError, match=r"^y is an integer \(\d\) in one place and text \('.*'\) in another"):
        read_npz(write(tmp_path, y_train=labels["y_train"]))


def test_true_labels_of_the_training_set(tmp_path: Path) -> None:
    clean = table()["y_train"]
    noisy = with_value(clean, slice(0, 15), (clean[:15] + 1) % CLASSES)
    data = datamodule(write(tmp_path, y_train=noisy, y_train_clean=clean), val_fraction=0.2)
    assert data.labels.rate == pytest.approx(0.25)
    assert data.clean_targets is not None
    assert data.clean_targets.tolist() == clean[data.train_indices.numpy()].tolist()
    observed = data.labels.observed
    assert observed.tolist() == noisy.tolist()


def test_without_true_labels_nothing_is_claimed(tmp_path: Path) -> None:
    data = datamodule(write(tmp_path))
    assert data.clean_targets is None
    assert data.labels.rate is None


def test_noise_on_top(tmp_path: Path) -> None:
    data = datamodule(write(tmp_path), noise=LabelNoise("sym", rate=0.4, count="exact"))
    assert data.labels.rate == pytest.approx(0.4)


def test_class_names_and_map(tmp_path: Path) -> None:
    names = ["ash", "beech", "oak", "yew"]
    noise = LabelNoise("asym", rate=1.0)
    data = datamodule(write(tmp_path), class_names=names, asymmetric_map={"oak": "ash"}, noise=noise)
    assert data.arrays.class_names == tuple(names)
    expected = np.where(table()["y_train"] == 2, 0, table()["y_train"])
    assert data.labels.observed.tolist() == expected.tolist()


def test_map_that_names_no_class(tmp_path: Path) -> None:
    noise = LabelNoise("asym", rate=0.5)
    with pytest.raises(ValueError, match="names class 'elm'"):
        datamodule(write(tmp_path), asymmetric_map={"1": "elm"}, noise=noise)


IMAGES = np.random.default_rng(1).integers(0, 256, (ROWS, 3, 6, 8), dtype=np.uint8)


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_channels_first_and_last_are_the_same(tmp_path: Path, dtype: str) -> None:
    images = IMAGES.astype(dtype)
    first = read_npz(write(tmp_path, x_train=images, x_test=images[:TEST]))
    last = read_npz(write(tmp_path, x_train=images.transpose(0, 2, 3, 1), x_test=images[:TEST].transpose(0, 2, 3, 1)))
    assert first.x_train.shape == (ROWS, 3, 6, 8)
    assert torch.equal(first.x_train, torch.from_numpy(images))
    for name in ("x_train", "x_test", "mean", "std"):
        assert torch.equal(getattr(first, name), getattr(last, name))


@pytest.mark.parametrize("shape", [(6, 8), (6, 8, 1), (1, 6, 8)])
def test_grey_images(tmp_path: Path, shape: tuple[int, ...]) -> None:
    grey = IMAGES[:, 0]
    arrays = read_npz(write(tmp_path, x_train=grey.reshape(ROWS, *shape), x_test=grey[:TEST].reshape(TEST, *shape)))
    assert torch.equal(arrays.x_train, torch.from_numpy(grey)[:, None])
    assert arrays.mean.numel() == 1


def test_images_stay_bytes(tmp_path: Path) -> None:
    assert read_npz(write(tmp_path, x_train=IMAGES, x_test=IMAGES[:TEST])).x_train.dtype == torch.uint8


def test_hash_of_the_data(tmp_path: Path) -> None:
    digest = read_npz(write(tmp_path)).digest()
    assert digest == read_npz(write(tmp_path)).digest()
    assert len(digest) == 64
    for name in ("x_train", "y_train", "x_test", "y_test"):
        array = table()[name]
        changed = with_value(array, 0, array[1])
        assert read_npz(write(tmp_path, **{name: changed})).digest() != digest, name


# --- standardization --------------------------------------------------------------------------------------------------


def test_training_features_get_mean_0_and_deviation_1(tmp_path: Path) -> None:
    data = datamodule(write(tmp_path), val_fraction=0.0)
    (x,) = [prepared(data, batch).x for batch in data.train_dataloader()]
    torch.testing.assert_close(x.mean(0), torch.zeros(5), atol=1e-5, rtol=0)
    torch.testing.assert_close(x.std(0, unbiased=False), torch.ones(5))


def prepared(data: NpzData, batch: Any) -> Batch:
    return data.on_after_batch_transfer(batch, 0)


def test_test_features_are_measured_with_the_training_sets_rule(tmp_path: Path) -> None:
    x_train, x_test = table()["x_train"], table()["x_test"]
    data = datamodule(write(tmp_path))
    (batch,) = data.val_dataloader()["test"]
    x, y = data.on_after_batch_transfer(batch, 0)
    np.testing.assert_allclose(x.numpy(), (x_test - x_train.mean(0)) / x_train.std(0), rtol=1e-4, atol=1e-5)
    assert y.tolist() == table()["y_test"].tolist()
    shifted = datamodule(write(tmp_path, x_test=x_test * 100 + 7))
    assert torch.equal(shifted.arrays.mean, data.arrays.mean)
    assert torch.equal(shifted.arrays.std, data.arrays.std)


def test_images_are_standardized_by_channel(tmp_path: Path) -> None:
    images = IMAGES.astype(np.float64) * np.array([1.0, 5.0, 20.0]).reshape(3, 1, 1)
    arrays = read_npz(write(tmp_path, x_train=images, x_test=images[:TEST]))
    assert arrays.mean.shape == arrays.std.shape == (3, 1, 1)
    np.testing.assert_allclose(arrays.mean.flatten(), images.mean((0, 2, 3)), rtol=1e-6)
    np.testing.assert_allclose(arrays.std.flatten(), images.std((0, 2, 3)), rtol=1e-6)


@pytest.mark.parametrize("value", [0.0, 0.1, -1234.5])
def test_constant_feature(tmp_path: Path, value: float) -> None:
    x_train, x_test = (with_value(table()[name], (slice(None), 2), value) for name in ("x_train", "x_test"))
    x_test[3, 2] = value + 1  # only the test set shows that it can vary
    data = datamodule(write(tmp_path, x_train=x_train, x_test=x_test))
    (batch,) = data.val_dataloader()["test"]
    x, _ = data.on_after_batch_transfer(batch, 0)
    assert torch.isfinite(x).all()
    expected = torch.zeros(TEST)
    expected[3] = 1.0
    torch.testing.assert_close(x[:, 2], expected, atol=1e-3, rtol=0)


# --- missing files and arrays -----------------------------------------------------------------------------------------


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"^path: .*absent\.npz; Digits \(data=digits\) needs no files"):
        datamodule(tmp_path / "absent.npz")


def test_relative_path_is_shown_in_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match=re.escape(str(tmp_path / "absent.npz"))):
        datamodule(Path("absent.npz"))


@pytest.mark.parametrize("name", ["x_train", "y_train", "x_test", "y_test"])
def test_missing_array(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match=rf"mine\.npz has no array {name}; it has [xy]_"):
        read_npz(write(tmp_path, **{name: None}))


# --- wrong features ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["x_train", "x_test"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_features_that_are_not_finite(tmp_path: Path, name: str, value: float) -> None:
    with pytest.raises(ValueError, match=rf"{name}\[13\] holds {value}"):
        read_npz(write(tmp_path, **{name: with_value(table()[name], (13, 4), value)}))


def test_images_that_are_not_finite(tmp_path: Path) -> None:
    images = with_value(IMAGES.astype(np.float32), (7, 2, 5, 7), math.nan)
    with pytest.raises(ValueError, match=r"x_train\[7\] holds nan"):
        read_npz(write(tmp_path, x_train=images, x_test=images[:TEST]))


def test_features_that_are_not_finite_in_float32(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"x_train\[13\].*1e\+300"):
        read_npz(write(tmp_path, x_train=with_value(table()["x_train"], (13, 4), 1e300)))


@pytest.mark.parametrize("shape", [(), (ROWS,), (ROWS, 1, 1, 1, 1)])
def test_features_of_another_rank(tmp_path: Path, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"(?s)x_train has shape \(.*\(n, d\)"):
        read_npz(write(tmp_path, x_train=np.zeros(shape)))


@pytest.mark.parametrize("x", [np.full((ROWS, 2), "a"), np.zeros((ROWS, 2), dtype=complex)], ids=["text", "complex"])
def test_features_that_are_no_numbers(tmp_path: Path, x: Array) -> None:
    with pytest.raises(ValueError, match=r"x_train has .*type (<U1|complex128).*must be numeric"):
        read_npz(write(tmp_path, x_train=x))


def test_no_features(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"x_train"):
        read_npz(write(tmp_path, x_train=np.zeros((ROWS, 0)), x_test=np.zeros((TEST, 0))))


def test_test_set_of_another_shape(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"x_test has samples of shape \(4,\), x_train of \(5,\)"):
        read_npz(write(tmp_path, x_test=np.zeros((TEST, 4))))


@pytest.mark.parametrize("dtype", ["float32", "uint8"])
@pytest.mark.parametrize("part", ["train", "test"])
def test_no_samples(tmp_path: Path, part: str, dtype: str) -> None:
    empty = {f"x_{part}": np.zeros((0, 5), dtype), f"y_{part}": np.zeros(0, int)}
    with pytest.raises(ValueError, match=rf"x_{part} has no samples"):
        read_npz(write(tmp_path, **empty))


# --- wrong labels -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["y_train", "y_test", "y_train_clean"])
def test_labels_that_are_real_numbers(tmp_path: Path, name: str) -> None:
    labels = with_value(table()["y_test" if name == "y_test" else "y_train"].astype(float), 7, 0.5)
    with pytest.raises(ValueError, match=rf"^{name} of row 7 \(0\.5\) is no class; .*data=npz_regression"):
        read_npz(write(tmp_path, **{name: labels}))


@pytest.mark.parametrize("name", ["y_train", "y_test", "y_train_clean"])
def test_negative_label(tmp_path: Path, name: str) -> None:
    labels = table()["y_test" if name == "y_test" else "y_train"]
    with pytest.raises(ValueError, match=rf"{name}\[11\] is -1; labels must not be negative"):
        read_npz(write(tmp_path, **{name: with_value(labels, 11, -1)}))


@pytest.mark.parametrize("name", ["y_test", "y_train_clean"])
def test_label_that_training_does_not_know(tmp_path: Path, name: str) -> None:
    labels = table()["y_test" if name == "y_test" else "y_train"]
    with pytest.raises(ValueError, match=rf"{name}\[11\] is 4; labels must lie in 0\.\.3"):
        read_npz(write(tmp_path, **{name: with_value(labels, 11, 4)}))


@pytest.mark.parametrize("dtype", ["uint8", "int64"])
def test_label_beyond_the_class_names(tmp_path: Path, dtype: str) -> None:
    labels = with_value(table()["y_train"].astype(dtype), 11, 200)
    with pytest.raises(ValueError, match=r"y_train\[11\] is 200; labels must lie in 0\.\.3"):
        datamodule(write(tmp_path, y_train=labels), class_names=["a", "b", "c", "d"])


@pytest.mark.parametrize("shape", [(ROWS - 1,), (), (ROWS + 1,), (1, ROWS)])
@pytest.mark.parametrize("name", ["y_train", "y_train_clean"])
def test_labels_of_another_shape(tmp_path: Path, name: str, shape: tuple[int, ...]) -> None:
    with pytest.raises(
        ValueError, match=rf"{name} has shape \(.*one label for each of the {ROWS} samples: \({ROWS},\)"
    ):
        read_npz(write(tmp_path, **{name: np.zeros(shape, int)}))


@pytest.mark.parametrize("name", ["y_train", "y_test"])
def test_rows_that_are_not_one_hot(tmp_path: Path, name: str) -> None:
    labels = np.eye(CLASSES, dtype=int)[table()[name]]
    labels[5] = 1
    with pytest.raises(ValueError, match=rf"^{name} of row 5 is \[1, 1, 1, 1\], which is not one-hot"):
        read_npz(write(tmp_path, **{name: labels}))


def test_all_labels_negative(tmp_path: Path) -> None:
    # "labels must lie in 0..-1" tells nobody anything.
    with pytest.raises(ValueError, match=r"y_train\[0\] is -1; labels must (?!lie in 0\.\.-)"):
        read_npz(write(tmp_path, y_train=np.full(ROWS, -1)))


def test_empty_class(tmp_path: Path) -> None:
    labels = table()["y_train"]
    with pytest.raises(ValueError, match=r"y_train has no sample of class 2"):
        read_npz(write(tmp_path, y_train=np.where(labels == 2, 0, labels)))


def test_class_names_without_samples(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"y_train has no sample of class 4"):
        datamodule(write(tmp_path), class_names=list("abcde"))


def test_a_named_class_may_be_in_the_test_set_only(tmp_path: Path) -> None:
    labels = table()["y_train"]
    path = write(tmp_path, y_train=np.where(labels == 2, 0, labels))
    assert datamodule(path, class_names=list("abcd")).arrays.num_outputs == 4
    with pytest.raises(ValueError, match="or name all in class_names, if only the test set has this one"):
        datamodule(path)


def test_labels_that_start_at_1(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"y_train has no sample of class 0.*without gaps"):
        read_npz(write(tmp_path, y_train=table()["y_train"] + 1))
    from_1 = {name: table()[name] + 1 for name in ("y_train", "y_test")}
    with pytest.raises(ValueError, match=r"^y_train numbers its classes from 1, .*; save y_train - 1, y_test - 1, or"):
        read_npz(write(tmp_path, **from_1))
    with pytest.raises(ValueError, match=r"^y_train numbers its classes from 1"):
        datamodule(write(tmp_path, **from_1), class_names=list("abcd"))


def test_fewer_samples_than_classes(tmp_path: Path) -> None:
    few = {"x_train": np.zeros((3, 5)), "y_train": np.array([0, 1, 5])}
    with pytest.raises(ValueError, match=r"y_train has 3 samples, fewer than the 6 classes"):
        read_npz(write(tmp_path, **few))


def test_one_class(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"y_train has 1 class; .*at least 2"):
        read_npz(write(tmp_path, y_train=np.zeros(ROWS, int)))


# --- regression -------------------------------------------------------------------------------------------------------


def own(path: Path, **changed: Any) -> NpzRegression:
    rng = np.random.default_rng(0)
    arrays = {"x_train": rng.normal(size=(30, 4)), "x_test": rng.normal(size=(10, 4))}
    arrays |= {"y_train": 1000 + 5 * rng.normal(size=(30, 2)), "y_test": 1000 + 5 * rng.normal(size=(10, 2))}
    np.savez(path, **{name: value for name, value in (arrays | changed).items() if value is not None})
    return NpzRegression(str(path))


def test_own_numbers_are_standardized_as_they_are_observed(tmp_path: Path) -> None:
    clean = np.random.default_rng(1).normal(size=(30, 2))
    observed = np.where(np.arange(30)[:, None] < 6, clean + 100, clean)
    arrays = own(tmp_path / "own.npz", y_train=observed, y_train_clean=clean, y_test=clean[:10]).load()
    mean, std = observed.mean(0), observed.std(0)
    torch.testing.assert_close(arrays.y_train, torch.from_numpy((observed - mean) / std).float())
    torch.testing.assert_close(arrays.y_train_clean, torch.from_numpy((clean - mean) / std).float())
    torch.testing.assert_close(arrays.y_test, torch.from_numpy((clean[:10] - mean) / std).float())
    datamodule = own(tmp_path / "own.npz", y_train=observed, y_train_clean=clean, y_test=clean[:10])
    datamodule.setup()
    assert datamodule.labels.rate == 0.2
    single = own(tmp_path / "own.npz", y_train=observed[:, 0], y_test=clean[:10, 0]).load()
    assert single.y_train.shape == (30, 1)
    assert single.y_train_clean is None


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"y_test": None}, r"^path: .* has no array y_test"),
        ({"y_train": np.zeros((29, 2))}, r"y_train has shape \(29, 2\) .* each of the 30 samples"),
        ({"y_test": np.zeros((10, 3))}, r"y_test has 3 numbers a sample, y_train 2"),
        ({"y_train": np.full((30, 2), np.nan)}, r"y_train\[0\] is \[nan nan\], not a finite float32"),
        ({"y_train": np.array(["a"] * 30)}, r"y_train has shape \(30,\) and type <U1"),
    ],
)
def test_own_numbers_that_are_wrong(tmp_path: Path, changed: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        own(tmp_path / "own.npz", **changed).load()


def test_names_of_own_numbers(tmp_path: Path) -> None:
    datamodule = own(tmp_path / "own.npz")
    datamodule.target_names = ["weight"]
    with pytest.raises(ValueError, match=r"^target_names names 1 targets, but y_train has 2"):
        datamodule.load()
