"""The pre-activation residual networks."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from torch import nn

from noisylabels_pl.nets import preact_resnet14, preact_resnet18, preact_resnet32
from tests.nets.sizes import check_size


def narrow(depth: int) -> int:
    """Return the parameters: stem, blocks with norms before all convolutions but the first, shortcuts, norm, head."""
    total = 9 * 3 * 16 + 2 * 16 - 2 * 16
    for inputs, outputs in ((16, 16), (16, 32), (32, 64)):
        total += 9 * inputs * outputs + 9 * outputs * outputs + 2 * inputs + 2 * outputs
        total += inputs * outputs * (inputs != outputs)
        total += (depth - 1) * (2 * 9 * outputs * outputs + 4 * outputs)
    return total + 2 * 64 + 64 * 10 + 10


@pytest.mark.parametrize(
    ("net", "parameters"),
    [
        # Widely quoted for CIFAR's variant: 11,171,146, to which the authors' code adds a norm in the stem.
        (preact_resnet18, 11_171_146 + 2 * 64),
        # Patrini et al., 6n + 2 layers with n = 2 and 5, a convolution as shortcut; counted layer by layer.
        (preact_resnet14, narrow(2)),
        (preact_resnet32, narrow(5)),
    ],
)
def test_size(net: Callable[..., nn.Module], parameters: int) -> None:
    check_size(net, (3, 32, 32), 10, parameters)
