"""Coresets: greedy facility location, centrality and the random partner inside a cluster."""

import math
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import combinations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import noisylabels_pl.functional.coreset as package
from noisylabels_pl.functional import (
    Coreset,
    centrality,
    cluster_partners,
    distributed_greedy,
    facility_location,
    logit_gradient,
    stochastic_greedy,
)
from noisylabels_pl.functional.coreset import distances, greedy_torch, selectors

Selector = Callable[[Tensor, int], Coreset]
both = pytest.mark.parametrize("select", [facility_location, centrality])
few = settings(derandomize=True, max_examples=30, deadline=None)


@pytest.fixture(autouse=True, scope="module", params=["numba", "torch"])
def engine(request: pytest.FixtureRequest) -> Iterator[None]:
    """Everything here holds for the compiled kernels and for those in torch."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "torch":
            patch.setitem(sys.modules, "numba", None)  # as if it were not installed
            patch.delitem(sys.modules, "noisylabels_pl.functional.coreset.greedy_numba", raising=False)
            patch.delattr(package, "greedy_numba", raising=False)
        assert selectors._engine(torch.zeros(1)).__name__.endswith(request.param)
        yield


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(n: int, d: int, seed: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(n, d, generator=seeded(seed), dtype=torch.float64).to(dtype)


def direct_distances(features: Tensor) -> Tensor:
    """Subtract first, then square, in float64: exact to rounding wherever the points lie."""
    x = features.detach().double()
    return (x[:, None, :] - x[None, :, :]).square().sum(-1).sqrt()


def value(d: Tensor, chosen: Tensor) -> float:
    """F(S) = sum_i max_{j in S} (d0 - d_ij)."""
    return (d.max() - d[:, chosen]).amax(1).sum().item()


def assert_greedy(d: Tensor, picks: Tensor, rel: float) -> None:
    """Every pick has the largest marginal gain of its step, by brute force over all candidates."""
    covered = d.new_zeros(len(d))  # what each point already contributes to F
    for step, pick in enumerate(picks.tolist()):
        gains = ((d.max() - d) - covered[:, None]).clamp(min=0).sum(0)
        best = gains.max().item()
        assert gains[pick].item() >= best * (1 - rel), f"step {step}: gain {gains[pick].item()}, largest {best}"
        covered = torch.maximum(covered, d.max() - d[:, pick])


def assert_consistent(features: Tensor, coreset: Coreset, k: int, rel: float) -> None:
    """Everything in the result follows from the indices alone."""
    n, d = len(features), direct_distances(features)
    indices, assignment, sizes = coreset.indices, coreset.assignment, coreset.cluster_sizes
    assert indices.shape == (k,)
    assert indices.dtype == torch.int64
    assert len(set(indices.tolist())) == k
    assert indices.min() >= 0
    assert indices.max() < n
    assert assignment.shape == (n,)
    assert not assignment.is_floating_point()
    assert assignment.min() >= 0
    assert assignment.max() < k
    assert assignment[indices].tolist() == list(range(k))  # a medoid belongs to its own cluster
    assert sizes.shape == (k,)
    assert sizes.tolist() == torch.bincount(assignment, minlength=k).tolist()
    assert min(sizes.tolist()) >= 1
    assert sum(sizes.tolist()) == n
    near = d[:, indices]
    given_distance = near.gather(1, assignment.long()[:, None]).squeeze(1)
    torch.testing.assert_close(given_distance, near.amin(1), rtol=rel, atol=rel * d.max().item())
    assert isinstance(coreset.objective, float)
    assert isinstance(coreset.cost, float)
    scale = n * d.max().item()
    assert coreset.cost == pytest.approx(near.amin(1).sum().item(), rel=rel, abs=rel * scale)
    assert coreset.objective == pytest.approx(value(d, indices), rel=rel, abs=rel * scale)


# --- both selectors ---------------------------------------------------------------------------------------------------


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


# --- facility location ------------------------------------------------------------------------------------------------


def test_facility_location_by_hand() -> None:
    # On a line, d0 = 30. Row sums of d: 66, 61, 58, 50, 51, 54, 144, so 10 is first (F = 7 * 30 - 50 = 160).
    # Then 1 gains 9 + 9 + 7 = 25 (0 and 2 gain 24, 30 gains 20), then 30 gains 20 (12 gains 5, the others 2 at most).
    coreset = facility_location(torch.tensor([[0.0], [1.0], [2.0], [10.0], [11.0], [12.0], [30.0]]), 3)
    assert coreset.indices.tolist() == [3, 1, 6]
    assert coreset.assignment.tolist() == [1, 1, 1, 0, 0, 0, 2]
    assert coreset.cluster_sizes.tolist() == [3, 3, 1]
    assert coreset.objective == pytest.approx(205.0)
    assert coreset.cost == pytest.approx(5.0)


@pytest.mark.parametrize(("dtype", "rel"), [(torch.float64, 1e-9), (torch.float32, 1e-5)])
@pytest.mark.parametrize(
    ("n", "d", "k"), [(2, 1, 2), (5, 2, 5), (30, 1, 15), (64, 3, 64), (129, 10, 40), (300, 2, 150), (300, 64, 300)]
)
def test_every_pick_has_the_largest_gain(n: int, d: int, k: int, dtype: torch.dtype, rel: float) -> None:
    for seed in range(3):
        x = normal(n, d, seed=100 * seed + n, dtype=dtype)
        assert_greedy(direct_distances(x), facility_location(x, k).indices, rel)


@few
@given(st.integers(2, 40), st.integers(1, 4), st.integers(0, 10**6), st.data())
def test_every_pick_has_the_largest_gain_on_a_lattice(n: int, d: int, seed: int, data: st.DataObject) -> None:
    # Small integer coordinates: duplicate rows and ties everywhere.
    x = torch.randint(-2, 3, (n, d), generator=seeded(seed)).double()
    picks = facility_location(x, data.draw(st.integers(1, n), label="k")).indices
    # Once every point is covered the largest gain is 0 up to rounding, where a relative bound says nothing.
    distinct = len(x.unique(dim=0))
    assert_greedy(direct_distances(x), picks[:distinct], 1e-9)
    assert len(x[picks[:distinct]].unique(dim=0)) == min(distinct, len(picks))


def test_every_pick_has_the_largest_gain_in_skewed_clusters() -> None:
    # Clusters of very different size and spread: stale gains and true gains disagree most here.
    parts = [normal(m, 3, seed=m) * s + 20 * c for c, (m, s) in enumerate([(120, 0.1), (60, 3.0), (8, 1.0), (1, 1.0)])]
    x = torch.cat(parts)
    assert_greedy(direct_distances(x), facility_location(x, 90).indices, 1e-9)


def lazy_best(d: Tensor, nearest: Tensor, bound: Tensor) -> tuple[int, float]:
    """The candidate of largest gain; `bound` holds gains of earlier steps, which can only have fallen since."""
    while True:
        top = bound.topk(min(32, len(bound))).indices
        bound[top] = (nearest - d[top]).clamp(min=0).sum(1)
        best = int(bound.argmax())
        if best in top.tolist():
            return best, bound[best].item()


@pytest.fixture(scope="module")
def large() -> tuple[Tensor, Tensor]:
    x = normal(3000, 10, seed=9, dtype=torch.float32)
    x[:1500] = x[:1500] * 0.3 + 2  # a dense half and a sparse half
    d = torch.cdist(x.double(), x.double(), compute_mode="donot_use_mm_for_euclid_dist")
    return x, d


def test_large_value_equals_an_independent_greedy(large: tuple[Tensor, Tensor]) -> None:
    x, d = large
    k, d0 = 300, d.max()
    nearest, bound = torch.full((len(d),), d0.item(), dtype=torch.float64), (d0 - d).sum(1)
    expected = 0.0
    for _ in range(k):
        j, gain = lazy_best(d, nearest, bound)
        expected += gain
        nearest = torch.minimum(nearest, d[j])
    coreset = facility_location(x, k)
    assert coreset.objective == pytest.approx(expected, rel=1e-5)
    # F is dominated by n * d0; the cost is what the selection really changes.
    assert coreset.cost == pytest.approx(nearest.sum().item(), rel=1e-3)


def test_large_picks_have_the_largest_gain(large: tuple[Tensor, Tensor]) -> None:
    x, d = large
    nearest, bound = torch.full((len(d),), d.max().item(), dtype=torch.float64), (d.max() - d).sum(1)
    for step, pick in enumerate(facility_location(x, 300).indices.tolist()):
        gain = (nearest - d[pick]).clamp(min=0).sum().item()
        assert gain >= lazy_best(d, nearest, bound)[1] * (1 - 1e-5), step
        nearest = torch.minimum(nearest, d[pick])


@pytest.mark.parametrize("n", [4, 8, 12])
def test_within_one_minus_one_over_e_of_the_optimum(n: int) -> None:
    for seed in range(4):
        x = normal(n, 2, seed=10 + seed)
        d = direct_distances(x)
        for k in range(1, n // 2 + 1):
            subsets = torch.tensor(list(combinations(range(n), k)))
            optimum = (d.max() - d[:, subsets]).amax(2).sum(0).max().item()
            found = facility_location(x, k).objective
            assert (1 - 1 / math.e) * optimum <= found <= optimum * (1 + 1e-12)
            if k == 1:
                assert found == pytest.approx(optimum, rel=1e-12)


def test_covers_separate_clusters_first() -> None:
    # Five far groups of 20: the first five picks take one each, whatever the order.
    group = torch.arange(100) % 5
    x = 100.0 * torch.eye(5)[group] + normal(100, 5, seed=11, dtype=torch.float32)
    coreset = facility_location(x, 5)
    assert sorted(group[coreset.indices].tolist()) == [0, 1, 2, 3, 4]
    assert torch.equal(group[coreset.indices][coreset.assignment], group)
    assert coreset.cluster_sizes.tolist() == [20] * 5


# --- centrality -------------------------------------------------------------------------------------------------------


def assert_most_central(d: Tensor, picks: Tensor, rel: float) -> None:
    """The picks' mean distances are the k smallest, in rising order, up to rounding."""
    means = d.mean(1)
    torch.testing.assert_close(means[picks], means.sort().values[: len(picks)], rtol=rel, atol=0)


def test_centrality_by_hand() -> None:
    # Row sums of d for 10, 3, 2, 1, 0: 34, 13, 12, 13, 16; the tie of 3 and 1 goes to the lower index.
    coreset = centrality(torch.tensor([[10.0], [3.0], [2.0], [1.0], [0.0]]), 3)
    assert coreset.indices.tolist() == [2, 1, 3]
    assert coreset.assignment.tolist() == [1, 1, 0, 2, 2]
    assert coreset.cluster_sizes.tolist() == [1, 2, 2]
    assert coreset.cost == pytest.approx(8.0)
    assert coreset.objective == pytest.approx(42.0)


@pytest.mark.parametrize(("n", "d", "k"), [(2, 1, 1), (50, 3, 50), (300, 2, 150), (1100, 6, 400)])
def test_centrality_is_argsort_of_mean_distance(n: int, d: int, k: int) -> None:
    x = normal(n, d, seed=n)
    means = direct_distances(x).mean(1)
    assert centrality(x, k).indices.tolist() == means.argsort(stable=True)[:k].tolist()
    low = x.float()
    assert_most_central(direct_distances(low), centrality(low, k).indices, 1e-5)


def test_centrality_of_many_points(large: tuple[Tensor, Tensor]) -> None:
    x, d = large
    assert_most_central(d, centrality(x, 1500).indices, 1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("n", [6, 7, 101])
def test_centrality_ties_go_to_the_lower_index(n: int, dtype: torch.dtype) -> None:
    # 0, 1, .., n-1 shuffled: all sums are exact integers, and the points i and n-1-i tie.
    place = torch.randperm(n, generator=seeded(n))
    sums = (place[:, None] - place[None, :]).abs().sum(1).tolist()
    expected = sorted(range(n), key=lambda i: (sums[i], i))
    assert centrality(place.to(dtype)[:, None], n).indices.tolist() == expected


def test_centrality_of_equal_rows_keeps_their_order() -> None:
    assert centrality(torch.full((40, 3), 0.7), 25).indices.tolist() == list(range(25))


# --- greedy from samples and by parts ---------------------------------------------------------------------------------


def sampled(x: Tensor, k: int) -> Coreset:
    return stochastic_greedy(x, k, generator=seeded(0))


def in_parts(x: Tensor, k: int) -> Coreset:
    return distributed_greedy(x, k, parts=min(3, len(x)), generator=seeded(0))


def gradients(n: int, d: int = 10, seed: int = 0) -> Tensor:
    logits = 2 * torch.randn(n, d, generator=seeded(seed))
    return logit_gradient(logits, torch.randint(d, (n,), generator=seeded(seed + 1)))


approximate = pytest.mark.parametrize("select", [sampled, in_parts])


@approximate
@pytest.mark.parametrize(("dtype", "rel"), [(torch.float64, 1e-9), (torch.float32, 1e-5)])
@pytest.mark.parametrize(("n", "d", "k"), [(1, 4, 1), (2, 3, 1), (7, 2, 7), (40, 1, 39), (150, 5, 60), (200, 3, 4)])
def test_approximate_result_is_consistent(
    select: Selector, n: int, d: int, k: int, dtype: torch.dtype, rel: float
) -> None:
    x = normal(n, d, seed=n + k, dtype=dtype)
    assert_consistent(x, select(x, k), k, rel)


@approximate
@pytest.mark.parametrize("k", [1, 4, 9])
def test_approximate_with_duplicate_rows(select: Selector, k: int) -> None:
    x = torch.tensor([[0.0], [0.0], [1.0]]).repeat(3, 1)
    coreset = select(x, k)
    assert_consistent(x, coreset, k, 1e-6)
    same = select(torch.full((9, 3), 0.1), k)
    assert (same.cost, same.objective) == (0.0, 0.0)


@pytest.mark.parametrize(("n", "k"), [(12, 12), (60, 7), (200, 90)])
def test_a_sample_of_all_candidates_is_exact(n: int, k: int) -> None:
    x = normal(n, 3, seed=n)
    coreset = stochastic_greedy(x, k, eps=math.exp(-k), generator=seeded(0))
    assert_greedy(direct_distances(x), coreset.indices, 1e-9)
    picks, assignment, _, _ = greedy_torch.greedy(x, k)  # as exact on ties
    assert coreset.indices.tolist() == picks.tolist()
    assert torch.equal(picks[coreset.assignment], picks[assignment])


def test_a_step_takes_the_largest_gain_of_some_candidates() -> None:
    # 20 of 200 at a time: never the best of all throughout, but always better than most.
    x = normal(200, 3, seed=17)
    d, covered, ranks = direct_distances(x), torch.zeros(200, dtype=torch.float64), []
    for pick in stochastic_greedy(x, 20, eps=math.exp(-2), generator=seeded(1)).indices.tolist():
        gains = ((d.max() - d) - covered[:, None]).clamp(min=0).sum(0)
        ranks.append(int((gains > gains[pick]).sum()))
        covered = torch.maximum(covered, d.max() - d[:, pick])
    assert max(ranks) > 0
    assert sum(ranks) / len(ranks) < 25  # 9 are expected


def test_one_part_is_exact() -> None:
    x = normal(90, 3, seed=18)
    whole, exact = distributed_greedy(x, 30, parts=1), facility_location(x, 30)
    assert whole.indices.tolist() == exact.indices.tolist()
    assert whole.assignment.tolist() == exact.assignment.tolist()
    assert distributed_greedy(x, 30).indices.tolist() == exact.indices.tolist()  # too few points for two parts


def test_parts_of_single_points_are_exact() -> None:
    x = normal(60, 3, seed=19)
    picks = distributed_greedy(x, 25, parts=60, generator=seeded(0)).indices
    assert_greedy(direct_distances(x), picks, 1e-9)


@approximate
def test_approximate_follows_the_generator_only(select: Selector) -> None:
    x = normal(300, 4, seed=20)
    torch.manual_seed(0)
    first = select(x, 60)
    torch.manual_seed(1)
    assert select(x, 60).indices.tolist() == first.indices.tolist()
    assert stochastic_greedy(x, 60, generator=seeded(1)).indices.tolist() != sampled(x, 60).indices.tolist()
    assert stochastic_greedy(x, 60).indices.shape == distributed_greedy(x, 60, parts=2).indices.shape


@pytest.mark.parametrize("k", [100, 500])
def test_approximate_costs_little_more_than_exact(k: int) -> None:
    x = gradients(1000)
    exact = facility_location(x, k).cost
    for seed in range(2):
        assert exact * (1 - 1e-6) <= stochastic_greedy(x, k, generator=seeded(seed)).cost <= 1.15 * exact
        assert exact * (1 - 1e-6) <= distributed_greedy(x, k, parts=4, generator=seeded(seed)).cost <= 1.06 * exact


@pytest.mark.parametrize("eps", [0.0, 1.0, -0.1, 2.0, math.nan])
def test_eps_out_of_range(eps: float) -> None:
    with pytest.raises(ValueError, match=r"\beps\b"):
        stochastic_greedy(normal(12, 2, seed=8), 3, eps=eps)


@pytest.mark.parametrize("parts", [-1, 0, 13])
def test_parts_out_of_range(parts: int) -> None:
    with pytest.raises(ValueError, match=r"\bparts\b"):
        distributed_greedy(normal(12, 2, seed=8), 3, parts=parts)


@approximate
@pytest.mark.parametrize("k", [0, 13])
def test_approximate_k_out_of_range(select: Selector, k: int) -> None:
    with pytest.raises(ValueError, match=r"\bk\b"):
        select(normal(12, 2, seed=8), k)


# --- memory -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_torch_selects_the_same_with_little_memory(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    x = gradients(400).to(dtype)
    plenty = [greedy_torch.greedy(x, 150), greedy_torch.central(x, 150)]
    for free in (0.0, 1e6, 3e6):  # greedy one by one to the end, for some picks, and never
        monkeypatch.setattr(distances, "free_memory", lambda device, free=free: free)
        for before, after in zip(plenty, [greedy_torch.greedy(x, 150), greedy_torch.central(x, 150)], strict=True):
            for expected, found in zip(before, after, strict=True):
                assert torch.equal(torch.as_tensor(expected), torch.as_tensor(found))


def outlier(n: int, scale: float, seed: int = 0) -> Tensor:
    """One point far from the others, as a wrong label's gradient is once a network is sure of all others."""
    x = (scale * normal(n, 5, seed)).float()
    x[0] = 1
    return x


@pytest.mark.parametrize("scale", [1e-3, 1e-5, 1e-6])
def test_points_much_nearer_to_each_other_than_the_farthest(scale: float) -> None:
    x = outlier(120, scale)
    distances = direct_distances(x)
    nearest, picks = distances.amax().expand(len(x)), []
    for _ in range(60):
        gains = (nearest.unsqueeze(1) - distances).clamp(min=0).sum(0)
        gains[picks] = -1
        picks.append(int(gains.argmax()))
        nearest = torch.minimum(nearest, distances[:, picks[-1]])
    found = distances[:, facility_location(x, 60).indices].amin(1).sum()
    assert float(found) == pytest.approx(float(nearest.sum()), rel=1e-3)


def test_torch_keeps_as_many_as_it_is_asked_for_with_little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    for most in (400, 1200, 4000, 8000):
        plan = distances.Planned(block=400, pairs=most, bytes=0)
        monkeypatch.setattr(greedy_torch, "planned", lambda *args, plan=plan: plan)
        for seed in range(8):
            for x in (outlier(400, 1e-6, seed), gradients(400, seed=seed)):
                for k in (200, 400):
                    assert len(greedy_torch.greedy(x, k)[0].unique()) == k


def test_planned_memory_is_within_what_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = torch.device("cpu")
    ample = distances.planned(50_000, 10, cpu)
    monkeypatch.setattr(distances, "free_memory", lambda device: 2e8)
    scarce = distances.planned(50_000, 10, cpu)
    assert scarce.bytes <= 1e8 < ample.bytes < 0.3 * 2**30
    monkeypatch.setattr(distances, "free_memory", lambda device: None)
    assert distances.planned(50_000, 10, cpu) == ample


def test_planned_memory_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("DEBUG", logger="noisylabels_pl.functional.coreset.selectors"):
        facility_location(normal(50, 3, seed=0), 5)
    assert [record.levelname for record in caplog.records] == ["DEBUG"]
    assert "50 points" in caplog.text
    assert selectors.planned_bytes(200_000, 10, torch.float32, torch.device("cpu")) > 2**27


# --- partners ---------------------------------------------------------------------------------------------------------


def grouped(sizes: list[int], seed: int) -> Coreset:
    """A coreset whose clusters are far groups of the given sizes, rows shuffled."""
    group = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    group = group[torch.randperm(len(group), generator=seeded(seed))]
    x = 1000.0 * torch.eye(len(sizes), dtype=torch.float64)[group] + normal(len(group), len(sizes), seed)
    coreset = facility_location(x, len(sizes))
    assert torch.equal(group[coreset.indices][coreset.assignment], group)
    return coreset


def test_partner_is_another_member_of_the_own_cluster() -> None:
    x = normal(120, 3, seed=12)
    for select, k in [(facility_location, 1), (facility_location, 50), (centrality, 60), (centrality, 120)]:
        coreset = select(x, k)
        generator = seeded(0)
        for _ in range(10):
            partners = cluster_partners(coreset, generator=generator)
            assert partners.shape == (k,)
            assert partners.dtype == torch.int64
            assert partners.device.type == "cpu"
            assert coreset.assignment[partners].tolist() == list(range(k))
            alone = coreset.cluster_sizes == 1
            assert torch.equal(partners == coreset.indices, alone)


def test_partner_with_duplicate_rows() -> None:
    # The nearest medoid of a duplicate medoid is not unique; its partner must still come from its own cluster.
    coreset = facility_location(torch.ones(10, 2), 4)
    partners = cluster_partners(coreset, generator=seeded(0))
    assert coreset.assignment[partners].tolist() == [0, 1, 2, 3]
    assert torch.equal(partners == coreset.indices, coreset.cluster_sizes == 1)


def test_partner_of_a_single_point_is_itself() -> None:
    assert cluster_partners(facility_location(torch.zeros(1, 2), 1)).tolist() == [0]


def test_partners_follow_the_generator_only() -> None:
    coreset = grouped([30] * 8, seed=13)
    torch.manual_seed(0)
    first = cluster_partners(coreset, generator=seeded(5))
    torch.manual_seed(1)
    assert torch.equal(first, cluster_partners(coreset, generator=seeded(5)))
    assert not torch.equal(first, cluster_partners(coreset, generator=seeded(6)))
    # One generator moves on from call to call.
    generator = seeded(5)
    draws = [cluster_partners(coreset, generator=generator) for _ in range(2)]
    assert torch.equal(draws[0], first)
    assert not torch.equal(draws[0], draws[1])
    assert cluster_partners(coreset).shape == (8,)


def test_partners_are_uniform_over_the_other_members() -> None:
    coreset = grouped([1, 2, 5, 9], seed=14)
    generator, draws = seeded(0), 3000
    partners = torch.stack([cluster_partners(coreset, generator=generator) for _ in range(draws)])
    for c, medoid in enumerate(coreset.indices.tolist()):
        others = [i for i in torch.nonzero(coreset.assignment == c).flatten().tolist() if i != medoid] or [medoid]
        counts = Counter(partners[:, c].tolist())
        assert set(counts) == set(others)
        p = 1 / len(others)
        sigma = math.sqrt(draws * p * (1 - p))
        for member in others:
            assert abs(counts[member] - draws * p) <= 4 * sigma, (c, member)


def test_partners_of_two_clusters_are_independent() -> None:
    coreset = grouped([3, 3], seed=15)
    generator, draws = seeded(0), 2000
    pairs = Counter(tuple(cluster_partners(coreset, generator=generator).tolist()) for _ in range(draws))
    assert len(pairs) == 4
    assert all(abs(count - draws / 4) <= 4 * math.sqrt(draws * 3 / 16) for count in pairs.values())
