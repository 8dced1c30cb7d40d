"""Ways to normalize samples."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from noisylabels_pl.data import Digits, LabelNoise, SyntheticRegression
from noisylabels_pl.data.normalization import set_normalization


def ready(**options: Any) -> Digits:
    data = Digits(LabelNoise("sym", rate=0.4, features=0.5), **options)
    data.setup()
    return data


def test_what_a_network_gets() -> None:
    standard, unit, centered = (ready(normalization=kind) for kind in ("standardize", "unit", "pixel_mean"))
    for data in (standard, unit, centered):
        (x, _), *_ = data.test_dataloader()
        x = x.double()
        got, _ = data.on_after_batch_transfer((x, torch.zeros(len(x))), 0)
        training_images = data.load().x_train.double()
        expected = {
            "standardize": (x - training_images.mean()) / training_images.std(),
            "unit": x / 255,
            "pixel_mean": x - training_images.mean(0),
        }[data.normalization]
        torch.testing.assert_close(got.double(), expected, atol=2e-3, rtol=1e-3)
        # The labels and the noise of the features are the same, whatever the normalization.
        assert torch.equal(data.labels.observed, standard.labels.observed)
        assert torch.equal(data._x_train, standard._x_train)


def test_all_images_count_for_the_mean() -> None:
    """The sum is taken in chunks of 4096."""
    arrays = Digits().load()
    x = torch.arange(2).repeat_interleave(torch.tensor([4096, 1000])).to(torch.uint8).view(-1, 1, 1, 1)
    many = set_normalization(type(arrays)(**{**vars(arrays), "x_train": x}), "pixel_mean")
    torch.testing.assert_close(many.mean, torch.full((1, 1, 1), 1000 / 5096))


def test_what_cannot_be_normalized() -> None:
    with pytest.raises(
        ValueError, match="normalization must be one of standardize, unit, pixel_mean, imagenet, got 'zca'"
    ):
        Digits(normalization="zca")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"normalization='unit' divides bytes by 255, but .* torch.float32; use norm"):
        SyntheticRegression(normalization="unit", num_samples=100).setup()
    with pytest.raises(ValueError, match=r"'imagenet' is for color images \(3, H, W\), .* shape \(1, 8, 8\); use norm"):
        Digits(normalization="imagenet").setup()
