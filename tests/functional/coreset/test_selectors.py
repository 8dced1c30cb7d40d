"""The contract of facility location and centrality: results, types, arguments, and no side effects."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from noisylabels_pl.functional import centrality, facility_location
from noisylabels_pl.functional.coreset import greedy_torch, planned_bytes, selectors
from tests.functional.coreset.helpers import (
    Selector,
    assert_consistent,
    assert_greedy,
    assert_most_central,
    direct_distances,
    few,
    normal,
)
from tests.functional.helpers import seeded

both = pytest.mark.parametrize("select", [facility_location, centrality])


@both
@pytest.mark.parametrize(("dtype", "rel"), [(torch.float64, 1e-9), (torch.float32, 1e-5)])
@pytest.mark.parametrize(("n", "d", "k"), [(1, 1, 1), (1, 4, 1), (2, 3, 1), (7, 2, 7), (40, 1, 9), (150, 5, 60)])
def test_result_is_consistent(select: Selector, n: int, d: int, k: int, dtype: torch.dtype, rel: float) -> None:
    x = normal(n, d, seed=n + k, dtype=dtype)
    assert_consistent(x, select(x, k), k, rel)


@both
@few
@given(st.integers(1, 14), st.integers(1, 3), st.integers(0, 10**6), st.data())
def test_result_is_consistent_with_many_duplicate_rows(
    select: Selector, n: int, d: int, seed: int, data: st.DataObject
) -> None:
    k = data.draw(st.integers(1, n), label="k")
    # Coordinates 0 and 1 only: rows repeat, distances tie, and gains reach 0 before k points are chosen.
    x = torch.randint(0, 2, (n, d), generator=seeded(seed)).double()
    assert_consistent(x, select(x, k), k, 1e-12)


@both
@pytest.mark.parametrize("k", [1, 2, 5, 9])
def test_all_rows_equal(select: Selector, k: int) -> None:
    x = torch.full((9, 3), 0.1)
    coreset = select(x, k)
    assert_consistent(x, coreset, k, 1e-6)
    assert coreset.objective == 0.0
    assert coreset.cost == 0.0


@both
def test_single_point(select: Selector) -> None:
    coreset = select(torch.tensor([[3.0, -4.0]]), 1)
    assert coreset.indices.tolist() == [0]
    assert coreset.assignment.tolist() == [0]
    assert coreset.cluster_sizes.tolist() == [1]
    assert coreset.objective == 0.0
    assert coreset.cost == 0.0


@both
def test_every_point_chosen(select: Selector) -> None:
    x = normal(25, 3, seed=0)
    x[10:15] = x[3]  # duplicates too: each is a medoid, so each keeps a cluster of its own
    coreset = select(x, 25)
    assert sorted(coreset.indices.tolist()) == list(range(25))
    assert coreset.cluster_sizes.tolist() == [1] * 25
    assert coreset.cost == 0.0
    assert coreset.objective == pytest.approx(25 * direct_distances(x).max().item(), rel=1e-12)


@both
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_types_are_promoted_to_float32(select: Selector, dtype: torch.dtype) -> None:
    x = normal(80, 4, seed=1).to(dtype)
    low, full = select(x, 20), select(x.float(), 20)
    assert low.indices.tolist() == full.indices.tolist()
    assert low.assignment.tolist() == full.assignment.tolist()
    assert (low.objective, low.cost) == (full.objective, full.cost)
    assert_consistent(x, low, 20, 1e-5)


@both
def test_float64_is_not_rounded_to_float32(select: Selector) -> None:
    # In float32 all these rows are the same point.
    x = 1 + 1e-10 * normal(50, 2, seed=2)
    assert (x.float() == 1).all()
    coreset = select(x, 12)
    d = direct_distances(x)
    assert coreset.cost == pytest.approx(d[:, coreset.indices].amin(1).sum().item(), rel=1e-9)
    if select is facility_location:
        assert_greedy(d, coreset.indices, 1e-9)
    else:
        assert coreset.indices.tolist() == d.mean(1).argsort(stable=True)[:12].tolist()


@both
@pytest.mark.parametrize(("dtype", "rel"), [(torch.float64, 1e-9), (torch.float32, 1e-5)])
def test_exact_far_from_the_origin(select: Selector, dtype: torch.dtype, rel: float) -> None:
    # Multiples of 1/64 are exact in float32 next to 1e4, so moving the cloud loses nothing of the input, and only
    # an expansion of |a - b|^2 into |a|^2 + |b|^2 - 2ab could lose the distances.
    cloud = (normal(200, 6, seed=3) * 64).round() / 64
    x = (cloud + 1e4).to(dtype)
    assert torch.equal(x.double() - 1e4, cloud)
    coreset = select(x, 70)
    d = direct_distances(cloud)
    assert_consistent(cloud, coreset, 70, rel)
    if select is facility_location:
        assert_greedy(d, coreset.indices, rel)
    else:
        assert_most_central(d, coreset.indices, rel)


@both
def test_autocast_does_not_change_the_selection(select: Selector) -> None:
    x = normal(60, 8, seed=4, dtype=torch.float32)
    plain = select(x, 15)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = select(x, 15)
    assert mixed.indices.tolist() == plain.indices.tolist()
    assert mixed.objective == pytest.approx(plain.objective, rel=1e-6)


@both
def test_number_of_threads_is_left_alone(select: Selector) -> None:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        select(normal(300, 3, seed=21), 20)
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)


@both
def test_input_is_left_alone_and_may_require_grad(select: Selector) -> None:
    x = normal(30, 3, seed=5)
    before = x.clone()
    plain = select(x, 8)
    assert torch.equal(x, before)
    assert not x.requires_grad
    leaf = before.clone().requires_grad_()
    for features in (leaf, leaf * 1.0):
        coreset = select(features, 8)
        assert coreset.indices.tolist() == plain.indices.tolist()
        assert coreset.objective == plain.objective
    assert torch.equal(leaf.detach(), before)
    assert leaf.requires_grad
    assert leaf.grad is None


@both
def test_non_contiguous_input(select: Selector) -> None:
    wide = normal(4, 60, seed=6)
    assert select(wide.T, 10).indices.tolist() == select(wide.T.contiguous(), 10).indices.tolist()


@both
@pytest.mark.parametrize("shape", [(12,), (12, 2, 2), ()])
def test_features_must_be_two_dimensional(select: Selector, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="features"):
        select(torch.zeros(shape), 1)


@both
@pytest.mark.parametrize("dtype", [torch.int64, torch.uint8, torch.bool])
def test_features_must_be_floating(select: Selector, dtype: torch.dtype) -> None:
    with pytest.raises(ValueError, match="features"):
        select(torch.ones(12, 2, dtype=dtype), 1)


@both
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("row", [0, 37, 49])
def test_features_must_be_finite(select: Selector, bad: float, row: int) -> None:
    x = normal(50, 3, seed=7)
    x[row, 1] = bad
    with pytest.raises(ValueError, match=rf"\b{row}\b"):
        select(x, 5)


@both
@pytest.mark.parametrize("k", [-3, 0, 13, 500])
def test_k_out_of_range(select: Selector, k: int) -> None:
    with pytest.raises(ValueError, match=r"\bk\b") as caught:
        select(normal(12, 2, seed=8), k)
    assert str(k) in str(caught.value)


@both
@pytest.mark.parametrize("scale", [1e20, 1e30])
def test_huge_features_are_refused_or_handled(select: Selector, scale: float) -> None:
    # Finite in float32, but the squares of the differences are not. Either answer will do; a wrong result will not.
    x = scale * normal(12, 2, seed=16, dtype=torch.float32)
    try:
        coreset = select(x, 6)
    except ValueError:
        return
    assert_consistent(x, coreset, 6, 1e-5)


@both
def test_no_points_at_all(select: Selector) -> None:
    with pytest.raises(ValueError, match=r"features|\bk\b"):
        select(torch.zeros(0, 3), 1)


def test_planned_memory_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("DEBUG", logger="noisylabels_pl.functional.coreset.selectors"):
        facility_location(normal(50, 3, seed=0), 5)
    assert [record.levelname for record in caplog.records] == ["DEBUG"]
    assert "50 points" in caplog.text
    assert planned_bytes(200_000, 10, torch.device("cpu")) > 2**27


@both
def test_torch_selects_the_same_where_the_compiled_engine_does_not_fit(
    select: Selector, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    x = normal(200, 3, seed=0, dtype=torch.float32)
    expected = select(x, 70)
    monkeypatch.setattr(selectors, "free_memory", lambda device: 1e4)
    with caplog.at_level("INFO", logger="noisylabels_pl.functional.coreset.selectors"):
        scarce = select(x, 70)
    assert selectors._engine(torch.device("cpu"), 200, 3) is greedy_torch
    assert torch.equal(scarce.indices, expected.indices)
    assert torch.equal(scarce.assignment, expected.assignment)
    has_compiled_engine = selectors._compiled_engine() is not None
    assert ("torch selects the same points" in caplog.text) == has_compiled_engine
