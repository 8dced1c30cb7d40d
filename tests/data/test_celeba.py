"""CelebA's landmarks, from small images in the layout of those who publish them."""

from __future__ import annotations

import inspect
import logging
import os
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pytest
import torch
import yaml
from numpy.typing import NDArray
from PIL import Image

from noisylabels_pl.data import LabelNoise, NoisyDataModule
from noisylabels_pl.data.datasets.celeba_landmarks import CelebALandmarks
from noisylabels_pl.data.datasets.celeba_lists import COORDINATES

HEADER = "lefteye_x lefteye_y righteye_x righteye_y nose_x nose_y leftmouth_x leftmouth_y rightmouth_x rightmouth_y"
SPLIT = [0] * 24 + [1] * 10 + [2] * 26
TEST = [row for row, split in enumerate(SPLIT) if split == 2]
LISTS = ("list_landmarks_align_celeba.txt", "list_eval_partition.txt")
TINY: dict[str, Any] = {"image_size": 16, "feature_epochs": 2}


def faces() -> NDArray[np.int64]:
    """Landmarks of 60 faces of 36x44 pixels, each moved as a whole and a bit at every coordinate."""
    rng = np.random.default_rng(0)
    usual = np.array([10, 14, 24, 14, 17, 23, 12, 31, 23, 31])
    moved = np.tile(rng.integers(-6, 7, (60, 2)), 5)
    return usual + moved + rng.integers(-1, 2, (60, 10))


def names() -> list[str]:
    return [f"{number:06d}.jpg" for number in range(1, 61)]


def draw(path: Path, landmarks: NDArray[np.int64]) -> None:
    pixels = np.zeros((44, 36, 3), dtype=np.uint8)
    for x, y in landmarks.reshape(5, 2):
        pixels[y - 2 : y + 3, x - 2 : x + 3] = 255
    Image.fromarray(pixels).save(path, quality=95)


def write_lists(root: Path, landmarks: NDArray[np.int64]) -> None:
    rows = [f"{name} " + "  ".join(map(str, row)) for name, row in zip(names(), landmarks, strict=True)]
    (root / "celeba" / LISTS[0]).write_text("\n".join(["60", HEADER + " ", *rows]) + "\n")
    splits = [f"{name} {split}" for name, split in zip(names(), SPLIT, strict=True)]
    (root / "celeba" / LISTS[1]).write_text("\n".join(splits) + "\n")


def write(root: Path) -> Path:
    (root / "celeba" / "img_align_celeba").mkdir(parents=True)
    for name, row in zip(names(), faces(), strict=True):
        draw(root / "celeba" / "img_align_celeba" / name, row)
    write_lists(root, faces())
    return root


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write(tmp_path)


@pytest.fixture
def fits(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The loaders of every training from here on."""
    calls: list[Any] = []
    fit = L.Trainer.fit

    def recorded(trainer: L.Trainer, net: L.LightningModule, *loaders: Any) -> None:
        calls.append(loaders)
        fit(trainer, net, *loaders)

    monkeypatch.setattr(L.Trainer, "fit", recorded)
    return calls


def ready(root: Path, **options: Any) -> NoisyDataModule:
    datamodule = CelebALandmarks(str(root), **(TINY | options))
    datamodule.setup()
    return datamodule


def caches(root: Path) -> list[Path]:
    return sorted((root / "celeba").glob("landmark_features_*.npz"))


def features(root: Path, **options: Any) -> NDArray[np.float32]:
    """Of the 26 test images, made anew."""
    for cache in caches(root):
        cache.unlink()
    ready(root, **options)
    (cache,) = caches(root)
    return np.load(cache)["features"]


# --- reading ----------------------------------------------------------------------------------------------------------


def test_arrays(root: Path) -> None:
    arrays = ready(root).arrays
    assert arrays.is_regression
    assert arrays.x_train.shape == (20, 512)
    assert arrays.x_test.shape == (6, 512)
    assert arrays.x_train.dtype == arrays.y_train.dtype == torch.float32
    assert arrays.class_names == tuple(HEADER.split()) == COORDINATES
    assert arrays.y_train_clean is arrays.y_train
    assert arrays.origin == f"CelebA {caches(root)[0]}"
    np.testing.assert_allclose(arrays.y_train.mean(0).numpy(), 0, atol=1e-6)
    np.testing.assert_allclose(arrays.y_train.std(0, correction=0).numpy(), 1, atol=1e-5)
    x = (arrays.x_train - arrays.mean) / arrays.std
    np.testing.assert_allclose(x.mean(0).numpy(), 0, atol=1e-4)
    spread = x.std(0, correction=0)
    assert torch.all((spread - 1).abs().lt(1e-3) | spread.eq(0))


def test_each_row_holds_the_features_and_landmarks_of_one_test_image(root: Path) -> None:
    arrays = ready(root).arrays
    made = np.load(caches(root)[0])["features"]
    x = torch.cat([arrays.x_train, arrays.x_test]).numpy()
    order = [int(np.flatnonzero((made == row).all(1))[0]) for row in x]
    assert sorted(order) == list(range(26))
    pixels = faces()[TEST][order].astype(np.float64)
    mean, std = pixels[:20].mean(0), pixels[:20].std(0)
    y = torch.cat([arrays.y_train, arrays.y_test]).numpy()
    np.testing.assert_allclose(y, (pixels - mean) / std, atol=1e-5)


def test_the_split_is_always_the_same(root: Path) -> None:
    one, other = ready(root, seed=0), ready(root, seed=7)
    assert one.arrays.digest() == other.arrays.digest()


def test_features_tell_where_the_landmarks_are(root: Path) -> None:
    # Ridge regression, each face predicted from the others.
    made = features(root, feature_epochs=50, patience=50)
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


# --- the network ------------------------------------------------------------------------------------------------------


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
    with caplog.at_level(logging.INFO, "noisylabels_pl"):
        stopped = features(root, feature_epochs=50, patience=3)
    losses = [float(loss) for loss in re.findall(r"validation loss ([\d.]+)", caplog.text)]
    best = int(np.argmin(losses))
    assert best + 1 + 3 == len(losses) < 50
    np.testing.assert_array_equal(stopped, features(root, feature_epochs=best + 1))


def test_weights_follow_from_their_own_seed(root: Path) -> None:
    torch.manual_seed(1)
    usual = features(root)
    torch.manual_seed(2)
    np.testing.assert_array_equal(features(root, seed=5, num_workers=1), usual)
    assert not np.array_equal(features(root, feature_seed=1), usual)


def test_global_random_state_is_left_alone(root: Path) -> None:
    def state() -> list[Any]:
        flags = torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark
        return [flags, torch.get_rng_state().tolist(), np.random.get_state()[1].tolist(), random.getstate()]  # noqa: NPY002

    before = state()
    features(root)
    assert state() == before
    assert not torch.are_deterministic_algorithms_enabled()


def test_it_says_that_it_takes_long_before_it_starts(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "noisylabels_pl"):
        ready(root)
    first, *_, last = [record.message for record in caplog.records]
    assert "takes long" in first
    assert "60 images" in first
    assert str(caches(root)[0]) in last


# --- the cache --------------------------------------------------------------------------------------------------------


def test_trained_once(root: Path, fits: list[Any]) -> None:
    first = ready(root).arrays
    for image in (root / "celeba" / "img_align_celeba").iterdir():
        image.unlink()
    second = ready(root, batch_size=7, seed=3).arrays
    assert len(fits) == 1
    assert first.digest() == second.digest()
    present = {path.name for path in (root / "celeba").iterdir()}
    assert present == {caches(root)[0].name, "img_align_celeba", *LISTS}


@pytest.mark.parametrize(
    "option",
    [{"image_size": 32}, {"feature_epochs": 1}, {"patience": 2}, {"feature_seed": 1}],
    ids=lambda o: next(iter(o)),
)
def test_other_options_make_other_features(root: Path, fits: list[Any], option: dict[str, int]) -> None:
    ready(root)
    ready(root, **option)
    assert len(fits) == len(caches(root)) == 2


@pytest.mark.parametrize("name", LISTS)
def test_other_lists_make_other_features(root: Path, fits: list[Any], name: str) -> None:
    ready(root)
    path = root / "celeba" / name
    path.write_text(path.read_text() + "\n")
    ready(root)
    assert len(fits) == 2


def test_interrupted_training_leaves_nothing(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*args: Any) -> None:
        raise RuntimeError("stop")

    monkeypatch.setattr(L.Trainer, "predict", interrupt)
    with pytest.raises(RuntimeError, match="stop"):
        ready(root)
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
    with pytest.raises(PermissionError, match=r"data\.root: .*celeba must be writable.*Read-only.*links"):
        ready(root)
    assert not fits


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
def test_spoiled_cache(root: Path, how: str) -> None:
    ready(root)
    spoil, message = SPOILED[how]
    spoil(caches(root)[0])
    with pytest.raises(ValueError, match=rf"^data\.root.*{caches(root)[0].name}.*{message}.*delete it"):
        ready(root)


# --- files that are not there, or wrong -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*LISTS, "img_align_celeba"])
def test_missing_files(root: Path, name: str) -> None:
    os.rename(root / "celeba" / name, root / "elsewhere")
    with pytest.raises(FileNotFoundError) as caught:
        ready(root)
    message = str(caught.value)
    assert message.startswith(f"CelebALandmarks: there is no celeba/{name}")
    assert f"data.root={root}" in message
    for wanted in (*LISTS, "img_align_celeba/000001.jpg"):
        assert wanted in message


def test_no_folder_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"data\.root=here"):
        ready(Path("here"))
    assert not (tmp_path / "here").exists()


def change(name: str, number: int, line: str | None) -> Callable[[Path], None]:
    """Replaces, or removes, a line of a list."""

    def apply(root: Path) -> None:
        path = root / "celeba" / name
        lines = path.read_text().splitlines()
        lines[number - 1 : number] = [] if line is None else [line]
        path.write_text("\n".join(lines) + "\n")

    return apply


ROW = "000003.jpg 1 2 3 4 5 6 7 8 9 10"
WRONG: dict[str, tuple[Callable[[Path], Any], str]] = {
    "count": (change(LISTS[0], 1, "61"), rf"{LISTS[0]}, line 1 announces '61' images, but 60 follow"),
    "no count": (change(LISTS[0], 1, "images"), rf"{LISTS[0]}, line 1 announces 'images'"),
    "no header": (change(LISTS[0], 2, None), rf"{LISTS[0]}, line 2 must name the coordinates lefteye_x"),
    "other header": (change(LISTS[0], 2, HEADER.replace("nose", "chin")), rf"{LISTS[0]}, line 2"),
    "empty list": (lambda root: (root / "celeba" / LISTS[0]).write_text(""), rf"{LISTS[0]}, line 2"),
    "bytes": (lambda root: (root / "celeba" / LISTS[0]).write_bytes(b"\xff\xd8\xff\n\xe0\n"), rf"{LISTS[0]}, line 2"),
    "too few numbers": (change(LISTS[0], 5, ROW[:-3]), rf"{LISTS[0]}, line 5: '{ROW[:-3]}' must be .* 10 numbers"),
    "a word": (change(LISTS[0], 5, ROW.replace("7", "x")), rf"{LISTS[0]}, line 5"),
    "nan": (change(LISTS[0], 5, ROW.replace("7", "nan")), rf"{LISTS[0]}, line 5"),
    "blank line": (change(LISTS[0], 5, ""), rf"{LISTS[0]}, line 5: '' must be"),
    "twice": (change(LISTS[0], 5, ROW.replace("3.jpg", "2.jpg")), rf"{LISTS[0]}, line 5.* not named before"),
    "no such split": (change(LISTS[1], 5, "000005.jpg 3"), rf"{LISTS[1]}, line 5: '000005.jpg 3' needs 0, 1 or 2"),
    "no split": (change(LISTS[1], 5, "000005.jpg"), rf"{LISTS[1]}, line 5.* 1 number;"),
    "unknown image": (change(LISTS[1], 5, "x.jpg 0"), rf"{LISTS[1]}, line 5: 'x.jpg 0' needs an image that is in"),
    "not assigned": (change(LISTS[1], 5, None), rf"{LISTS[0]}, line 7: 000005.jpg is not in .*{LISTS[1]}"),
    "no image": (
        lambda root: (root / "celeba" / "img_align_celeba" / "000005.jpg").unlink(),
        rf"{LISTS[0]}, line 7: there is no image 000005.jpg in .*img_align_celeba",
    ),
    "broken image": (
        lambda root: (root / "celeba" / "img_align_celeba" / "000005.jpg").write_text("<html>"),
        r"img_align_celeba/000005.jpg is not a readable image",
    ),
}


@pytest.mark.parametrize("how", WRONG)
def test_wrong_files(root: Path, how: str, fits: list[Any]) -> None:
    spoil, message = WRONG[how]
    spoil(root)
    with pytest.raises(ValueError, match=rf"data\.root: .*{message}"):
        ready(root)
    assert not fits
    assert not caches(root)


@pytest.mark.parametrize(("split", "kind"), list(enumerate(["training", "validation", "test"])))
def test_split_without_images(root: Path, split: int, kind: str) -> None:
    path = root / "celeba" / LISTS[1]
    path.write_text(re.sub(rf" {split}$", f" {(split + 1) % 3}", path.read_text(), flags=re.MULTILINE))
    with pytest.raises(
        ValueError, match=rf"data\.root: .*{LISTS[1]}: 0 of its 60 lines name {kind} images \({split}\)"
    ):
        ready(root)


@pytest.mark.parametrize(
    ("option", "value"),
    [("image_size", 0), ("image_size", 40), ("feature_epochs", 0), ("patience", 0), ("feature_seed", -1)],
)
def test_options(option: str, value: int) -> None:
    with pytest.raises(ValueError, match=rf"data\.{option} must .*, got {value}"):
        CelebALandmarks("data", **{option: value})


def test_config_names_every_option() -> None:
    path = Path(__file__).parents[2] / "conf" / "data" / "celeba_landmarks.yaml"
    data = yaml.safe_load(path.read_text())["data"]
    options = [*inspect.signature(CelebALandmarks).parameters, *inspect.signature(NoisyDataModule).parameters]
    for_images = {"noise", "common", "crop_padding", "flip"}
    assert set(data) - {"_target_"} == set(options) - for_images
    for name in inspect.signature(CelebALandmarks).parameters.keys() - for_images:
        assert data[name] == inspect.signature(CelebALandmarks).parameters[name].default
