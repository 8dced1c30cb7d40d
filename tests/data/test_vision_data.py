"""CIFAR-10 and MNIST from files in the layout of those who publish them."""

from __future__ import annotations

import hashlib
import pickle
import struct
from pathlib import Path
from typing import Any
from urllib.error import URLError

import numpy as np
import pytest
import torch
import torchvision.datasets
from numpy.typing import NDArray

from noisylabels_pl.data import CIFAR10, MNIST, LabelNoise, NoisyDataModule

Array = NDArray[Any]
RNG = np.random.default_rng(0)
CIFAR_X = RNG.integers(0, 256, (70, 32, 32, 3), dtype=np.uint8)  # 50 for training, 20 for testing
CIFAR_Y = np.arange(70) % 10
MNIST_X = RNG.integers(0, 256, (70, 28, 28), dtype=np.uint8)


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever tries to fetch something finds that there is no network."""

    def fail(*args: Any, **kwargs: Any) -> None:
        raise URLError("no network")

    for module in (torchvision.datasets.mnist, torchvision.datasets.cifar):
        monkeypatch.setattr(module, "download_and_extract_archive", fail)


def write_cifar_npz(root: Path, **changes: Any) -> Path:
    arrays = {"x_train": CIFAR_X[:50], "y_train": CIFAR_Y[:50], "x_test": CIFAR_X[50:], "y_test": CIFAR_Y[50:]}
    root.mkdir(exist_ok=True)
    np.savez(root / "cifar10.npz", **(arrays | changes))
    return root


def write_cifar_batches(root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same images as five batches of ten and a test batch, and torchvision told of their checksums."""
    folder = root / "cifar-10-batches-py"
    folder.mkdir(parents=True)

    def save(name: str, content: dict[str, Any]) -> list[str]:
        raw = pickle.dumps(content)
        (folder / name).write_bytes(raw)
        return [name, hashlib.md5(raw).hexdigest()]

    def batch(name: str, rows: slice) -> list[str]:
        pixels = CIFAR_X[rows].transpose(0, 3, 1, 2).reshape(-1, 3072)
        return save(name, {"data": pixels, "labels": CIFAR_Y[rows].tolist()})

    dataset = torchvision.datasets.CIFAR10
    train = [batch(f"data_batch_{i + 1}", slice(10 * i, 10 * i + 10)) for i in range(5)]
    monkeypatch.setattr(dataset, "train_list", train)
    monkeypatch.setattr(dataset, "test_list", [batch("test_batch", slice(50, 70))])
    name, md5 = save("batches.meta", {"label_names": ["airplane"] * 10})
    monkeypatch.setattr(dataset, "meta", {"filename": name, "key": "label_names", "md5": md5})
    return root


def idx(array: Array) -> bytes:
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.astype(np.uint8).tobytes()


def write_mnist(root: Path) -> Path:
    folder = root / "MNIST" / "raw"
    folder.mkdir(parents=True)
    for part, rows in (("train", slice(50)), ("t10k", slice(50, 70))):
        (folder / f"{part}-images-idx3-ubyte").write_bytes(idx(MNIST_X[rows]))
        (folder / f"{part}-labels-idx1-ubyte").write_bytes(idx(CIFAR_Y[rows]))
    return root


def ready(datamodule: NoisyDataModule) -> NoisyDataModule:
    datamodule.setup()
    return datamodule


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


def test_mnist(tmp_path: Path) -> None:
    data = ready(MNIST(str(write_mnist(tmp_path)), noise=LabelNoise("asym", rate=1.0)))
    arrays = data.arrays
    assert torch.equal(arrays.x_train, torch.from_numpy(MNIST_X[:50])[:, None])
    assert torch.equal(arrays.x_test, torch.from_numpy(MNIST_X[50:])[:, None])
    assert arrays.y_train.tolist() == CIFAR_Y[:50].tolist()
    assert arrays.y_test.tolist() == CIFAR_Y[50:].tolist()
    assert data.input_shape == (1, 28, 28)
    assert "MNIST" in arrays.origin
    assert str(tmp_path) in arrays.origin
    confused = {7: 1, 2: 7, 3: 8, 5: 6, 6: 5}
    assert data.labels.observed.tolist() == [confused.get(label, label) for label in CIFAR_Y[:50].tolist()]
    (batch,) = data.val_dataloader()["test"]
    x, _ = data.on_after_batch_transfer(batch, 0)
    np.testing.assert_allclose(x[:, 0].numpy(), (MNIST_X[50:] / 255 - 0.1307) / 0.3081, atol=1e-4)


# --- files that are not there -----------------------------------------------------------------------------------------

WANTED: dict[Any, list[str]] = {
    CIFAR10: ["cifar-10-batches-py", "cifar10.npz"],
    MNIST: ["MNIST/raw/train-images-idx3-ubyte"],
}


@pytest.mark.parametrize("download", [False, True], ids=["no download", "download fails"])
@pytest.mark.parametrize("kind", WANTED)
def test_missing_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: Any, download: bool) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"data=digits needs none") as caught:
        kind("here", download=download).setup()
    message = str(caught.value)
    for wanted in WANTED[kind]:
        assert wanted in message
    assert str(tmp_path / "here") in message
    assert "data.root" in message
    assert len(message.splitlines()) <= 8
    if download:
        assert "download failed" in message
        assert "no network" in message
    else:
        assert "data.download=true" in message
        assert not (tmp_path / "here").exists()


def test_files_that_are_there_need_no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(ready(MNIST(str(write_mnist(tmp_path)), download=True)).arrays.y_train) == 50
    assert len(ready(CIFAR10(str(write_cifar_npz(tmp_path)), download=True)).arrays.y_train) == 50
    (tmp_path / "cifar10.npz").unlink()
    write_cifar_batches(tmp_path, monkeypatch)
    assert len(ready(CIFAR10(str(tmp_path), download=True)).arrays.y_train) == 50


@pytest.mark.parametrize("name", ["train-labels-idx1-ubyte", "t10k-images-idx3-ubyte"])
def test_mnist_without_one_of_its_files_says_which(tmp_path: Path, name: str) -> None:
    write_mnist(tmp_path)
    (tmp_path / "MNIST" / "raw" / name).unlink()
    with pytest.raises(FileNotFoundError, match=name):
        MNIST(str(tmp_path)).setup()


@pytest.mark.parametrize("name", ["data_batch_4", "test_batch"])
def test_cifar10_without_one_of_its_files_says_which(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    write_cifar_batches(tmp_path, monkeypatch)
    (tmp_path / "cifar-10-batches-py" / name).unlink()
    with pytest.raises(FileNotFoundError, match=name):
        CIFAR10(str(tmp_path)).setup()


@pytest.mark.parametrize(
    "content",
    [b"", b"\0\0\x08", idx(MNIST_X[:50])[:4000], b"<html>not here</html>"],
    ids=["empty", "cut in the header", "cut in the images", "something else"],
)
def test_damaged_mnist(tmp_path: Path, content: bytes) -> None:
    write_mnist(tmp_path)
    (tmp_path / "MNIST" / "raw" / "train-images-idx3-ubyte").write_bytes(content)
    with pytest.raises((FileNotFoundError, ValueError), match=r"MNIST.*train-images-idx3-ubyte"):
        MNIST(str(tmp_path)).setup()


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
