"""Files of torchvision's datasets that are missing, or there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from noisylabels_pl.data import CIFAR10, MNIST
from tests.data.datasets.vision_files import ready, write_cifar_batches, write_cifar_npz, write_mnist

WANTED: dict[Any, list[str]] = {
    CIFAR10: ["cifar-10-batches-py", "cifar10.npz"],
    MNIST: ["MNIST/raw/train-images-idx3-ubyte"],
}


@pytest.mark.parametrize("download", [False, True], ids=["no download", "download fails"])
@pytest.mark.parametrize("kind", WANTED)
def test_missing_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: Any, download: bool) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"Digits \(data=digits\) needs no files") as caught:
        kind("here", download=download).setup()
    message = str(caught.value)
    for wanted in WANTED[kind]:
        assert wanted in message
    assert str(tmp_path / "here") in message
    assert "root=here" in message
    assert len(message.splitlines()) <= 8
    if download:
        assert "download failed" in message
        assert "no network" in message
    else:
        assert "download=True (data.download=true) fetches it" in message
        assert not (tmp_path / "here").exists()


def test_files_that_are_there_need_no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(ready(MNIST(str(write_mnist(tmp_path)), download=True)).arrays.y_train) == 50
    assert len(ready(CIFAR10(str(write_cifar_npz(tmp_path)), download=True)).arrays.y_train) == 50
    (tmp_path / "cifar10.npz").unlink()
    write_cifar_batches(tmp_path, monkeypatch)
    assert len(ready(CIFAR10(str(tmp_path), download=True)).arrays.y_train) == 50
