from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from tests.per_sample.helpers import (
    assert_ghost_norms_in_chunks_agree,
    assert_image_norms_agree,
    assert_single_precision_agrees,
)

# Vectors: VECTOR_NETS in helpers.py.
IMAGE_LAYERS: dict[str, Callable[[], list[nn.Module]]] = {
    "group_norm": lambda: [nn.Conv2d(2, 6, 3), nn.GroupNorm(3, 6)],
    "layer_norm": lambda: [nn.Conv2d(2, 6, 3), nn.LayerNorm([6, 5, 6])],
}


@pytest.mark.parametrize("name", IMAGE_LAYERS)
def test_image_nets(name: str) -> None:
    assert_image_norms_agree(IMAGE_LAYERS[name])


@pytest.mark.parametrize("name", IMAGE_LAYERS)
def test_image_nets_by_ghost_norms_one_sample_at_a_time(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert_ghost_norms_in_chunks_agree(IMAGE_LAYERS[name], monkeypatch)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("name", IMAGE_LAYERS)
def test_image_nets_in_single_precision(name: str, layout: torch.memory_format) -> None:
    assert_single_precision_agrees(IMAGE_LAYERS[name], layout)
