"""MNIST from the published files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from noisylabels_pl.data import MNIST, LabelNoise
from tests.data.datasets.vision_files import CIFAR_Y, MNIST_X, idx, ready, write_mnist


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


@pytest.mark.parametrize("name", ["train-labels-idx1-ubyte", "t10k-images-idx3-ubyte"])
def test_mnist_without_one_of_its_files_says_which(tmp_path: Path, name: str) -> None:
    write_mnist(tmp_path)
    (tmp_path / "MNIST" / "raw" / name).unlink()
    with pytest.raises(FileNotFoundError, match=name):
        MNIST(str(tmp_path)).setup()


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
