"""CelebA's landmarks, from lists in the official layout and a features file."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from noisylabels_pl.data import LabelNoise, NoisyDataModule
from noisylabels_pl.data.datasets.celeba_landmarks import CelebALandmarks
from noisylabels_pl.data.datasets.celeba_lists import COORDINATES
from tests.data.datasets.celeba_files import (
    FEATURES,
    HEADER,
    LISTS,
    TEST,
    WRONG_LISTS,
    faces,
    write_features,
    write_lists,
)
from tests.helpers import CONF


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "celeba").mkdir()
    write_lists(tmp_path, faces())
    write_features(tmp_path / "celeba" / FEATURES)
    return tmp_path


def ready(root: Path, **options: Any) -> NoisyDataModule:
    datamodule = CelebALandmarks(str(root), **options)
    datamodule.setup()
    return datamodule


# --- reading ----------------------------------------------------------------------------------------------------------


def test_arrays(root: Path) -> None:
    arrays = ready(root).arrays
    assert arrays.is_regression
    assert arrays.x_train.shape == (20, 512)
    assert arrays.x_test.shape == (6, 512)
    assert arrays.x_train.dtype == arrays.y_train.dtype == torch.float32
    assert arrays.class_names == tuple(HEADER.split()) == COORDINATES
    assert arrays.y_train_clean is arrays.y_train
    assert arrays.origin == f"CelebA {root / 'celeba' / FEATURES}"
    np.testing.assert_allclose(arrays.y_train.mean(0).numpy(), 0, atol=1e-6)
    np.testing.assert_allclose(arrays.y_train.std(0, correction=0).numpy(), 1, atol=1e-5)
    x = (arrays.x_train - arrays.mean) / arrays.std
    np.testing.assert_allclose(x.mean(0).numpy(), 0, atol=1e-4)
    spread = x.std(0, correction=0)
    assert torch.all((spread - 1).abs().lt(1e-3) | spread.eq(0))


def test_each_row_holds_the_features_and_landmarks_of_one_test_image(root: Path) -> None:
    arrays = ready(root).arrays
    features = np.load(root / "celeba" / FEATURES)["features"]
    x = torch.cat([arrays.x_train, arrays.x_test]).numpy()
    order = [int(np.flatnonzero((features == row).all(1))[0]) for row in x]
    assert sorted(order) == list(range(26))
    pixels = faces()[TEST][order].astype(np.float64)
    mean, std = pixels[:20].mean(0), pixels[:20].std(0)
    y = torch.cat([arrays.y_train, arrays.y_test]).numpy()
    np.testing.assert_allclose(y, (pixels - mean) / std, atol=1e-5)


def test_the_split_is_always_the_same(root: Path) -> None:
    one, other = ready(root, seed=0), ready(root, seed=7, batch_size=7)
    assert one.arrays.digest() == other.arrays.digest()


def test_columns_in_another_order(root: Path) -> None:
    usual = ready(root).arrays
    path = root / "celeba" / LISTS[0]
    path.write_text(path.read_text().replace(HEADER, " ".join(reversed(HEADER.split()))))
    swapped = ready(root).arrays
    assert swapped.class_names == tuple(reversed(usual.class_names))
    assert torch.equal(swapped.y_train, usual.y_train)


def test_pairflip_swaps_eyes_and_mouth(root: Path) -> None:
    data = ready(root, noise=LabelNoise("pairflip", rate=1.0))
    clean, observed = data.arrays.y_train, data.labels.observed
    assert torch.equal(observed, clean[:, [6, 7, 8, 9, 4, 5, 0, 1, 2, 3]])


def test_batches_of_the_loaders(root: Path) -> None:
    data = ready(root, noise=LabelNoise("linadv", rate=0.4), val_fraction=0.0, batch_size=8)
    assert list(data.val_dataloader()) == ["test"]
    assert [len(batch.y) for batch in data.train_dataloader()] == [8, 8, 4]


# --- the features file ------------------------------------------------------------------------------------------------


def test_another_features_file(root: Path) -> None:
    usual = ready(root).arrays
    other = root / "other.npz"
    os.rename(root / "celeba" / FEATURES, other)
    arrays = ready(root, features=str(other)).arrays
    assert arrays.digest() == usual.digest()
    assert arrays.origin == f"CelebA {other}"


def test_missing_features_file_names_the_command_that_makes_it(root: Path) -> None:
    path = root / "celeba" / FEATURES
    path.unlink()
    with pytest.raises(FileNotFoundError) as caught:
        ready(root)
    message = str(caught.value)
    assert message.startswith(f"CelebALandmarks: there is no features file {path};")
    assert message.endswith(f"python experiments/prl/celeba/make_features.py {root}")
    with pytest.raises(FileNotFoundError, match=rf"make_features\.py {root} --output {root}/other\.npz$"):
        ready(root, features=str(root / "other.npz"))


def rewrite(path: Path, **changes: Any) -> None:
    with np.load(path) as stored:
        arrays = {name: value for name, value in (dict(stored) | changes).items() if value is not None}
    np.savez(path, **arrays)


SPOILED: dict[str, tuple[Callable[[Path], Any], str]] = {
    "cut off": (lambda path: path.write_bytes(path.read_bytes()[:1000]), "not a readable npz"),
    "something else": (lambda path: path.write_text("nothing"), "not a readable npz"),
    "empty": (lambda path: path.write_bytes(b""), "not a readable npz"),
    "no features": (lambda path: rewrite(path, features=None), r"float32 features \(26, 512\)"),
    "fewer rows": (lambda path: rewrite(path, features=np.zeros((25, 512), np.float32)), r"features \(26, 512\)"),
    "float64": (lambda path: rewrite(path, features=np.zeros((26, 512))), "float32 features"),
    "NaN": (lambda path: rewrite(path, features=np.full((26, 512), np.nan, np.float32)), "finite"),
    "other landmarks": (lambda path: rewrite(path, landmarks=np.zeros((26, 10), np.float32)), "other images"),
    "no landmarks": (lambda path: rewrite(path, landmarks=None), "other images"),
}


@pytest.mark.parametrize("how", SPOILED)
def test_spoiled_features_file(root: Path, how: str) -> None:
    ready(root)
    spoil, message = SPOILED[how]
    spoil(root / "celeba" / FEATURES)
    with pytest.raises(ValueError, match=rf"^features: .*{FEATURES}.*{message}.*delete it.*make_features\.py {root}$"):
        ready(root)


def test_features_of_other_lists_are_refused(root: Path) -> None:
    changed = faces()
    changed[TEST[3], 5] += 1
    write_lists(root, changed)
    with pytest.raises(ValueError, match=rf"^features: .*{FEATURES} belongs to other images than {LISTS[0]} lists"):
        ready(root)
    write_lists(root, faces())
    path = root / "celeba" / LISTS[1]
    path.write_text(path.read_text().replace("000001.jpg 0", "000001.jpg 2"))
    with pytest.raises(ValueError, match=rf"^features: .*{FEATURES} must hold finite float32 features \(27, 512\)"):
        ready(root)


# --- lists that are missing or wrong ----------------------------------------------------------------------------------


def test_no_folder_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match=rf"no celeba/{LISTS[0]}\nunder root=here"):
        ready(Path("here"))
    assert not (tmp_path / "here").exists()


@pytest.mark.parametrize("how", WRONG_LISTS)
def test_wrong_list(root: Path, how: str) -> None:
    spoil, message = WRONG_LISTS[how]
    spoil(root)
    with pytest.raises(ValueError, match=rf"^root: .*{message}"):
        ready(root)


def test_config_names_every_option() -> None:
    data = yaml.safe_load((CONF / "data" / "celeba_landmarks.yaml").read_text())["data"]
    own = inspect.signature(CelebALandmarks).parameters
    options = {*own, *inspect.signature(NoisyDataModule).parameters}
    for_images = {"noise", "common", "crop_padding", "flip", "crop_size"}
    assert set(data) - {"_target_"} == options - for_images
    for name in own.keys() - for_images:
        assert data[name] == own[name].default
