"""Generalized cross-entropy as a criterion."""

from __future__ import annotations

import re

import pytest
import torch
from torch import Tensor

from noisylabels_pl import GCELoss


def batch(rows: int, classes: int, seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(rows, classes, generator=generator, dtype=torch.float64)
    return logits, torch.randint(0, classes, (rows,), generator=generator)


def test_the_default_exponent_is_that_of_the_paper() -> None:
    logits, target = batch(5, 4, 0)
    expected = (1 - logits.softmax(1)[torch.arange(5), target] ** 0.7) / 0.7
    torch.testing.assert_close(GCELoss()(logits, target), expected.mean())


@pytest.mark.parametrize("q", [0, -0.5, 1.5])
def test_exponents_outside_the_papers_range_are_refused(q: float) -> None:
    with pytest.raises(ValueError, match=rf"q must lie in \(0, 1\], got {re.escape(str(q))}; its limit 0 is torch"):
        GCELoss(q)
