"""Random partners from the same cluster."""

from __future__ import annotations

import math
from collections import Counter

import torch

from noisylabels_pl.functional import Coreset, centrality, cluster_partners, facility_location
from tests.functional.coreset.helpers import normal
from tests.functional.helpers import seeded


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
