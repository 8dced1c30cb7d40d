"""The checks of a network's input."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from torch import nn

from noisylabels_pl import nets

TEXT_NETS = [nets.embedding_flat, nets.embedding_lstm, nets.embedding_mean]
OTHERS = ["mlp", "load_weights", "torchvision_net", "timm_net", "hf_net", *(net.__name__ for net in TEXT_NETS)]


@pytest.mark.parametrize("net", [getattr(nets, name) for name in nets.__all__ if name not in OTHERS])
def test_features_are_no_images(net: Callable[..., nn.Module]) -> None:
    with pytest.raises(ValueError, match=rf"^{net.__name__} needs images \(C, H, W\).*\(64,\); use mlp"):
        net((64,), 10)


@pytest.mark.parametrize("net", TEXT_NETS)
def test_images_are_no_texts(net: Callable[..., nn.Module]) -> None:
    with pytest.raises(ValueError, match=rf"^{net.__name__} needs texts \(length,\).*\(3, 32, 32\); use small_cnn"):
        net((3, 32, 32), 10)
