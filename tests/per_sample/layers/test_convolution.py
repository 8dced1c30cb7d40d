from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.per_sample.helpers import (
    NUM_CLASSES,
    NUM_SAMPLES,
    assert_ghost_norms_in_chunks_agree,
    assert_image_norms_agree,
    assert_norms_agree,
    assert_single_precision_agrees,
    build,
    image_head,
    random_inputs,
    random_labels,
)

IMAGE_LAYERS: dict[str, Callable[[], list[nn.Module]]] = {
    "plain": lambda: [nn.Conv2d(2, 6, 3)],
    "padded": lambda: [nn.Conv2d(2, 6, 3, padding=1)],
    "strided": lambda: [nn.Conv2d(2, 6, 3, stride=2, padding=1)],
    "strided_with_a_rest": lambda: [nn.Conv2d(2, 6, 2, stride=3)],
    "dilated": lambda: [nn.Conv2d(2, 6, 3, dilation=2, padding=2)],
    "uneven": lambda: [nn.Conv2d(2, 6, (1, 3), stride=(2, 1), padding=(0, 2), dilation=(1, 2))],
    "grouped": lambda: [nn.Conv2d(2, 6, 3, groups=2)],
    "depthwise": lambda: [nn.Conv2d(2, 6, 1), nn.Conv2d(6, 6, 3, groups=6, padding=1)],
    "no_bias": lambda: [nn.Conv2d(2, 6, 3, bias=False)],
    "pointwise": lambda: [nn.Conv2d(2, 6, 1)],
    "same": lambda: [nn.Conv2d(2, 6, 4, padding="same", dilation=(1, 2))],
    "valid": lambda: [nn.Conv2d(2, 6, 3, padding="valid")],
    "circular": lambda: [nn.Conv2d(2, 6, 3, padding=1, padding_mode="circular")],
    "reflected": lambda: [nn.Conv2d(2, 6, 3, padding=(2, 1), padding_mode="reflect", stride=2)],
    "everything": lambda: [nn.Conv2d(2, 6, 3, stride=2, padding=3, dilation=2, groups=2, bias=False)],
    "wide": lambda: [nn.Conv2d(2, 40, 3, padding=1), nn.Tanh(), nn.Conv2d(40, 6, 5)],
}


@pytest.mark.filterwarnings("ignore:Using padding='same'")
@pytest.mark.parametrize("name", IMAGE_LAYERS)
def test_image_nets(name: str) -> None:
    assert_image_norms_agree(IMAGE_LAYERS[name])


@pytest.mark.filterwarnings("ignore:Using padding='same'")
@pytest.mark.parametrize("name", IMAGE_LAYERS)
def test_image_nets_by_ghost_norms_one_sample_at_a_time(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert_ghost_norms_in_chunks_agree(IMAGE_LAYERS[name], monkeypatch)


@pytest.mark.filterwarnings("ignore:Using padding='same'")
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("name", IMAGE_LAYERS)
def test_image_nets_in_single_precision(name: str, layout: torch.memory_format) -> None:
    assert_single_precision_agrees(IMAGE_LAYERS[name], layout)


@pytest.mark.parametrize("options", [{}, {"stride": 2, "padding": 2}, {"dilation": 2, "groups": 2, "bias": False}])
def test_one_dimension(options: dict[str, Any]) -> None:
    net = build(
        lambda: nn.Sequential(
            nn.Conv1d(2, 4, 3, **options), nn.Tanh(), nn.AdaptiveAvgPool1d(2), nn.Flatten(), nn.Linear(8, NUM_CLASSES)
        )
    )
    assert_norms_agree(net, F.cross_entropy, random_inputs(NUM_SAMPLES, 2, 11), random_labels(NUM_SAMPLES))


@pytest.mark.parametrize("options", [{}, {"stride": 2, "padding": 1}, {"groups": 2, "bias": False}])
def test_three_dimensions(options: dict[str, Any]) -> None:
    net = build(
        lambda: nn.Sequential(
            nn.Conv3d(2, 4, 2, **options), nn.Tanh(), nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(4, NUM_CLASSES)
        )
    )
    assert_norms_agree(net, F.cross_entropy, random_inputs(NUM_SAMPLES, 2, 4, 3, 5), random_labels(NUM_SAMPLES))


class Block(nn.Module):
    """A residual block with in-place activations and an in-place sum, as in the public ResNets."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.GroupNorm(2, channels)
        self.conv2, self.norm2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.GroupNorm(2, channels)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        out = self.norm2(self.conv2(self.relu(self.norm1(self.conv1(x)))))
        out += x
        return self.relu(out)


def test_a_residual_net_with_inplace_layers() -> None:
    net = build(
        lambda: nn.Sequential(
            nn.Conv2d(2, 8, 3, stride=2),
            nn.GroupNorm(4, 8),
            nn.ReLU(inplace=True),
            Block(8),
            Block(8),
            *image_head(8),
        )
    )
    assert_norms_agree(net, F.cross_entropy, random_inputs(NUM_SAMPLES, 2, 9, 9), random_labels(NUM_SAMPLES))
