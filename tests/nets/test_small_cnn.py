"""The convolutional network for a CPU."""

from __future__ import annotations

import pytest

from noisylabels_pl.nets import small_cnn
from tests.nets.sizes import check_size


@pytest.mark.parametrize(
    ("shape", "parameters"),
    [
        ((3, 32, 32), 9 * (3 * 32 + 32 * 64 + 64 * 128) + 2 * (32 + 64 + 128) + 128 * 10 + 10),
        ((1, 8, 8), 9 * (32 + 32 * 64 + 64 * 128) + 2 * (32 + 64 + 128) + 128 * 10 + 10),
    ],
)
def test_size_follows_from_the_data(shape: tuple[int, ...], parameters: int) -> None:
    check_size(small_cnn, shape, 10, parameters)
