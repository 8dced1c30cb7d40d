"""Convex combinations of samples."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from noisylabels_pl.functional import mix
from tests.functional.helpers import batch


@pytest.mark.parametrize("shape", [(4,), (4, 3), (4, 1, 2, 5)])
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_each_sample_has_a_coefficient(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    a, b = torch.rand(2, *shape, dtype=dtype)
    lam = torch.tensor([0.0, 0.25, 0.5, 1.0])
    mixed = mix(a, b, lam)
    assert mixed.dtype == dtype
    for i, coefficient in enumerate(lam.tolist()):
        torch.testing.assert_close(mixed[i], coefficient * a[i] + (1 - coefficient) * b[i])


def test_the_loss_of_mixed_labels_is_the_mix_of_the_losses() -> None:
    logits, first = batch(6, 4)
    _, second = batch(6, 4, seed=1)
    lam = torch.rand(6, dtype=torch.float64)
    soft = mix(F.one_hot(first, 4).double(), F.one_hot(second, 4).double(), lam)
    losses = [F.cross_entropy(logits, target, reduction="none") for target in (first, second)]
    torch.testing.assert_close(mix(*losses, lam), F.cross_entropy(logits, soft, reduction="none"))


def test_whole_numbers_are_refused() -> None:
    images = torch.zeros(2, 3, dtype=torch.uint8)
    with pytest.raises(TypeError, match=r"only floating point can be mixed, got torch.uint8; convert with .float\(\)"):
        mix(images, images, torch.tensor([0.5, 0.5]))
