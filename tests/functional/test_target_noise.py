"""Corruption of regression targets, against the protocol of PRL's CelebA experiments."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from noisylabels_pl.functional import TARGET_CORRUPTIONS, corrupt_targets
from noisylabels_pl.functional.target_noise import TargetCorruption
from tests.functional.helpers import seeded

few = settings(derandomize=True, max_examples=25, deadline=None)
kinds = pytest.mark.parametrize("kind", TARGET_CORRUPTIONS)


def standardized(values: Tensor) -> Tensor:
    return (values - values.mean(0)) / values.std(0, correction=0)


def data(n: int = 200, q: int = 4, d: int = 6, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Skewed targets, so that minima and maxima differ in size; features with means and scales of their own."""
    generator = seeded(seed)
    targets = standardized(-torch.rand(n, q, generator=generator, dtype=torch.float64).log())
    scales = torch.logspace(-2, 2, d, dtype=torch.float64)
    return targets, 5 + scales * torch.randn(n, d, generator=generator, dtype=torch.float64)


def changed(old: Tensor, new: Tensor) -> Tensor:
    return (old != new).any(1)


@kinds
@few
@given(st.integers(3, 60), st.integers(2, 5), st.integers(0, 100), st.integers(0, 10**6))
def test_the_exact_number_of_rows_changes(kind: TargetCorruption, n: int, q: int, percent: int, seed: int) -> None:
    targets, features = data(n, q, seed=seed)
    old = targets.clone(), features.clone()
    new = corrupt_targets(targets, features, kind, rate=percent / 100, generator=seeded(seed))
    if percent * n % 100 != 50:  # which way a half is rounded is open
        assert changed(targets, new).sum() == (2 * percent * n + 100) // 200
    assert new.shape == targets.shape
    assert new.dtype == targets.dtype
    assert torch.equal(targets, old[0])
    assert torch.equal(features, old[1])


@kinds
def test_nothing_and_everything(kind: TargetCorruption) -> None:
    targets, features = data()
    for exact in (True, False):
        new = corrupt_targets(targets, features, kind, rate=0.0, generator=seeded(0), exact=exact)
        assert torch.equal(new, targets)
        assert new.data_ptr() != targets.data_ptr()
        new = corrupt_targets(targets, features, kind, rate=1.0, generator=seeded(0), exact=exact)
        assert changed(targets, new).all()


@kinds
def test_each_row_on_its_own(kind: TargetCorruption) -> None:
    targets, features = data(2000)
    counts = []
    for seed in range(8):
        new = corrupt_targets(targets, features, kind, rate=0.3, generator=seeded(seed), exact=False)
        counts.append(int(changed(targets, new).sum()))
    assert all(abs(count - 600) < 5 * math.sqrt(2000 * 0.3 * 0.7) for count in counts)
    assert len(set(counts)) > 2


@pytest.mark.parametrize("exact", [True, False])
def test_every_row_is_as_likely(exact: bool) -> None:
    targets, features = data(10)
    hits = torch.zeros(10)
    for seed in range(400):
        new = corrupt_targets(targets, features, "signflip", rate=0.3, generator=seeded(seed), exact=exact)
        hits += changed(targets, new)
    assert ((hits - 120).abs() < 5 * math.sqrt(400 * 0.3 * 0.7)).all()


@kinds
@pytest.mark.parametrize("exact", [True, False])
def test_the_generator_decides(kind: TargetCorruption, exact: bool) -> None:
    targets, features = data()

    def once(generator: torch.Generator | None) -> Tensor:
        return corrupt_targets(targets, features, kind, rate=0.4, generator=generator, exact=exact)

    state = torch.get_rng_state()
    first = once(seeded(1))
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(9)
    assert torch.equal(first, once(seeded(1)))
    assert not torch.equal(first, once(seeded(2)))
    torch.manual_seed(5)
    default = once(None)
    assert not torch.equal(default, once(None))
    torch.manual_seed(5)
    assert torch.equal(default, once(None))


@kinds
def test_single_precision_stays(kind: TargetCorruption) -> None:
    targets, features = (values.float() for values in data())
    new = corrupt_targets(targets, features, kind, rate=0.4, generator=seeded(0))
    assert new.dtype == torch.float32
    assert new.isfinite().all()
    assert changed(targets, new).sum() == 80


def test_signs_are_flipped() -> None:
    targets, features = data()
    new = corrupt_targets(targets, features, "signflip", rate=0.35, generator=seeded(0))
    rows = changed(targets, new)
    assert rows.sum() == 70
    assert torch.equal(new[rows], -targets[rows])


def test_pairs_are_flipped_to_the_next_coordinate() -> None:
    targets, features = data()
    new = corrupt_targets(targets, features, "pairflip", rate=0.35, generator=seeded(0))
    rows = changed(targets, new)
    assert rows.sum() == 70
    assert torch.equal(new[rows], targets[rows][:, [1, 2, 3, 0]])


@pytest.mark.parametrize("permutation", [[2, 3, 0, 1], (1, 0, 3, 2), [3, 0, 1, 2], [0, 2, 1, 3]])
def test_pairs_are_flipped_by_a_permutation(permutation: Any) -> None:
    targets, features = data()
    for seed in range(3):
        new = corrupt_targets(targets, features, "pairflip", rate=0.35, generator=seeded(seed), permutation=permutation)
        rows = changed(targets, new)
        assert rows.sum() == 70
        for j in range(4):
            assert torch.equal(new[rows][:, j], targets[rows][:, permutation[j]])


def test_uniform_noise_fills_each_coordinates_range() -> None:
    targets, features = data(4000, 3)
    low, high = targets.min(0).values, targets.max(0).values
    assert (high > -2 * low).all()  # not a symmetric range
    new = corrupt_targets(targets, features, "uninoise", rate=0.5, generator=seeded(0))
    rows = changed(targets, new)
    place = (new[rows] - low) / (high - low)
    assert ((place >= 0) & (place <= 1)).all()
    uniform = torch.arange(1, 2001, dtype=torch.float64)[:, None] / 2000
    assert (place.sort(0).values - uniform).abs().max() < 1.95 / math.sqrt(2000)  # Kolmogorov-Smirnov, p = 0.001
    together = torch.corrcoef(torch.cat([place, targets[rows]], 1).T) - torch.eye(6, dtype=torch.float64)
    assert together[:3].abs().max() < 5 / math.sqrt(2000)


@pytest.mark.parametrize("options", [{}, {"strength": 3.0}])
@pytest.mark.parametrize("rate", [0.2, 1.0])
def test_linear_adversary_is_one_map_of_the_features(rate: float, options: dict[str, float]) -> None:
    targets, features = data(400, 4, 6)
    new = corrupt_targets(targets, features, "linadv", rate=rate, generator=seeded(0), **options)
    rows, x = changed(targets, new), standardized(features)
    assert rows.sum() == rate * 400
    A = torch.linalg.lstsq(x[rows], new[rows]).solution
    torch.testing.assert_close(x[rows] @ A, new[rows], rtol=1e-8, atol=1e-8)  # no constant, and the same for all rows
    spread = (x @ A).std(0)
    torch.testing.assert_close(spread, torch.full_like(spread, options.get("strength", 15.0)), rtol=5e-3, atol=0)
    assert torch.linalg.matrix_rank(A) == 4
    other = corrupt_targets(targets, features, "linadv", rate=1.0, generator=seeded(1), **options)
    assert not torch.allclose(torch.linalg.lstsq(x, other).solution, A, rtol=0.1)


def test_linear_adversary_does_not_see_the_scale_of_the_features() -> None:
    targets, features = data()
    first = corrupt_targets(targets, features, "linadv", rate=0.4, generator=seeded(0))
    other = corrupt_targets(targets, 1000 * features - 7, "linadv", rate=0.4, generator=seeded(0))
    torch.testing.assert_close(first, other, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("kind", ["linadv", "mixture"])
def test_images_as_features_with_a_pixel_that_never_changes(kind: TargetCorruption) -> None:
    targets, _ = data(300, 3)
    images = torch.randint(0, 256, (300, 2, 3, 2), generator=seeded(0), dtype=torch.uint8)
    images[:, 0, 0, 0] = 17
    new = corrupt_targets(targets, images, kind, rate=0.5, generator=seeded(0))
    assert new.isfinite().all()
    assert changed(targets, new).sum() == 150
    flat = corrupt_targets(targets, images.flatten(1).double(), kind, rate=0.5, generator=seeded(0))
    torch.testing.assert_close(new, flat, rtol=1e-4, atol=1e-4)
    if kind == "linadv":
        rows, varying = changed(targets, new), torch.arange(12) != 0
        x = standardized(images.flatten(1).double()[:, varying])
        A = torch.linalg.lstsq(x[rows], new[rows]).solution
        spread = (x @ A).std(0)
        torch.testing.assert_close(spread, torch.full_like(spread, 15.0), rtol=5e-3, atol=0)


def test_the_mixture_has_thirds() -> None:
    targets, features = data(3000, 4)
    new = corrupt_targets(targets, features, "mixture", rate=0.8, generator=seeded(0))
    rows = changed(targets, new)
    assert rows.sum() == 2400
    old, x, new = targets[rows], standardized(features)[rows], new[rows]
    flipped = (new == -old).all(1)
    outside = ((new < targets.min(0).values) | (new > targets.max(0).values)).any(1) & ~flipped
    A = torch.linalg.lstsq(x[outside], new[outside]).solution
    linear = (x @ A - new).abs().amax(1) < 1e-6  # one map for all of them, those within the range as well
    assert linear[outside].all()
    spread = (standardized(features) @ A).std(0)
    torch.testing.assert_close(spread, torch.full_like(spread, 15.0), rtol=5e-3, atol=0)
    uniform = ~flipped & ~linear
    for kind in (flipped, linear, uniform):
        assert abs(int(kind.sum()) - 800) < 5 * math.sqrt(2400 * 2 / 9)
    low, high = targets.min(0).values, targets.max(0).values
    place = ((new - low) / (high - low))[uniform]
    assert (place.mean(0) - 0.5).abs().max() < 5 * math.sqrt(1 / 12 / 800)


@pytest.mark.parametrize("kind", ["signflip", "uninoise", "linadv", "mixture"])
def test_a_single_coordinate(kind: TargetCorruption) -> None:
    targets, features = data(100, 1)
    new = corrupt_targets(targets, features, kind, rate=0.4, generator=seeded(0))
    assert new.shape == (100, 1)
    assert changed(targets, new).sum() == 40


# --- errors ---


@pytest.mark.parametrize("rate", [-0.1, 1.1, math.nan])
def test_rate_out_of_range(rate: float) -> None:
    with pytest.raises(ValueError, match=rf"\brate\b.*{rate}"):
        corrupt_targets(*data(), "signflip", rate=rate)


def test_unknown_kinds_are_refused() -> None:
    with pytest.raises(ValueError, match=r"(?s)\bkind\b.*\bsignflip\b.*gauss"):
        corrupt_targets(*data(), "gauss", rate=0.1)  # type: ignore[arg-type]


@kinds
@pytest.mark.parametrize("targets", [torch.zeros(9), torch.zeros(9, 2, 2), torch.zeros(9, 2, dtype=torch.long)])
def test_other_targets_are_refused(kind: TargetCorruption, targets: Tensor) -> None:
    with pytest.raises(ValueError, match=r"\btargets\b"):
        corrupt_targets(targets, torch.randn(9, 3), kind, rate=0.1)


@pytest.mark.parametrize("permutation", [[0, 1, 2], [0, 1, 2, 3, 4], [0, 1, 1, 3], [1, 2, 3, 4], [0, 1, 2, -1]])
def test_other_permutations_are_refused(permutation: list[int]) -> None:
    with pytest.raises(ValueError, match=r"\bpermutation\b.*\b1, "):
        corrupt_targets(*data(), "pairflip", rate=0.1, permutation=permutation)


def test_a_single_coordinate_has_no_pair() -> None:
    with pytest.raises(ValueError, match="pairflip"):
        corrupt_targets(*data(20, 1), "pairflip", rate=0.1)


@pytest.mark.parametrize("value", [0.0, 0.1])
def test_constant_features_have_no_linear_function(value: float) -> None:
    targets, features = torch.arange(6.0).view(3, 2), torch.full((3, 4), value)
    with pytest.raises(ValueError, match="kind='linadv' needs features that vary"):
        corrupt_targets(targets, features, "linadv", rate=0.5)
