"""The fully connected network."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from noisylabels_pl.nets import mlp
from tests.nets.sizes import check_size


@pytest.mark.parametrize(
    ("shape", "classes", "parameters"),
    [
        ((1, 8, 8), 10, 64 * 512 + 512 + 512 * 512 + 512 + 512 * 10 + 10),
        ((7,), 3, 7 * 512 + 512 + 512 * 512 + 512 + 512 * 3 + 3),
    ],
)
def test_size_follows_from_the_data(shape: tuple[int, ...], classes: int, parameters: int) -> None:
    check_size(mlp, shape, classes, parameters)


def test_a_leaky_mlp() -> None:
    layers = mlp((512,), 10, hidden=(256, 256), negative_slope=0.01)
    slopes = [layer.negative_slope for layer in layers if isinstance(layer, nn.LeakyReLU)]
    assert slopes == [0.01, 0.01]
    assert sum(isinstance(layer, nn.Linear) for layer in layers) == 3


def test_he_initialization() -> None:
    torch.manual_seed(0)
    for slope in (0.0, 0.5):
        layers = mlp((500,), 400, hidden=(300, 300), negative_slope=slope, init="he")
        for layer in layers:
            if isinstance(layer, nn.Linear):
                variance = 2 / (layer.in_features * (1 + slope**2))
                assert float(layer.weight.detach().var()) == pytest.approx(variance, rel=0.02)
                assert not layer.bias.any()
    with pytest.raises(ValueError, match="init must be one of torch, he, got 'xavier'"):
        mlp((4,), 2, init="xavier")  # type: ignore[arg-type]


def test_dropout_after_each_hidden_layer() -> None:
    kinds = [type(layer).__name__ for layer in mlp((4,), 2, hidden=(8, 8), dropout=0.5)]
    assert kinds == ["Flatten", "Linear", "ReLU", "Dropout", "Linear", "ReLU", "Dropout", "Linear"]
