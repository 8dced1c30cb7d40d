"""Corruption of class labels: frequencies, exact counts, and the generator."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from noisylabels_pl.functional import corrupt_labels, transition_matrix
from noisylabels_pl.functional.transition import NoiseKind
from tests.functional.helpers import balanced, f64, pair_counts, random_transition, seeded

few = settings(derandomize=True, max_examples=40, deadline=None)
CIFAR10_MAP = {9: 1, 2: 0, 4: 7, 3: 5, 5: 3}


def assert_frequencies(T: Tensor, clean: Tensor, observed: Tensor, sigmas: float = 4.0) -> None:
    """Counts within some sigma of the binomial; where T is 0 or 1 sigma is 0, so those cells must be exact."""
    classes = len(T)
    totals = torch.bincount(clean, minlength=classes)[:, None].double()
    sigma = (totals * T * (1 - T).clamp(min=0)).sqrt()
    gap = (pair_counts(clean, observed, classes) - totals * T).abs()
    assert (gap <= sigmas * sigma + 1e-6).all(), (gap / sigma).nan_to_num().max()


@pytest.mark.parametrize(
    ("kind", "mapping"),
    [("none", None), ("sym", None), ("sym_inclusive", None), ("pairflip", None), ("asym", CIFAR10_MAP)],
)
def test_frequencies_follow_the_matrix(kind: NoiseKind, mapping: Mapping[int, int] | None) -> None:
    T = transition_matrix(kind, 10, 0.0 if kind == "none" else 0.4, mapping=mapping)
    clean = balanced(10, 5000)
    assert_frequencies(T, clean, corrupt_labels(clean, T, generator=seeded(0)))


@few
@given(st.integers(2, 12), st.integers(0, 10**6))
def test_frequencies_follow_any_matrix(classes: int, seed: int) -> None:
    T = random_transition(classes, seed)
    clean = torch.randint(0, classes, (4000,), generator=seeded(seed + 1))
    # 40 matrices of up to 144 cells: one cell beyond 4 sigma would be no surprise, one beyond 5.5 would.
    assert_frequencies(T, clean, corrupt_labels(clean, T, generator=seeded(seed)), sigmas=5.5)


def test_samples_are_corrupted_independently() -> None:
    # Neighbors of one class: both flipped with probability 0.25, as often as only the first or only the second.
    clean = torch.zeros(40_000, dtype=torch.int64)
    T = transition_matrix("sym", 2, 0.5)
    pairs = corrupt_labels(clean, T, generator=seeded(1)).reshape(-1, 2)
    counts = torch.bincount(pairs[:, 0] * 2 + pairs[:, 1], minlength=4)
    assert ((counts - 5000).abs() <= 4 * math.sqrt(20_000 * 3 / 16)).all()


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("classes", [2, 3, 10])
def test_sym_at_rate_one_keeps_no_label(classes: int, exact: bool) -> None:
    clean = balanced(classes, 3001)
    observed = corrupt_labels(clean, transition_matrix("sym", classes, 1.0), generator=seeded(2), exact=exact)
    assert (observed != clean).all()
    assert observed.min() == 0
    assert observed.max() == classes - 1


@pytest.mark.parametrize("exact", [False, True])
def test_pairflip_at_rate_one_is_the_shift(exact: bool) -> None:
    clean = balanced(7, 100)
    observed = corrupt_labels(clean, transition_matrix("pairflip", 7, 1.0), generator=seeded(3), exact=exact)
    assert torch.equal(observed, (clean + 1) % 7)


@pytest.mark.parametrize("exact", [False, True])
def test_identity_keeps_every_label_in_a_new_tensor(exact: bool) -> None:
    clean = balanced(4, 50)
    observed = corrupt_labels(clean, torch.eye(4, dtype=torch.float64), generator=seeded(4), exact=exact)
    assert torch.equal(observed, clean)
    assert observed.data_ptr() != clean.data_ptr()


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_class_of_probability_zero_is_never_drawn(exact: bool, dtype: torch.dtype) -> None:
    # First and last column 0, and holes in between; tenths and thirds do not sum to 1 exactly.
    row = torch.tensor([0.0, 0.1, 0.1, 0.0, 0.1, 1 / 3, 0.1, 0.1, 1 / 6, 0.0], dtype=dtype)
    T = row.repeat(10, 1)
    observed = corrupt_labels(balanced(10, 100_003), T, generator=seeded(5), exact=exact)
    assert set(observed.unique().tolist()) == {1, 2, 4, 5, 6, 7, 8}


@pytest.mark.parametrize("exact", [False, True])
def test_only_the_middle_class_is_possible(exact: bool) -> None:
    T = f64([[0.0, 1.0, 0.0]] * 3)
    assert (corrupt_labels(balanced(3, 10_000), T, generator=seeded(6), exact=exact) == 1).all()


def test_wrong_rate_of_sym_inclusive() -> None:
    clean = balanced(10, 1000)
    T = transition_matrix("sym_inclusive", 10, 0.5)
    wrong = corrupt_labels(clean, T, generator=seeded(7), exact=True) != clean
    assert wrong.sum() == 4500  # 0.5 * 9/10, not 0.5
    wrong = corrupt_labels(clean, T, generator=seeded(7)) != clean
    assert abs(int(wrong.sum()) - 4500) <= 4 * math.sqrt(10_000 * 0.45 * 0.55)


def test_cat_dog_swap_has_no_double_flips() -> None:
    # Corrupting class after class in place would send some cats to dog and back again: 24 % wrong instead of 40 %.
    clean = balanced(10, 500)
    T = transition_matrix("asym", 10, 0.4, mapping=CIFAR10_MAP)
    counts = pair_counts(clean, corrupt_labels(clean, T, generator=seeded(8), exact=True), 10)
    assert torch.equal(counts, (500 * T).round().long())
    assert counts[3, 5] == counts[5, 3] == 200
    assert counts[3, 3] == counts[5, 5] == 300
    drawn = pair_counts(clean, corrupt_labels(clean, T, generator=seeded(8)), 10)
    assert all(abs(int(drawn[i, j]) - 200) <= 4 * math.sqrt(500 * 0.24) for i, j in [(3, 5), (5, 3)])


def test_exact_rounds_by_largest_remainder() -> None:
    # Ten labels of class 0 expect 5.7, 2.6, 1.7: floors 5, 2, 1, and the two left over go to the two .7.
    # Seven of class 1 expect 0.7, 5.6, 0.7; floors 0, 5, 0 leave two, again to the .7. Class 2 has one label.
    T = f64([[0.57, 0.26, 0.17], [0.1, 0.8, 0.1], [0.2, 0.3, 0.5]])
    clean = torch.tensor([0, 1, 0, 0, 1, 1, 2, 0, 0, 1, 0, 1, 0, 0, 1, 0, 1, 0])
    for seed in range(5):
        counts = pair_counts(clean, corrupt_labels(clean, T, generator=seeded(seed), exact=True), 3)
        assert counts.tolist() == [[6, 2, 2], [1, 5, 1], [0, 0, 1]]


@few
@given(st.integers(2, 12), st.integers(1, 300), st.integers(0, 10**6))
def test_exact_counts(classes: int, n: int, seed: int) -> None:
    T = random_transition(classes, seed)
    clean = torch.randint(0, classes, (n,), generator=seeded(seed + 1))
    counts = pair_counts(clean, corrupt_labels(clean, T, generator=seeded(seed), exact=True), classes)
    totals = torch.bincount(clean, minlength=classes)
    assert torch.equal(counts.sum(1), totals)
    over = counts - totals[:, None] * T
    assert over.abs().max() < 1 + 1e-9
    assert (counts[T == 0] == 0).all()
    # Largest remainder: no cell rounded up had a smaller remainder than a cell rounded down.
    assert (over.amax(1) - over.amin(1)).max() <= 1 + 1e-9


def test_exact_flips_every_position_equally_often() -> None:
    clean, draws = torch.tensor([0] * 20 + [1] * 5), 600
    T = transition_matrix("sym", 3, 0.4)
    observed = torch.stack([corrupt_labels(clean, T, generator=seeded(s), exact=True) for s in range(draws)])
    flipped = (observed != clean).sum(0).double()
    assert ((flipped - 0.4 * draws).abs() <= 4.5 * math.sqrt(draws * 0.24)).all()
    # And both wrong classes everywhere: 4 of the 20 zeros become class 2 in every draw.
    twos = (observed[:, :20] == 2).sum(0).double()
    assert ((twos - 0.2 * draws).abs() <= 4.5 * math.sqrt(draws * 0.16)).all()


def test_exact_draws_every_subset_equally_often() -> None:
    # Two of four labels flip: six subsets. A rotated or strided pattern would reach only some of them.
    clean, draws = torch.zeros(4, dtype=torch.int64), 1200
    T, generator = transition_matrix("sym", 2, 0.5), seeded(14)
    subsets = Counter(tuple(corrupt_labels(clean, T, generator=generator, exact=True).tolist()) for _ in range(draws))
    assert len(subsets) == 6
    assert all(abs(count - draws / 6) <= 4 * math.sqrt(draws * 5 / 36) for count in subsets.values())


@pytest.mark.parametrize("exact", [False, True])
def test_result_follows_the_generator_only(exact: bool) -> None:
    clean = balanced(5, 100)
    T = transition_matrix("sym", 5, 0.5)
    torch.manual_seed(0)
    first = corrupt_labels(clean, T, generator=seeded(9), exact=exact)
    torch.manual_seed(1)
    assert torch.equal(first, corrupt_labels(clean, T, generator=seeded(9), exact=exact))
    assert not torch.equal(first, corrupt_labels(clean, T, generator=seeded(10), exact=exact))
    # One generator moves on from call to call.
    generator = seeded(9)
    draws = [corrupt_labels(clean, T, generator=generator, exact=exact) for _ in range(2)]
    assert torch.equal(draws[0], first)
    assert not torch.equal(draws[0], draws[1])


@pytest.mark.parametrize("exact", [False, True])
def test_without_a_generator(exact: bool) -> None:
    clean = balanced(5, 100)
    observed = corrupt_labels(clean, transition_matrix("sym", 5, 1.0), exact=exact)
    assert observed.shape == clean.shape
    assert (observed != clean).all()


@pytest.mark.parametrize("exact", [False, True])
def test_inputs_are_left_alone(exact: bool) -> None:
    clean, T = balanced(6, 40), transition_matrix("sym", 6, 0.8)
    labels, matrix = clean.clone(), T.clone()
    observed = corrupt_labels(clean, T, generator=seeded(11), exact=exact)
    assert observed.dtype == torch.int64
    assert observed.shape == clean.shape
    assert torch.equal(clean, labels)
    assert torch.equal(T, matrix)


@pytest.mark.parametrize("exact", [False, True])
def test_classes_without_samples(exact: bool) -> None:
    clean = torch.full((1000,), 2)
    observed = corrupt_labels(clean, transition_matrix("pairflip", 5, 0.3), generator=seeded(12), exact=exact)
    assert set(observed.tolist()) == {2, 3}


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("bad", [-1, 5, 1000])
@pytest.mark.parametrize("row", [0, 37, 49])
def test_label_outside_the_classes_names_the_row(row: int, bad: int, exact: bool) -> None:
    clean = balanced(5, 10)
    clean[row] = bad
    with pytest.raises(ValueError, match=rf"\b{row}\b"):
        corrupt_labels(clean, transition_matrix("sym", 5, 0.2), exact=exact)


def test_rows_that_do_not_sum_to_one_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\bT\b"):
        corrupt_labels(torch.tensor([0, 1]), f64([[0.5, 0.4], [0.0, 1.0]]))
