"""The networks of torchvision."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any
from urllib.error import URLError

import pytest
import torch
import torchvision

from noisylabels_pl.nets import torchvision_net


@pytest.mark.parametrize(("name", "size"), [("resnet50", 64), ("mobilenet_v3_small", 32)])
def test_outputs_are_the_originals(name: str, size: int, tmp_path: Path) -> None:
    torch.manual_seed(0)
    original = torchvision.models.get_model(name, weights=None).eval()
    torch.save(original.state_dict(), tmp_path / "weights.pth")
    net = torchvision_net((3, size, size), 1000, name=name, weights=str(tmp_path / "weights.pth")).eval()
    x = torch.rand(2, 3, size, size)
    with torch.no_grad():
        assert torch.equal(net(x), original(x))


def test_resnet50_has_the_published_size() -> None:
    with torch.device("meta"):
        net = torchvision_net((3, 224, 224), 1000, name="resnet50")
    assert sum(parameter.numel() for parameter in net.parameters()) == 25_557_032  # in torchvision's table


def test_a_new_head(tmp_path: Path) -> None:
    original = torchvision.models.resnet18(weights=None)
    torch.save(original.state_dict(), tmp_path / "weights.pth")
    net = torchvision_net((1, 32, 32), 7, name="resnet18", weights=str(tmp_path / "weights.pth"))
    assert net(torch.rand(2, 1, 32, 32)).shape == (2, 7)
    assert torch.equal(net.layer4[1].conv2.weight, original.layer4[1].conv2.weight)  # type: ignore[union-attr, index]
    torch.testing.assert_close(net.conv1.weight, original.conv1.weight.sum(1, keepdim=True))  # type: ignore[union-attr]


def test_published_weights_are_named_in_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A file in the cache of torch.hub, whose hash the test leaves out, stands for the download."""
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    original = torchvision.models.resnet18(weights=None)
    (tmp_path / "checkpoints").mkdir()
    torch.save(original.state_dict(), tmp_path / "checkpoints" / "resnet18-f37072fd.pth")
    with caplog.at_level(logging.INFO):
        net = torchvision_net((3, 32, 32), 7, name="resnet18", weights="IMAGENET1K_V1")
    assert "ResNet18_Weights.IMAGENET1K_V1: read from " in caplog.messages[0]
    assert torch.equal(net.conv1.weight, original.conv1.weight)  # type: ignore[union-attr]


def test_without_a_connection(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def fail(*args: Any, **options: Any) -> None:
        raise URLError("no connection")

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr("torch.hub.urlopen", fail)
    with pytest.raises(OSError, match=r"resnet18-f37072fd\.pth cannot be downloaded \(no connection\); fetch it "):
        torchvision_net((3, 32, 32), 7, name="resnet18", weights="DEFAULT")


def test_names_that_are_not_there() -> None:
    with pytest.raises(ValueError, match=r"^torchvision has no network name='resnet5'; the nearest are resnet50, "):
        torchvision_net((3, 32, 32), 7, name="resnet5")
    with pytest.raises(ValueError, match=r"weights='V3'; give a file \(\.pt, \.pth, \.ckpt\) or one of IMAGENET1K_V1"):
        torchvision_net((3, 32, 32), 7, name="resnet50", weights="V3")
