"""CIFAR-100 from the published files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from noisylabels_pl.data import CIFAR100, LabelNoise
from noisylabels_pl.data.datasets.cifar100 import superclass_of_each
from tests.data.datasets.vision_files import CIFAR_X, CIFAR_Y, ready, write_cifar100


def test_fine_labels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arrays = ready(CIFAR100(str(write_cifar100(tmp_path, monkeypatch)))).arrays
    assert torch.equal(arrays.x_train, torch.from_numpy(CIFAR_X[:50]).permute(0, 3, 1, 2))
    assert torch.equal(arrays.x_test, torch.from_numpy(CIFAR_X[50:]).permute(0, 3, 1, 2))
    assert arrays.y_train.tolist() == CIFAR_Y[:50].tolist()
    assert arrays.y_test.tolist() == CIFAR_Y[50:].tolist()
    assert arrays.class_names == tuple(f"fine {i}" for i in range(10))
    assert arrays.superclasses == (0, 1, 2, 0, 1, 2, 0, 1, 2, 0)
    assert arrays.origin == f"torchvision {tmp_path / 'cifar-100-python'}"


def test_coarse_labels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arrays = ready(CIFAR100(str(write_cifar100(tmp_path, monkeypatch)), labels="coarse")).arrays
    assert arrays.y_train.tolist() == (CIFAR_Y[:50] % 3).tolist()
    assert arrays.y_test.tolist() == (CIFAR_Y[50:] % 3).tolist()
    assert arrays.class_names == ("coarse 0", "coarse 1", "coarse 2")
    assert arrays.superclasses is None


def test_asymmetric_noise_stays_in_the_superclass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = ready(CIFAR100(str(write_cifar100(tmp_path, monkeypatch)), noise=LabelNoise("asym", rate=1.0)))
    following = [3, 4, 5, 6, 7, 8, 9, 1, 2, 0]  # the circles 0 3 6 9, 1 4 7 and 2 5 8
    assert data.labels.observed.tolist() == [following[label] for label in CIFAR_Y[:50].tolist()]


def test_normalized_with_its_own_moments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = ready(CIFAR100(str(write_cifar100(tmp_path, monkeypatch))))
    (batch,) = data.val_dataloader()["test"]
    x, _ = data.on_after_batch_transfer(batch, 0)
    unit = CIFAR_X[50:].transpose(0, 3, 1, 2) / 255
    mean, std = (np.array(v).reshape(3, 1, 1) for v in ([0.5071, 0.4865, 0.4409], [0.2673, 0.2564, 0.2762]))
    np.testing.assert_allclose(x.numpy(), (unit - mean) / std, atol=1e-5)


def test_a_class_in_two_superclasses_is_no_cifar100() -> None:
    with pytest.raises(ValueError, match="class 1 has 2 superclasses"):
        superclass_of_each(np.array([0, 1, 1]), np.array([0, 0, 1]), 2)


@pytest.mark.parametrize("name", ["train", "test", "meta"])
def test_a_missing_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    write_cifar100(tmp_path, monkeypatch)
    (tmp_path / "cifar-100-python" / name).unlink()
    with pytest.raises(FileNotFoundError, match=f"CIFAR100: there is no cifar-100-python/{name}"):
        CIFAR100(str(tmp_path)).setup()


def test_other_labels() -> None:
    with pytest.raises(ValueError, match="labels must be one of fine, coarse, got 'super'"):
        CIFAR100(labels="super")  # type: ignore[arg-type]
