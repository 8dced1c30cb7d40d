"""The networks of timm."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from noisylabels_pl.nets import timm_net

timm: Any = pytest.importorskip("timm")


def test_inception_resnet_v2_has_the_published_size() -> None:
    with torch.device("meta"):
        net = timm_net((3, 299, 299), 1000, name="inception_resnet_v2")
    assert round(sum(parameter.numel() for parameter in net.parameters()) / 1e6, 2) == 55.84  # in timm's table


def test_outputs_are_the_originals(tmp_path: Path) -> None:
    original = timm.create_model("resnet10t", pretrained=False).eval()
    torch.save(original.state_dict(), tmp_path / "weights.pth")
    net = timm_net((3, 64, 64), 1000, name="resnet10t", pretrained=str(tmp_path / "weights.pth")).eval()
    x = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(net(x), original(x))
    gray = timm_net((1, 64, 64), 1000, name="resnet10t", pretrained=str(tmp_path / "weights.pth")).eval()
    with torch.no_grad():
        torch.testing.assert_close(gray(x[:, :1]), original(x[:, :1].expand(2, 3, 64, 64)), rtol=1e-4, atol=1e-4)


def test_options_are_handed_on() -> None:
    net = timm_net((3, 32, 32), 5, name="vit_tiny_patch16_224", img_size=32)
    assert net(torch.rand(2, 3, 32, 32)).shape == (2, 5)


def test_names_that_are_not_there() -> None:
    with pytest.raises(ValueError, match=r"^timm has no network name='resnett50'; the nearest are "):
        timm_net((3, 32, 32), 7, name="resnett50")
    with pytest.raises(ValueError, match=r"^resnet10t\.no_such_weights: Invalid pretrained tag"):
        timm_net((3, 32, 32), 7, name="resnet10t.no_such_weights", pretrained=True)
