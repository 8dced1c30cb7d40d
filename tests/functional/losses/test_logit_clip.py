"""Clipping of logits: norms, and the two readings of the paper's threshold."""

from __future__ import annotations

import math

import pytest
import torch

from noisylabels_pl.functional import clip_logits
from tests.functional.helpers import batch


def test_norms_are_bounded_and_directions_stay() -> None:
    logits, _ = batch(20, 5, 0)
    clipped = clip_logits(logits, 3.0)
    torch.testing.assert_close(clipped.norm(dim=1), logits.norm(dim=1).clamp(max=3.0))
    torch.testing.assert_close(torch.cosine_similarity(clipped, logits), torch.ones(20, dtype=torch.float64))
    assert torch.equal(clipped.argmax(1), logits.argmax(1))
    assert torch.equal(clip_logits(logits, math.inf), logits)


def test_the_public_code_scales_to_another_norm() -> None:
    logits, _ = batch(20, 5, 0)
    is_long = logits.norm(dim=1) > 3.0
    norms = clip_logits(logits, 3.0, clipped_norm=1 / 3.0).norm(dim=1)
    torch.testing.assert_close(norms[is_long], torch.full_like(norms[is_long], 1 / 3.0))
    torch.testing.assert_close(norms[~is_long], logits[~is_long].norm(dim=1))


def test_logits_of_zero_have_a_gradient() -> None:
    logits = torch.zeros(2, 3, requires_grad=True)
    clip_logits(logits, 1.0).sum().backward()
    assert logits.grad is not None
    assert torch.equal(logits.grad, torch.ones(2, 3))


@pytest.mark.parametrize(("options", "name"), [({"tau": 0}, "tau"), ({"tau": 1, "clipped_norm": -1}, "clipped_norm")])
def test_norms_that_are_not_positive_are_refused(options: dict[str, float], name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} must"):
        clip_logits(torch.zeros(1, 2), **options)
