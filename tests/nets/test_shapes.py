"""The check of a network's input."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from torch import nn

from noisylabels_pl import nets


@pytest.mark.parametrize("net", [getattr(nets, name) for name in nets.__all__ if name != "mlp"])
def test_features_are_no_images(net: Callable[..., nn.Module]) -> None:
    with pytest.raises(ValueError, match=rf"^{net.__name__} needs images \(C, H, W\).*\(64,\); use mlp"):
        net((64,), 10)
