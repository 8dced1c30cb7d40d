"""Both engines for every test of this folder."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

import noisylabels_pl.functional.coreset as package
from noisylabels_pl.functional.coreset import selectors

pytest.register_assert_rewrite("tests.functional.coreset.helpers")

from tests.functional.coreset.helpers import normal  # noqa: E402


@pytest.fixture(autouse=True, scope="module", params=["numba", "torch"])
def engine(request: pytest.FixtureRequest) -> Iterator[None]:
    """Everything in this folder holds for the compiled engine and for torch."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "torch":
            patch.setitem(sys.modules, "numba", None)  # as if it were not installed
            patch.delitem(sys.modules, "noisylabels_pl.functional.coreset.greedy_numba", raising=False)
            patch.delattr(package, "greedy_numba", raising=False)
        assert selectors._engine(torch.device("cpu"), 10, 2).__name__.endswith(request.param)
        yield


@pytest.fixture(scope="package")
def large() -> tuple[Tensor, Tensor]:
    """3,000 points and their distances."""
    x = normal(3000, 10, seed=9, dtype=torch.float32)
    x[:1500] = x[:1500] * 0.3 + 2  # a dense half and a sparse half
    d = torch.cdist(x.double(), x.double(), compute_mode="donot_use_mm_for_euclid_dist")
    return x, d
