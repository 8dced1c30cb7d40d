"""The command that makes the features of CelebA's faces, on small images in the official layout."""

from __future__ import annotations

import importlib
import logging
import os
import random
import re
import sys
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from noisylabels_pl.data import CelebALandmarks
from tests.data.datasets.celeba_files import (
    FEATURES,
    LISTS,
    TEST,
    WRONG_LISTS,
    draw,
    faces,
    names,
    write_images,
    write_lists,
)
from tests.helpers import ROOT

# A script of the repository, which is not installed with the package.
sys.path.insert(0, str(ROOT / "experiments" / "prl" / "celeba"))
script: Any = importlib.import_module("make_features")

TINY: dict[str, Any] = {"image_size": 16, "max_epochs": 2}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "celeba").mkdir()
    write_lists(tmp_path, faces())
    write_images(tmp_path)
    return tmp_path


@pytest.fixture
def fits(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Return a list that gets the loaders of every training from here on."""
    calls: list[Any] = []
    fit = L.Trainer.fit

    def recorded(trainer: L.Trainer, net: L.LightningModule, *loaders: Any) -> None:
        calls.append(loaders)
        fit(trainer, net, *loaders)

    monkeypatch.setattr(L.Trainer, "fit", recorded)
    return calls


def make(root: Path, output: Path | None = None, **options: Any) -> Path:
    return script.make_features(root, output, **(TINY | options))


def features(root: Path, **options: Any) -> NDArray[np.float32]:
    """Return the features of the 26 test images, made anew."""
    (root / "celeba" / FEATURES).unlink(missing_ok=True)
    return np.load(make(root, **options))["features"]


# --- the command ------------------------------------------------------------------------------------------------------


def test_the_dataset_reads_the_file(root: Path, fits: list[Any]) -> None:
    script.main([str(root), "--image-size", "16", "--max-epochs", "1"])
    for image in (root / "celeba" / "img_align_celeba").iterdir():
        image.unlink()
    for options in ({}, {"batch_size": 7, "seed": 3}):
        data = CelebALandmarks(str(root), **options)
        data.setup()
    assert len(fits) == 1
    assert {path.name for path in (root / "celeba").iterdir()} == {FEATURES, "img_align_celeba", *LISTS}
    stored = np.load(root / "celeba" / FEATURES)
    assert stored["features"].dtype == stored["landmarks"].dtype == np.float32
    assert stored["features"].shape == (26, 512)
    np.testing.assert_array_equal(stored["landmarks"], faces()[TEST])


def test_trained_once(root: Path, fits: list[Any]) -> None:
    path = make(root)
    content = path.read_bytes()
    with pytest.raises(FileExistsError, match=rf"^output: .*{FEATURES} is there already; delete it, or set --output"):
        make(root)
    with pytest.raises(SystemExit, match=rf"^error: output: .*{FEATURES} is there already"):
        script.main([str(root)])
    assert len(fits) == 1
    assert path.read_bytes() == content


@pytest.mark.parametrize(
    "option",
    [{"image_size": 32}, {"max_epochs": 1}, {"patience": 2}, {"seed": 1}],
    ids=lambda option: next(iter(option)),
)
def test_other_options_make_another_file(root: Path, fits: list[Any], option: dict[str, int]) -> None:
    usual = np.load(make(root))
    other = np.load(make(root, root / "other.npz", **option))
    assert len(fits) == 2
    ((name, value),) = option.items()
    assert int(other[name]) == value != int(usual[name])
    if name != "patience":  # which two epochs do not exhaust
        assert not np.array_equal(other["features"], usual["features"])


def test_interrupted_training_leaves_nothing(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*args: Any) -> None:
        raise RuntimeError("stop")

    monkeypatch.setattr(L.Trainer, "predict", interrupt)
    with pytest.raises(RuntimeError, match="stop"):
        make(root)
    assert {path.name for path in (root / "celeba").iterdir()} == {"img_align_celeba", *LISTS}


def test_folder_that_cannot_be_written_to_is_known_before_training(
    root: Path, fits: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = Path.open

    def refuse(path: Path, *args: Any, **options: Any) -> Any:
        if path.suffix == ".partial":
            raise OSError(30, "Read-only file system")
        return usual(path, *args, **options)

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(OSError, match=r"cannot write .*landmark_features.npz: Read-only"):
        make(root)
    assert not fits


def test_it_says_that_it_takes_long_before_it_starts(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "celeba"):
        path = make(root)
    first, *_, last = [record.message for record in caplog.records if record.name == "celeba"]
    assert "takes long" in first
    assert "60 images" in first
    assert str(path) in last


# --- the network ------------------------------------------------------------------------------------------------------


def test_features_tell_where_the_landmarks_are(root: Path) -> None:
    # Ridge regression, each face predicted from the others.
    made = features(root, max_epochs=50, patience=50)
    x = np.c_[made, np.ones(26)].astype(np.float64)
    y = faces()[TEST].astype(np.float64)
    without = ~np.eye(26, dtype=bool)
    predicted = np.stack(
        [
            x[i] @ np.linalg.solve(x[rest].T @ x[rest] + 0.1 * np.eye(513), x[rest].T @ y[rest])
            for i, rest in enumerate(without)
        ]
    )
    assert 1 - ((predicted - y) ** 2).sum() / ((y - y.mean(0)) ** 2).sum() > 0.5


def test_test_images_never_enter_its_training(root: Path, fits: list[Any]) -> None:
    usual = features(root)
    ((train, val),) = fits
    assert [len(loader.dataset) for loader in (train, val)] == [24, 10]
    assert train.dataset.tensors[0].shape == (24, 3, 16, 16)
    assert train.dataset.tensors[0].dtype == torch.uint8
    changed = faces()
    changed[TEST] = changed[TEST][::-1]
    write_lists(root, changed)
    draw(root / "celeba" / "img_align_celeba" / names()[TEST[0]], changed[TEST[3]])
    after = features(root)
    assert not np.array_equal(after[0], usual[0])
    np.testing.assert_array_equal(after[1:], usual[1:])


def test_it_learns_the_landmarks_standardized(root: Path, fits: list[Any]) -> None:
    features(root)
    ((train, val),) = fits
    pixels = faces().astype(np.float64)
    mean, std = pixels[:24].mean(0), pixels[:24].std(0)
    np.testing.assert_allclose(train.dataset.tensors[1].numpy(), (pixels[:24] - mean) / std, atol=1e-5)
    np.testing.assert_allclose(val.dataset.tensors[1].numpy(), (pixels[24:34] - mean) / std, atol=1e-5)


def test_validation_images_stop_it_and_choose_its_weights(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    # Validation faces are far from where the training faces are: at some point, learning these makes it worse.
    landmarks = faces()
    landmarks[24:34] = landmarks[24:34].mean(0) + np.random.default_rng(1).integers(-9, 10, (10, 10))
    write_lists(root, landmarks)
    with caplog.at_level(logging.INFO, "celeba"):
        stopped = features(root, max_epochs=50, patience=3)
    losses = [float(loss) for loss in re.findall(r"validation loss ([\d.]+)", caplog.text)]
    best = int(np.argmin(losses))
    assert best + 1 + 3 == len(losses) < 50
    np.testing.assert_array_equal(stopped, features(root, max_epochs=best + 1))


def test_weights_follow_from_their_own_seed(root: Path) -> None:
    torch.manual_seed(1)
    usual = features(root)
    torch.manual_seed(2)
    np.testing.assert_array_equal(features(root, num_workers=1), usual)
    assert not np.array_equal(features(root, seed=1), usual)


def test_global_random_state_is_left_alone(root: Path) -> None:
    def state() -> list[Any]:
        flags = torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark
        return [flags, torch.get_rng_state().tolist(), np.random.get_state()[1].tolist(), random.getstate()]  # noqa: NPY002

    before = state()
    features(root)
    assert state() == before
    assert not torch.are_deterministic_algorithms_enabled()


# --- files that are missing or wrong ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*LISTS, "img_align_celeba"])
def test_missing_files(root: Path, name: str) -> None:
    os.rename(root / "celeba" / name, root / "elsewhere")
    with pytest.raises(FileNotFoundError) as caught:
        make(root)
    message = str(caught.value)
    assert message.startswith(f"CelebALandmarks: there is no celeba/{name}")
    assert f"root={root}" in message
    for wanted in (*LISTS, "img_align_celeba/000001.jpg"):
        assert wanted in message


def images_of(root: Path) -> Path:
    return root / "celeba" / "img_align_celeba"


WRONG = WRONG_LISTS | {
    "no image": (
        lambda root: (images_of(root) / "000005.jpg").unlink(),
        rf"{LISTS[0]}, line 7: there is no image 000005.jpg in .*img_align_celeba",
    ),
    "broken image": (
        lambda root: (images_of(root) / "000005.jpg").write_text("<html>"),
        r"img_align_celeba/000005.jpg is not a readable image",
    ),
}


@pytest.mark.parametrize("how", WRONG)
def test_wrong_files_are_known_before_training(root: Path, how: str, fits: list[Any]) -> None:
    spoil, message = WRONG[how]
    spoil(root)
    with pytest.raises(ValueError, match=rf"^root: .*{message}"):
        make(root)
    assert not fits
    assert not (root / "celeba" / FEATURES).exists()


@pytest.mark.parametrize(
    ("option", "value"),
    [("image_size", 0), ("image_size", 40), ("max_epochs", 0), ("patience", 0), ("seed", -1)],
)
def test_options(root: Path, option: str, value: int) -> None:
    with pytest.raises(ValueError, match=rf"^{option} must .*, got {value}"):
        make(root, **{option: value})
