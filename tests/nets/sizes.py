"""A check that all networks pass."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn


def check_size(net: Callable[..., nn.Module], shape: tuple[int, ...], classes: int, parameters: int) -> None:
    """Check the shape of the output and the number of parameters."""
    model = net(shape, classes)
    assert model(torch.rand(2, *shape)).shape == (2, classes)
    assert sum(parameter.numel() for parameter in model.parameters()) == parameters
