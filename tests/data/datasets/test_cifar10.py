"""CIFAR-10 from the published files, and from an npz."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch

from noisylabels_pl.data import CIFAR10, LabelNoise
from tests.data.datasets.vision_files import (
    CIFAR_X,
    CIFAR_Y,
    RNG,
    Array,
    ready,
    write_cifar_batches,
    write_cifar_npz,
)

# --- reading ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", ["npz", "npz, channels first", "batches"])
def test_cifar10_is_the_same_from_every_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str) -> None:
    if source == "batches":
        write_cifar_batches(tmp_path, monkeypatch)
    elif source == "npz":
        write_cifar_npz(tmp_path)
    else:
        first = CIFAR_X.transpose(0, 3, 1, 2)
        write_cifar_npz(tmp_path, x_train=first[:50], x_test=first[50:])
    arrays = ready(CIFAR10(str(tmp_path))).arrays
    images = torch.from_numpy(CIFAR_X).permute(0, 3, 1, 2)
    assert torch.equal(arrays.x_train, images[:50])
    assert torch.equal(arrays.x_test, images[50:])
    assert arrays.x_train.dtype == torch.uint8
    assert arrays.y_train.tolist() == CIFAR_Y[:50].tolist()
    assert arrays.y_test.tolist() == CIFAR_Y[50:].tolist()
    assert arrays.y_train.dtype == torch.int64
    expected = hashlib.sha256()
    labels = torch.from_numpy(CIFAR_Y[:50])  # also the true ones
    for part in (images[:50], labels, images[50:], torch.from_numpy(CIFAR_Y[50:]), labels):
        expected.update(f"{tuple(part.shape)} {part.dtype}".encode())
        expected.update(part.contiguous().numpy().tobytes())
    assert arrays.digest() == expected.hexdigest()


def test_origin_tells_the_sources_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_cifar_npz(tmp_path / "a")
    write_cifar_batches(tmp_path / "b", monkeypatch)
    assert ready(CIFAR10(str(tmp_path / "a"))).arrays.origin == f"npz {tmp_path / 'a' / 'cifar10.npz'}"
    assert ready(CIFAR10(str(tmp_path / "b"))).arrays.origin == f"torchvision {tmp_path / 'b' / 'cifar-10-batches-py'}"


def test_published_files_go_before_an_npz(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_cifar_batches(tmp_path, monkeypatch)
    write_cifar_npz(tmp_path, x_train=255 - CIFAR_X[:50])
    arrays = ready(CIFAR10(str(tmp_path))).arrays
    assert arrays.origin.startswith("torchvision ")
    assert torch.equal(arrays.x_train, torch.from_numpy(CIFAR_X[:50]).permute(0, 3, 1, 2))


def test_cifar10_is_normalized_with_its_own_moments(tmp_path: Path) -> None:
    data = ready(CIFAR10(str(write_cifar_npz(tmp_path))))
    (batch,) = data.val_dataloader()["test"]
    x, _ = data.on_after_batch_transfer(batch, 0)
    unit = CIFAR_X[50:].transpose(0, 3, 1, 2) / 255
    mean, std = (np.array(v).reshape(3, 1, 1) for v in ([0.4914, 0.4822, 0.4465], [0.2023, 0.1994, 0.2010]))
    np.testing.assert_allclose(x.numpy(), (unit - mean) / std, atol=1e-5)


def test_asymmetric_noise_confuses_what_patrini_says(tmp_path: Path) -> None:
    data = ready(CIFAR10(str(write_cifar_npz(tmp_path)), noise=LabelNoise("asym", rate=1.0)))
    names = data.arrays.class_names
    flips = {(names[i], names[j]) for i, j in zip(CIFAR_Y[:50], data.labels.observed.tolist(), strict=True) if i != j}
    expected = {("truck", "automobile"), ("bird", "airplane"), ("deer", "horse"), ("cat", "dog"), ("dog", "cat")}
    assert flips == expected


def test_npz_of_cifar10_with_true_labels_known_apart(tmp_path: Path) -> None:
    noisy = np.where(np.arange(50) < 20, (CIFAR_Y[:50] + 1) % 10, CIFAR_Y[:50])
    data = ready(CIFAR10(str(write_cifar_npz(tmp_path, y_train=noisy, y_train_clean=CIFAR_Y[:50]))))
    assert data.labels.observed.tolist() == noisy.tolist()
    assert data.labels.rate == pytest.approx(0.4)


# --- missing and damaged files ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["data_batch_4", "test_batch"])
def test_cifar10_without_one_of_its_files_says_which(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    write_cifar_batches(tmp_path, monkeypatch)
    (tmp_path / "cifar-10-batches-py" / name).unlink()
    with pytest.raises(FileNotFoundError, match=name):
        CIFAR10(str(tmp_path)).setup()


def test_damaged_cifar10(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_cifar_batches(tmp_path, monkeypatch)
    path = tmp_path / "cifar-10-batches-py" / "data_batch_1"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(FileNotFoundError, match=r"CIFAR10: no usable .*data_batch_1"):
        CIFAR10(str(tmp_path)).setup()


def test_half_unpacked_batches_beside_an_npz(tmp_path: Path) -> None:
    # Either the npz is read, or the error does not deny that it is there.
    write_cifar_npz(tmp_path)
    (tmp_path / "cifar-10-batches-py").mkdir()
    try:
        origin = ready(CIFAR10(str(tmp_path))).arrays.origin
    except FileNotFoundError as error:
        origin = str(error)
    assert "no cifar10.npz" not in origin


# --- an npz that is not CIFAR-10 --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "images",
    [RNG.random((70, 12)), CIFAR_X[..., 0], CIFAR_X[..., :1]],
    ids=["features", "grey", "one channel"],
)
def test_npz_of_other_shapes(tmp_path: Path, images: Array) -> None:
    with pytest.raises(ValueError, match=r"x_train.*\b3\b"):
        ready(CIFAR10(str(write_cifar_npz(tmp_path, x_train=images[:50], x_test=images[50:]))))


def test_npz_of_floats_between_0_and_1(tmp_path: Path) -> None:
    # The moments of CIFAR-10 are in bytes: these images would all come out as one grey.
    unit = (CIFAR_X / 255).astype(np.float32)
    with pytest.raises(ValueError, match=r"x_train.*(uint8|float|255)"):
        ready(CIFAR10(str(write_cifar_npz(tmp_path, x_train=unit[:50], x_test=unit[50:]))))


def test_npz_with_too_many_classes(tmp_path: Path) -> None:
    labels = CIFAR_Y[:50].copy()
    labels[17] = 99
    with pytest.raises(ValueError, match=r"y_train\[17\] is 99; labels must lie in 0\.\.9"):
        ready(CIFAR10(str(write_cifar_npz(tmp_path, y_train=labels))))


def test_error_of_the_npz_names_the_option_that_was_set(tmp_path: Path) -> None:
    # There is no data.path with data=cifar10.
    (tmp_path / "cifar10.npz").write_text("nothing")
    with pytest.raises(ValueError, match=r"cifar10\.npz is not a readable npz") as caught:
        ready(CIFAR10(str(tmp_path)))
    assert "data.path" not in str(caught.value)
