"""Promotion of half types."""

from __future__ import annotations

import pytest
import torch

from noisylabels_pl.functional import at_least_float32


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_types_become_float32(dtype: torch.dtype) -> None:
    values = torch.tensor([1.5, -2.0], dtype=dtype, requires_grad=True)
    promoted = at_least_float32(values)
    assert promoted.dtype == torch.float32
    assert promoted.tolist() == values.tolist()
    assert promoted.requires_grad


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_other_types_are_the_same_tensor(dtype: torch.dtype) -> None:
    values = torch.ones(2, dtype=dtype)
    assert at_least_float32(values) is values
