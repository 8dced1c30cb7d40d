"""Fashion-MNIST from the published files."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from noisylabels_pl.data import FashionMNIST, LabelNoise
from tests.data.datasets.vision_files import CIFAR_Y, MNIST_X, ready, write_mnist


def test_fashion_mnist(tmp_path: Path) -> None:
    data = ready(FashionMNIST(str(write_mnist(tmp_path, "FashionMNIST")), noise=LabelNoise("asym", rate=1.0)))
    assert torch.equal(data.arrays.x_train, torch.from_numpy(MNIST_X[:50])[:, None])
    assert torch.equal(data.arrays.x_test, torch.from_numpy(MNIST_X[50:])[:, None])
    assert data.arrays.y_test.tolist() == CIFAR_Y[50:].tolist()
    # Boots become sneakers, sneakers sandals, pullovers shirts, and coats and dresses each other.
    confused = {9: 7, 7: 5, 2: 6, 4: 3, 3: 4}
    assert data.labels.observed.tolist() == [confused.get(label, label) for label in CIFAR_Y[:50].tolist()]
    (batch,) = data.val_dataloader()["test"]
    x, _ = data.on_after_batch_transfer(batch, 0)
    torch.testing.assert_close(x[:, 0], (torch.from_numpy(MNIST_X[50:]) / 255 - 0.2860) / 0.3530, atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", ["train-labels-idx1-ubyte", "t10k-images-idx3-ubyte"])
def test_a_missing_file_is_named(tmp_path: Path, name: str) -> None:
    write_mnist(tmp_path, "FashionMNIST")
    (tmp_path / "FashionMNIST" / "raw" / name).unlink()
    with pytest.raises(FileNotFoundError, match=f"FashionMNIST: there is no FashionMNIST/raw/{name}"):
        FashionMNIST(str(tmp_path)).setup()
