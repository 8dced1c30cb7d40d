"""Transition matrices: made, checked, counted, inverted, estimated and compared."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from noisylabels_pl.functional import (
    check_transition_matrix,
    corrupt_labels,
    empirical_transition_matrix,
    estimate_transition_matrix,
    transition_error,
    transition_matrix,
)
from noisylabels_pl.functional.transition import NoiseKind
from tests.functional.helpers import balanced, f64, noise, pair_counts, random_transition, seeded, simplex

few = settings(derandomize=True, max_examples=40, deadline=None)
CIFAR10_MAP = {9: 1, 2: 0, 4: 7, 3: 5, 5: 3}
PLAIN_KINDS: list[NoiseKind] = ["none", "sym", "sym_inclusive", "pairflip"]


# --- transition_matrix ---


def test_none_by_hand() -> None:
    assert torch.equal(transition_matrix("none", 3, 0.0), torch.eye(3, dtype=torch.float64))


def test_sym_by_hand() -> None:
    expected = f64([[0.7, 0.1, 0.1, 0.1], [0.1, 0.7, 0.1, 0.1], [0.1, 0.1, 0.7, 0.1], [0.1, 0.1, 0.1, 0.7]])
    torch.testing.assert_close(transition_matrix("sym", 4, 0.3), expected, rtol=0, atol=1e-15)


def test_sym_inclusive_by_hand() -> None:
    # Redrawn with probability 0.4 among all four, the true class too: 0.1 each, and 0.6 + 0.1 to stay.
    expected = 0.1 + 0.6 * torch.eye(4, dtype=torch.float64)
    torch.testing.assert_close(transition_matrix("sym_inclusive", 4, 0.4), expected, rtol=0, atol=1e-15)


def test_pairflip_by_hand() -> None:
    expected = f64([[0.75, 0.25, 0.0], [0.0, 0.75, 0.25], [0.25, 0.0, 0.75]])
    torch.testing.assert_close(transition_matrix("pairflip", 3, 0.25), expected, rtol=0, atol=1e-15)
    two = f64([[0.75, 0.25], [0.25, 0.75]])
    torch.testing.assert_close(transition_matrix("pairflip", 2, 0.25), two, rtol=0, atol=1e-15)


def test_asym_by_hand() -> None:
    expected = f64([[1.0, 0.0, 0.0, 0.0], [0.0, 0.6, 0.0, 0.4], [0.4, 0.0, 0.6, 0.0], [0.0, 0.4, 0.0, 0.6]])
    got = transition_matrix("asym", 4, 0.4, mapping={1: 3, 3: 1, 2: 0})
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-15)


def test_asym_mapping_is_not_modified() -> None:
    mapping = dict(CIFAR10_MAP)
    transition_matrix("asym", 10, 0.4, mapping=mapping)
    assert mapping == CIFAR10_MAP


@few
@given(st.sampled_from(PLAIN_KINDS), st.integers(2, 120), st.floats(0, 1))
def test_rows_are_distributions(kind: NoiseKind, classes: int, rate: float) -> None:
    T = transition_matrix(kind, classes, 0.0 if kind == "none" else rate)
    assert T.shape == (classes, classes)
    assert T.dtype == torch.float64
    assert (T >= 0).all()
    assert (T <= 1 + 1e-12).all()
    torch.testing.assert_close(T.sum(1), torch.ones(classes, dtype=torch.float64), rtol=0, atol=1e-12)
    assert torch.equal(check_transition_matrix(T, classes), T)


@few
@given(st.integers(2, 100), st.floats(0, 1))
def test_wrong_rate_of_each_kind(classes: int, rate: float) -> None:
    wrong: dict[NoiseKind, float] = {"sym": rate, "sym_inclusive": rate * (classes - 1) / classes, "pairflip": rate}
    for kind, expected in wrong.items():
        diagonal = transition_matrix(kind, classes, rate).diagonal()
        torch.testing.assert_close(1 - diagonal, torch.full_like(diagonal, expected), rtol=0, atol=1e-12)


@pytest.mark.parametrize("rate", [0.0, 1.0])
def test_both_ends_of_the_rate(rate: float) -> None:
    eye = torch.eye(5, dtype=torch.float64)
    others = (1 - eye) / 4
    assert torch.allclose(transition_matrix("sym", 5, rate), others if rate else eye, rtol=0, atol=1e-15)
    assert torch.equal(transition_matrix("pairflip", 5, rate), eye.roll(1, 1) if rate else eye)
    asym = eye[[0, 4, 2, 3, 4]] if rate else eye
    assert torch.equal(transition_matrix("asym", 5, rate, mapping={1: 4}), asym)


@pytest.mark.parametrize("kind", ["", "symmetric", "SYM", "pair"])
def test_unknown_kind(kind: str) -> None:
    with pytest.raises(ValueError, match="kind"):
        transition_matrix(kind, 4, 0.1)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", [*PLAIN_KINDS, "asym"])
@pytest.mark.parametrize("rate", [-0.1, 1.0001, 40.0, math.nan, math.inf])
def test_rate_out_of_range(kind: NoiseKind, rate: float) -> None:
    with pytest.raises(ValueError, match="rate"):
        transition_matrix(kind, 4, rate, mapping={0: 1} if kind == "asym" else None)


@pytest.mark.parametrize("kind", [*PLAIN_KINDS, "asym"])
@pytest.mark.parametrize("classes", [-1, 0, 1])
def test_fewer_than_two_classes(kind: NoiseKind, classes: int) -> None:
    with pytest.raises(ValueError, match="num_classes"):
        transition_matrix(kind, classes, 0.0, mapping={0: 0} if kind == "asym" else None)


@pytest.mark.parametrize("kind", PLAIN_KINDS)
def test_mapping_belongs_to_asym_only(kind: NoiseKind) -> None:
    with pytest.raises(ValueError, match="mapping"):
        transition_matrix(kind, 4, 0.0, mapping={0: 1})


def test_asym_needs_a_mapping() -> None:
    with pytest.raises(ValueError, match="mapping"):
        transition_matrix("asym", 4, 0.1)


@pytest.mark.parametrize("mapping", [{4: 0}, {0: 4}, {-1: 0}, {0: -1}, {0: 1, 2: 99}])
def test_mapping_names_a_class_that_does_not_exist(mapping: Mapping[int, int]) -> None:
    with pytest.raises(ValueError, match="mapping"):
        transition_matrix("asym", 4, 0.1, mapping=mapping)


# --- check_transition_matrix ---


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_check_returns_the_matrix_in_float64(dtype: torch.dtype) -> None:
    T = random_transition(10, 0).to(dtype)
    before = T.clone()
    got = check_transition_matrix(T, 10)
    assert got.dtype == torch.float64
    torch.testing.assert_close(got, T.double(), rtol=0, atol=1e-6)
    assert torch.equal(T, before)


@pytest.mark.parametrize("shape", [(6, 6), (8, 8), (7, 6), (6, 7), (7,), (49,), (1, 7, 7)])
def test_check_wrong_shape(shape: tuple[int, ...]) -> None:
    # Every row sums to 1, so that nothing but the shape is wrong.
    T = torch.zeros(shape, dtype=torch.float64)
    T[..., 0] = 1.0
    with pytest.raises(ValueError, match=r"\bT\b"):
        check_transition_matrix(T, 7)


def test_check_negative_entry() -> None:
    T = torch.eye(7, dtype=torch.float64)
    T[5, 0], T[5, 5] = -0.2, 1.2  # the row still sums to 1
    with pytest.raises(ValueError, match=r"\bT\b"):
        check_transition_matrix(T, 7)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_check_not_finite(bad: float) -> None:
    T = torch.eye(7, dtype=torch.float64)
    T[5, 3] = bad
    with pytest.raises(ValueError, match=r"\bT\b"):
        check_transition_matrix(T, 7)


@pytest.mark.parametrize("row", [0, 5, 36])
@pytest.mark.parametrize("total", [0.0, 0.99, 1.01])
def test_check_row_sum_names_the_row(row: int, total: float) -> None:
    T = transition_matrix("sym", 37, 0.3)
    T[row] *= total
    with pytest.raises(ValueError, match=rf"\b{row}\b"):
        check_transition_matrix(T, 37)


def test_check_columns_need_not_sum_to_one() -> None:
    T = f64([[1.0, 0.0], [0.9, 0.1]])
    assert torch.equal(check_transition_matrix(T, 2), T)
    with pytest.raises(ValueError, match=r"\bT\b"):
        check_transition_matrix(T.T, 2)


# --- empirical_transition_matrix ---


def test_empirical_by_hand() -> None:
    clean = torch.tensor([0, 0, 0, 0, 1, 1, 3])
    observed = torch.tensor([0, 1, 1, 3, 1, 0, 2])
    got = empirical_transition_matrix(clean, observed, 4)
    assert got.dtype == torch.float64
    # Nothing is of class 2: its row says that the label stays.
    expected = f64([[0.25, 0.5, 0.0, 0.25], [0.5, 0.5, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0], [0.0, 0.0, 1.0, 0.0]])
    assert torch.equal(got, expected)


def test_empirical_of_nothing_is_the_identity() -> None:
    nothing = torch.tensor([], dtype=torch.int64)
    assert torch.equal(empirical_transition_matrix(nothing, nothing, 3), torch.eye(3, dtype=torch.float64))


@pytest.mark.parametrize("kind", ["sym", "sym_inclusive", "pairflip"])
def test_empirical_undoes_an_exact_corruption(kind: NoiseKind) -> None:
    T = transition_matrix(kind, 5, 0.4)
    clean = balanced(5, 100)  # T * 100 is whole in every cell
    observed = corrupt_labels(clean, T, generator=seeded(13), exact=True)
    torch.testing.assert_close(empirical_transition_matrix(clean, observed, 5), T, rtol=0, atol=1e-12)


@few
@given(st.integers(2, 9), st.integers(0, 60), st.integers(0, 10**6))
def test_empirical_is_a_transition_matrix(classes: int, n: int, seed: int) -> None:
    clean, observed = torch.randint(0, classes, (2, n), generator=seeded(seed))
    T = empirical_transition_matrix(clean, observed, classes)
    assert torch.equal(check_transition_matrix(T, classes), T)
    counts = pair_counts(clean, observed, classes)
    for i in range(classes):
        total = int(counts[i].sum())
        expected = [int(c) / total for c in counts[i]] if total else [float(i == j) for j in range(classes)]
        assert T[i].tolist() == pytest.approx(expected, abs=1e-12)


# --- estimate_transition_matrix ---


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("quantile", "rank"), [(1.0, 5), (0.8, 4), (0.6, 3), (0.5, 3), (0.01, 1)])
def test_the_quantile_is_an_observed_sample(quantile: float, rank: int, dtype: torch.dtype) -> None:
    column = torch.tensor([0.3, 0.1, 0.9, 0.5, 0.2, 0.7], dtype=dtype)
    probs = torch.stack([column, 0.75 * (1 - column), 0.25 * (1 - column)], 1)
    ascending = probs[column.argsort()]
    expected = torch.stack([ascending[rank], *[ascending[5 - rank]] * 2])  # the others order the samples the other way
    torch.testing.assert_close(estimate_transition_matrix(probs, quantile=quantile), expected)


@few
@given(st.integers(1, 60), st.integers(2, 7), st.integers(0, 10**6), st.sampled_from(["auto", 0.313, 0.9, 1.0]))
def test_the_estimate_restated(rows: int, classes: int, seed: int, quantile: Any) -> None:
    probs = simplex(rows, classes, seed)
    got = estimate_transition_matrix(probs, quantile=quantile)
    for i in range(classes):
        q = 1 - 0.3 * float(probs[:, i].mean()) if quantile == "auto" else quantile
        chosen = probs[probs[:, i].argsort()[math.ceil(round(q * (rows - 1), 9))]]
        torch.testing.assert_close(got[i], chosen / chosen.sum(), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(got.sum(1), torch.ones(classes, dtype=torch.float64), rtol=0, atol=1e-14)
    order = torch.randperm(rows, generator=torch.Generator().manual_seed(seed))
    torch.testing.assert_close(estimate_transition_matrix(probs[order], quantile=quantile), got)
    assert estimate_transition_matrix(probs.float(), quantile=quantile).dtype == torch.float32


@pytest.mark.parametrize(("rows", "classes"), [(1000, 4), (57, 3), (1, 2)])
def test_the_estimate_strictly_below_the_percentile(rows: int, classes: int) -> None:
    """As in the public code: NumPy's 97th percentile, rounded up; the argmax of what is smaller."""
    probs = simplex(rows, classes, seed=3)
    probs[rows // 2 :] = probs[: rows - rows // 2].clone()  # ties
    got = estimate_transition_matrix(probs, quantile=0.97, strictly_below=True)
    for i in range(classes):
        column = probs[:, i].numpy().copy()
        column[column >= np.percentile(column, 97, method="higher")] = 0.0
        chosen = probs[int(np.argmax(column))]
        torch.testing.assert_close(got[i], chosen / chosen.sum(), rtol=1e-12, atol=1e-12)
    if rows == 1000:
        assert (got.diagonal() < estimate_transition_matrix(probs, quantile=0.97).diagonal()).all()


def observed_posteriors(T: Tensor, anchors: int, rows: int) -> Tensor:
    perfect = torch.eye(len(T), dtype=torch.float64).repeat(anchors, 1)
    return torch.cat([perfect, simplex(rows - len(perfect), len(T))]) @ T


@few
@given(st.integers(2, 7), st.integers(0, 10**6))
def test_theorem_3_anchor_points_give_the_matrix(classes: int, seed: int) -> None:
    T = noise(classes, seed)
    for anchors, rows, quantile in ((1, 100, 1.0), (40, 1000, 0.97)):
        got = estimate_transition_matrix(observed_posteriors(T, anchors, rows), quantile=quantile)
        torch.testing.assert_close(got, T, rtol=0, atol=1e-12)


def test_auto_finds_the_anchor_points_of_many_classes() -> None:
    T = transition_matrix("sym", 20, 0.4)
    probs = observed_posteriors(T, 40, 2000)  # 2 % of the samples for each class
    torch.testing.assert_close(estimate_transition_matrix(probs), T, rtol=0, atol=1e-12)
    assert ((estimate_transition_matrix(probs, quantile=0.97) - T).diagonal() < -0.01).all()


def test_invalid_estimates_are_refused() -> None:
    shapes = [torch.full(shape, 1 / 3) for shape in ((3,), (2, 3, 3), (0, 3))]
    values = [torch.tensor([row, [0.5, 0.5]]) for row in ([1.5, -0.5], [math.nan, 1.0], [0.5, 0.4], [2.0, 3.0])]
    for probs in shapes + values:
        with pytest.raises(ValueError, match="probs"):
            estimate_transition_matrix(probs)
    for quantile in (0, -0.1, 1.5, math.nan, "median"):
        with pytest.raises(ValueError, match=f"quantile.*{quantile}"):
            estimate_transition_matrix(simplex(5, 3), quantile=quantile)  # type: ignore[arg-type]


# --- transition_error ---


def test_the_error_by_hand() -> None:
    T = f64([[0.7, 0.2, 0.1], [0.0, 1.0, 0.0], [0.3, 0.3, 0.4]])
    estimate = torch.tensor([[0.6, 0.2, 0.2], [0.0, 1.0, 0.0], [0.0, 0.3, 0.7]])
    assert transition_error(estimate, T) == pytest.approx((0.1 + 0.0 + 0.3) / 3)


def test_the_error_of_equal_and_of_disjoint_rows() -> None:
    T = random_transition(6, 0)
    assert transition_error(T, T) == 0
    identity = torch.eye(6)
    assert transition_error(identity, identity.roll(1, 1)) == 1
