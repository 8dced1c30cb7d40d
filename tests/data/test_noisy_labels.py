"""Observed labels and targets: hashed, saved and read back."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from noisylabels_pl.data import FileNoise, LabelNoise, NoisyLabels
from noisylabels_pl.data.datasets.cifar10 import CLASS_NAMES
from tests.data.noise.noise_samples import (
    ANNOTATED,
    CLASSES,
    CLEAN,
    FEATURES,
    LABEL_OPTIONS,
    NAMES,
    ROWS,
    SPREAD,
    TARGET_KINDS,
    TARGETS,
    draw_labels,
    draw_targets,
    wrong_rows,
)

every_kind = pytest.mark.parametrize("kind", TARGET_KINDS)


# --- hash -------------------------------------------------------------------------------------------------------------


def test_hash_is_that_of_the_labels() -> None:
    labels = draw_labels("sym")
    raw = b"".join(value.to_bytes(8, "little", signed=True) for value in labels.observed.tolist())
    assert labels.sha256 == hashlib.sha256(raw).hexdigest()


def test_hash_notices_one_label() -> None:
    observed = CLEAN.clone()
    observed[17] = (observed[17] + 1) % 10
    assert NoisyLabels(observed, None, None, 10).sha256 != NoisyLabels(CLEAN, None, None, 10).sha256


@pytest.mark.parametrize("row", [0, 17, ROWS - 1])
@pytest.mark.parametrize("column", [0, 3])
def test_hash_notices_one_value(row: int, column: int) -> None:
    observed = TARGETS.clone()
    observed[row, column] = torch.nextafter(observed[row, column], torch.tensor(9.0))
    assert NoisyLabels(observed, TARGETS, None, None).sha256 != NoisyLabels(TARGETS, TARGETS, None, None).sha256


def test_hash_notices_one_feature() -> None:
    labels = draw_targets("signflip", features=1.0)
    assert labels.features is not None
    other = labels.features.clone()
    other[-1, -1] += 1
    hashes = {
        NoisyLabels(labels.observed, labels.clean, None, None, features).sha256
        for features in (labels.features, other, None)
    }
    assert len(hashes) == 3


# --- training features ------------------------------------------------------------------------------------------------


def test_training_features() -> None:
    labels = draw_targets("uninoise", features=1.0)
    wrong, x = wrong_rows(labels), FEATURES.clone()
    seen = labels.training_features(x)
    assert labels.features is not None
    assert torch.equal(x, FEATURES)
    assert torch.equal(seen[wrong], labels.features)
    assert torch.equal(seen[~wrong], FEATURES[~wrong])
    assert (seen[wrong] != FEATURES[wrong]).any(1).all()


def test_without_noise_training_sees_the_features() -> None:
    labels = draw_targets("signflip", features=0.0)
    assert labels.features is None
    assert torch.equal(labels.training_features(FEATURES), FEATURES)


# --- labels: save, load -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [*LABEL_OPTIONS, "none"])
def test_saved_labels_come_back(tmp_path: Path, kind: str) -> None:
    labels = draw_labels(kind)
    labels.save(tmp_path / "noise.npz")
    loaded = FileNoise(tmp_path / "noise.npz").apply(CLEAN, CLASS_NAMES)
    assert loaded.sha256 == labels.sha256
    assert torch.equal(loaded.observed, labels.observed)
    assert loaded.rate == labels.rate
    for one, other in ((loaded.T, labels.T), (loaded.realized_T, labels.realized_T), (loaded.clean, labels.clean)):
        assert (one is None) == (other is None)
        assert one is None or torch.equal(one, other)


def test_saved_labels_come_back_where_the_true_ones_are_known_apart(tmp_path: Path) -> None:
    labels = draw_labels("sym", ANNOTATED, CLEAN)
    labels.save(tmp_path / "noise.npz")
    loaded = FileNoise(tmp_path / "noise.npz").apply(ANNOTATED, CLASS_NAMES, clean=CLEAN)
    assert loaded.sha256 == labels.sha256
    assert loaded.rate == labels.rate


def test_file_of_labels_is_plain_numpy(tmp_path: Path) -> None:
    labels = draw_labels("sym")
    labels.save(tmp_path / "noise.npz")
    with np.load(tmp_path / "noise.npz", allow_pickle=False) as file:
        assert sorted(file) == ["T", "clean", "observed", "realized_T"]
        assert file["observed"].tolist() == labels.observed.tolist()
        np.testing.assert_allclose(file["realized_T"].sum(1), 1)


def load_labels(path: Path, reference: Tensor = CLEAN) -> NoisyLabels:
    return FileNoise(path).apply(reference, CLASS_NAMES)


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"^path: there is no file .*absent\.npz"):
        load_labels(tmp_path / "absent.npz")


def test_labels_of_a_dataset_of_another_size(tmp_path: Path) -> None:
    draw_labels("sym").save(tmp_path / "noise.npz")
    with pytest.raises(ValueError, match=r"^path: .*noise\.npz: observed has shape \(600,\).*\(599,\)"):
        load_labels(tmp_path / "noise.npz", CLEAN[1:])


def test_labels_of_another_dataset(tmp_path: Path) -> None:
    draw_labels("sym").save(tmp_path / "noise.npz")
    other = CLEAN.clone()
    other[41] = 7
    with pytest.raises(ValueError, match=r"made for another dataset: true label 41 is 1 there and 7 here"):
        load_labels(tmp_path / "noise.npz", other)


def test_npz_without_labels(tmp_path: Path) -> None:
    np.savez(tmp_path / "noise.npz", x=np.zeros(3))
    with pytest.raises(ValueError, match=r"^path.*noise\.npz.*label"):
        load_labels(tmp_path / "noise.npz")


def write_text(path: Path) -> None:
    path.write_text("observed\n0\n1\n")


def write_npy(path: Path) -> None:
    with path.open("wb") as file:
        np.save(file, CLEAN.numpy())


def write_half(path: Path) -> None:
    draw_labels("sym").save(path)
    path.write_bytes(path.read_bytes()[:300])


@pytest.mark.parametrize("write", [write_text, write_npy, write_half, Path.touch], ids=["text", "npy", "half", "empty"])
def test_not_an_npz_file(tmp_path: Path, write: Any) -> None:
    write(tmp_path / "noise.npz")
    with pytest.raises(ValueError, match=r"^path.*noise\.npz"):
        load_labels(tmp_path / "noise.npz")


@pytest.mark.parametrize("value", [10, -1, 0.5], ids=["too large", "negative", "float"])
def test_stored_labels_that_are_no_classes(tmp_path: Path, value: float) -> None:
    observed = CLEAN.numpy().astype(np.float64 if value == 0.5 else np.int64)
    observed[23] = value
    np.savez(tmp_path / "noise.npz", observed=observed)
    with pytest.raises(ValueError, match=r"^path|observed"):
        load_labels(tmp_path / "noise.npz")


# --- regression targets: save, load -----------------------------------------------------------------------------------


def load_targets(path: Path, reference: Tensor = TARGETS, **options: Any) -> NoisyLabels:
    return FileNoise(path).apply(reference, NAMES, **options)


@every_kind
@pytest.mark.parametrize("features", [0.0, 1.0])
def test_saved_targets_come_back(tmp_path: Path, kind: str, features: float) -> None:
    labels = draw_targets(kind, features=features)
    labels.save(tmp_path / "noise.npz")
    loaded = load_targets(tmp_path / "noise.npz", features=FEATURES, spread=SPREAD)
    assert loaded.sha256 == labels.sha256
    assert torch.equal(loaded.observed, labels.observed)
    assert torch.equal(wrong_rows(loaded), wrong_rows(labels))
    assert loaded.clean is not None
    assert torch.equal(loaded.clean, TARGETS)
    assert loaded.rate == labels.rate
    assert loaded.T is None
    assert (loaded.features is None) == (features == 0)
    assert torch.equal(loaded.training_features(FEATURES), labels.training_features(FEATURES))


def test_saved_features_of_classes_come_back(tmp_path: Path) -> None:
    x = torch.randint(0, 255, (ROWS, 3, 2, 2), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    noise = LabelNoise("sym", rate=0.4, features=1.0)
    labels = noise.apply(CLASSES, NAMES, features=x, spread=torch.full((3, 1, 1), 70.0))
    labels.save(tmp_path / "noise.npz")
    loaded = load_targets(tmp_path / "noise.npz", CLASSES, features=x)
    assert loaded.sha256 == labels.sha256
    assert loaded.training_features(x).dtype == torch.uint8
    assert torch.equal(loaded.training_features(x), labels.training_features(x))


def test_saved_targets_without_true_ones_come_back(tmp_path: Path) -> None:
    draw_targets("none", rate=0.0).save(tmp_path / "noise.npz")
    loaded = load_targets(tmp_path / "noise.npz")
    assert torch.equal(loaded.observed, TARGETS)
    assert loaded.rate is None


def test_file_of_targets_is_plain_numpy(tmp_path: Path) -> None:
    labels = draw_targets("signflip", features=1.0)
    labels.save(tmp_path / "noise.npz")
    with np.load(tmp_path / "noise.npz", allow_pickle=False) as file:
        assert sorted(file) == ["clean", "features", "observed"]
        assert file["observed"].dtype == np.float32
        assert np.array_equal(file["observed"], labels.observed.numpy())


def test_targets_of_another_dataset(tmp_path: Path) -> None:
    draw_targets("signflip").save(tmp_path / "noise.npz")
    other = TARGETS.clone()
    other[41, 2] = 7
    with pytest.raises(ValueError, match=r"^path: .*noise\.npz.*another dataset.*\b41\b"):
        load_targets(tmp_path / "noise.npz", other)


@pytest.mark.parametrize("rows", [ROWS - 1, 1])
def test_targets_of_a_dataset_of_another_size(tmp_path: Path, rows: int) -> None:
    draw_targets("signflip").save(tmp_path / "noise.npz")
    with pytest.raises(ValueError, match=rf"^path: .*noise\.npz.*\(600, 4\).*\b{rows} samples"):
        load_targets(tmp_path / "noise.npz", TARGETS[:rows])


@pytest.mark.parametrize("columns", [1, 3])
def test_targets_of_another_width(tmp_path: Path, columns: int) -> None:
    draw_targets("signflip").save(tmp_path / "noise.npz")
    with pytest.raises(ValueError, match=r"^path: .*noise\.npz"):
        load_targets(tmp_path / "noise.npz", TARGETS[:, :columns])


def test_classes_where_numbers_are_wanted(tmp_path: Path) -> None:
    LabelNoise("sym", rate=0.4).apply(CLASSES, NAMES).save(tmp_path / "noise.npz")
    with pytest.raises(ValueError, match=r"^path: .*noise\.npz"):
        load_targets(tmp_path / "noise.npz")


def test_classes_without_true_ones_where_numbers_are_wanted(tmp_path: Path) -> None:
    np.savez(tmp_path / "noise.npz", observed=CLASSES.numpy())
    with pytest.raises(ValueError, match=r"^path: .*noise\.npz"):
        load_targets(tmp_path / "noise.npz")


def test_another_width_without_true_ones(tmp_path: Path) -> None:
    np.savez(tmp_path / "noise.npz", observed=TARGETS[:, :2].numpy())
    with pytest.raises(ValueError, match=r"^path: .*noise\.npz"):
        load_targets(tmp_path / "noise.npz")


def test_numbers_where_classes_are_wanted(tmp_path: Path) -> None:
    draw_targets("signflip").save(tmp_path / "noise.npz")
    with pytest.raises(ValueError, match=r"^path: .*noise\.npz.*label"):
        load_targets(tmp_path / "noise.npz", CLASSES)


@pytest.mark.parametrize("name", ["observed", "clean"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_stored_targets_that_are_no_numbers(tmp_path: Path, name: str, value: float) -> None:
    arrays = {"observed": TARGETS.numpy().copy(), "clean": TARGETS.numpy().copy()}
    arrays[name][23, 1] = value
    np.savez(tmp_path / "noise.npz", **arrays)
    with pytest.raises(ValueError, match=rf"^path: .*noise\.npz: {name}\[23\]"):
        load_targets(tmp_path / "noise.npz")


def without_a_row(features: Tensor) -> Tensor:
    return features[1:]


def narrower(features: Tensor) -> Tensor:
    return features[:, 1:]


def with_nan(features: Tensor) -> Tensor:
    features = features.clone()
    features[3, 0] = torch.nan
    return features


@pytest.mark.parametrize("spoil", [without_a_row, narrower, with_nan])
def test_stored_features_that_do_not_fit(tmp_path: Path, spoil: Any) -> None:
    labels = draw_targets("signflip", features=1.0)
    assert labels.features is not None
    spoiled = NoisyLabels(labels.observed, labels.clean, None, None, spoil(labels.features))
    spoiled.save(tmp_path / "noise.npz")
    with pytest.raises(ValueError, match=r"^path: .*noise\.npz.*features"):
        load_targets(tmp_path / "noise.npz", features=FEATURES, spread=SPREAD)
