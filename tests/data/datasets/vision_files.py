"""Small CIFAR and MNIST files in the published layout."""

from __future__ import annotations

import hashlib
import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torchvision.datasets
from numpy.typing import NDArray

from noisylabels_pl.data import NoisyDataModule

Array = NDArray[Any]
RNG = np.random.default_rng(0)
CIFAR_X = RNG.integers(0, 256, (70, 32, 32, 3), dtype=np.uint8)  # 50 for training, 20 for testing
CIFAR_Y = np.arange(70) % 10
MNIST_X = RNG.integers(0, 256, (70, 28, 28), dtype=np.uint8)


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


def write_cifar100(root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write the same images in the layout of CIFAR-100, where class i has superclass i % 3, and tell torchvision."""
    folder = root / "cifar-100-python"
    folder.mkdir(parents=True)

    def save(name: str, content: dict[str, Any]) -> list[str]:
        raw = pickle.dumps(content)
        (folder / name).write_bytes(raw)
        return [name, hashlib.md5(raw).hexdigest()]

    def part(name: str, rows: slice) -> list[str]:
        pixels = CIFAR_X[rows].transpose(0, 3, 1, 2).reshape(-1, 3072)
        fine = CIFAR_Y[rows]
        return save(name, {"data": pixels, "fine_labels": fine.tolist(), "coarse_labels": (fine % 3).tolist()})

    dataset = torchvision.datasets.CIFAR100
    monkeypatch.setattr(dataset, "train_list", [part("train", slice(50))])
    monkeypatch.setattr(dataset, "test_list", [part("test", slice(50, 70))])
    names = {
        "fine_label_names": [f"fine {i}" for i in range(10)],
        "coarse_label_names": [f"coarse {i}" for i in range(3)],
    }
    name, md5 = save("meta", names)
    monkeypatch.setattr(dataset, "meta", {"filename": name, "key": "fine_label_names", "md5": md5})
    return root


def idx(array: Array) -> bytes:
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.astype(np.uint8).tobytes()


def write_mnist(root: Path, name: str = "MNIST") -> Path:
    folder = root / name / "raw"
    folder.mkdir(parents=True)
    for part, rows in (("train", slice(50)), ("t10k", slice(50, 70))):
        (folder / f"{part}-images-idx3-ubyte").write_bytes(idx(MNIST_X[rows]))
        (folder / f"{part}-labels-idx1-ubyte").write_bytes(idx(CIFAR_Y[rows]))
    return root


def ready(datamodule: NoisyDataModule) -> NoisyDataModule:
    datamodule.setup()
    return datamodule
