"""Filtering by scores: the samples that are kept, means over them, and their label precision and recall."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from noisylabels_pl.functional import (
    forget_rate_schedule,
    keep_mask,
    label_precision_recall,
    robust_mean,
    selected_mean,
)

few = settings(derandomize=True, max_examples=50, deadline=None)


def num_kept(rate: Fraction, rows: int) -> int:
    return max(1, math.floor((1 - rate) * rows))


# --- keep_mask ---


@few
@given(
    st.lists(st.integers(-3, 3) | st.floats(-3, 3, width=32), min_size=1, max_size=40),
    st.integers(0, 1000),
)
def test_the_smallest_are_kept_and_ties_go_to_the_earlier(scores: list[float], permille: int) -> None:
    mask = keep_mask(torch.tensor(scores, dtype=torch.float32), permille / 1000)
    order = sorted(range(len(scores)), key=lambda i: (scores[i], i))  # tensors above hold these values exactly
    expected = sorted(order[: num_kept(Fraction(permille, 1000), len(scores))])
    assert mask.dtype == torch.bool
    assert mask.shape == (len(scores),)
    assert mask.nonzero().flatten().tolist() == expected


def test_ties_in_a_large_batch() -> None:
    scores = torch.randint(0, 3, (5000,), generator=torch.Generator().manual_seed(0)).float()
    mask = keep_mask(scores, 0.5)
    threshold = int(scores.sort().values[2499])
    at = (scores == threshold).nonzero().flatten()
    room = 2500 - int((scores < threshold).sum())
    assert 0 < room < len(at)
    assert mask.sum() == 2500
    assert mask[scores < threshold].all()
    assert mask[at[:room]].all()
    assert not mask[at[room:]].any()


@pytest.mark.parametrize(
    ("rate", "kept"), [(0.9, 1), (0.7, 3), (0.3, 7), (0.1, 9), (0.25, 7), (0.99, 1), (1.0, 1), (0.0, 10)]
)
def test_the_floor_by_hand(rate: float, kept: int) -> None:
    assert keep_mask(torch.arange(10.0), rate).tolist() == [True] * kept + [False] * (10 - kept)


def test_the_floor_is_not_fooled_by_rounding() -> None:
    fooled = 0
    for rows in (10, 20, 64, 100, 128, 200, 1000):
        scores = torch.arange(float(rows))
        for percent in range(101):
            expected = num_kept(Fraction(percent, 100), rows)
            fooled += max(1, math.floor((1 - percent / 100) * rows)) != expected
            assert keep_mask(scores, percent / 100).sum() == expected, (rows, percent)
    assert fooled > 10  # the plain expression would not pass


def test_the_trimmed_mean_has_the_same_floor() -> None:
    for rows in (20, 100):
        G = torch.arange(1.0, rows + 1)[:, None].double()
        for percent in range(101):
            kept = num_kept(Fraction(percent, 100), rows)
            assert robust_mean(G, percent / 100).item() == pytest.approx((kept + 1) / 2), (rows, percent)


@pytest.mark.parametrize("forget", [0.2, 0.3, 0.45, 0.5, 0.7])
def test_the_floor_holds_along_the_ramp(forget: float) -> None:
    scores = torch.arange(1000.0)
    for epoch in range(12):
        rate = Fraction(str(forget)) * min(Fraction(epoch + 1, 10), 1)
        mask = keep_mask(scores, forget_rate_schedule(epoch, forget))
        assert mask.sum() == num_kept(rate, 1000), epoch


def test_nan_and_infinity_go_first() -> None:
    scores = torch.tensor([math.nan, 5.0, math.inf, 1e30, -1.0])
    assert keep_mask(scores, 0.4).tolist() == [False, True, False, True, True]
    assert keep_mask(scores, 0.6).tolist() == [False, True, False, False, True]
    assert keep_mask(scores, 0.8).tolist() == [False, False, False, False, True]
    assert keep_mask(torch.full((4,), math.nan), 0.5).sum() == 2


@pytest.mark.parametrize("rate", [0.0, 0.5, 1.0])
def test_an_empty_batch_gives_an_empty_mask(rate: float) -> None:
    mask = keep_mask(torch.zeros(0), rate)
    assert mask.shape == (0,)
    assert mask.dtype == torch.bool


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_scores_of_any_precision_that_need_gradients(dtype: torch.dtype) -> None:
    scores = torch.tensor([3.0, 1.0, 2.0, 0.0], dtype=dtype, requires_grad=True)
    before = scores.detach().clone()
    mask = keep_mask(scores, 0.5)
    assert mask.tolist() == [False, True, False, True]
    assert torch.equal(scores.detach(), before)


@pytest.mark.parametrize("rate", [-0.1, 1.1, math.nan])
def test_forget_rate_out_of_range(rate: float) -> None:
    with pytest.raises(ValueError, match=rf"\bforget_rate\b.*{rate}"):
        keep_mask(torch.ones(4), rate)


# --- robust_mean ---


@few
@given(st.integers(1, 30), st.integers(1, 5), st.integers(0, 100), st.integers(0, 10**6))
def test_the_trimmed_mean_restated(rows: int, d: int, percent: int, seed: int) -> None:
    G = torch.randn(rows, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    kept = sorted(G.tolist(), key=lambda row: sum(x * x for x in row))[: num_kept(Fraction(percent, 100), rows)]
    before = G.clone()
    mean = robust_mean(G, percent / 100)
    torch.testing.assert_close(mean, torch.tensor(kept, dtype=torch.float64).mean(0), rtol=1e-12, atol=1e-14)
    assert torch.equal(G, before)


def test_the_trimmed_mean_by_hand() -> None:
    G = torch.tensor([[3.0, 4.0], [0.0, 100.0], [-1.0, 0.0], [6.0, 0.0], [0.0, 2.0]])
    torch.testing.assert_close(robust_mean(G, 0.4), torch.tensor([2.0, 6.0]) / 3)
    torch.testing.assert_close(robust_mean(G, 0.5), torch.tensor([-0.5, 1.0]))
    torch.testing.assert_close(robust_mean(G, 0.0), G.mean(0))
    torch.testing.assert_close(robust_mean(G, 1.0), torch.tensor([-1.0, 0.0]))


def test_nan_and_huge_rows_are_dropped_first() -> None:
    G = torch.tensor([[math.nan, 0.0], [1.0, 1.0], [1e6, 0.0], [2.0, 0.0]])
    torch.testing.assert_close(robust_mean(G, 0.25), (G[1] + G[2] + G[3]) / 3)
    torch.testing.assert_close(robust_mean(G, 0.5), torch.tensor([1.5, 0.5]))


@pytest.mark.parametrize("eps", [-0.1, 1.1, math.nan])
def test_eps_out_of_range(eps: float) -> None:
    with pytest.raises(ValueError, match=rf"\beps\b.*{eps}"):
        robust_mean(torch.ones(4, 2), eps)


# --- selected_mean ---


def test_the_mean_is_that_of_the_selected_losses() -> None:
    losses = torch.tensor([1.0, math.inf, 4.0, math.nan, 7.0], requires_grad=True)
    mean = selected_mean(losses, torch.tensor([True, False, True, False, True]))
    mean.backward()
    torch.testing.assert_close(mean.detach(), torch.tensor(4.0))
    assert losses.grad is not None
    torch.testing.assert_close(losses.grad, torch.tensor([1.0, 0.0, 1.0, 0.0, 1.0]) / 3)


@pytest.mark.parametrize("scale", [1.0, math.inf])
def test_nothing_selected_is_a_loss_of_zero_with_zero_gradients(scale: float) -> None:
    weight = torch.ones(3, requires_grad=True)
    losses = scale + weight
    mean = selected_mean(losses, torch.zeros(3, dtype=torch.bool))
    assert mean.shape == ()
    assert mean.item() == 0
    mean.backward()
    assert weight.grad is not None
    assert torch.equal(weight.grad, torch.zeros(3))


# --- label_precision_recall ---


def test_precision_and_recall_by_hand() -> None:
    is_clean = torch.tensor([True, False, True, False, False, True, True])
    precision, recall = label_precision_recall(torch.tensor([6, 1, 2]), is_clean)
    assert type(precision) is float
    assert type(recall) is float
    assert precision == pytest.approx(2 / 3)
    assert recall == pytest.approx(2 / 4)


@pytest.mark.parametrize(
    ("indices", "expected"),
    [([0, 1, 2, 3, 4], (0.4, 1.0)), ([1, 3], (1.0, 1.0)), ([3], (1.0, 0.5)), ([0, 2, 4], (0.0, 0.0))],
)
def test_precision_and_recall_at_the_ends_of_the_scale(indices: list[int], expected: tuple[float, float]) -> None:
    is_clean = torch.tensor([False, True, False, True, False])
    assert label_precision_recall(torch.tensor(indices), is_clean) == pytest.approx(expected)


@few
@given(st.lists(st.booleans(), min_size=1, max_size=20), st.data())
def test_precision_and_recall_equal_set_arithmetic(flags: list[bool], data: st.DataObject) -> None:
    rows = st.integers(0, len(flags) - 1)
    chosen = data.draw(st.lists(rows, unique=True), label="indices")
    precision, recall = label_precision_recall(torch.tensor(chosen, dtype=torch.int64), torch.tensor(flags))
    clean = {i for i, flag in enumerate(flags) if flag}
    hits = len(clean & set(chosen))
    assert precision == pytest.approx(hits / len(chosen) if chosen else math.nan, nan_ok=True)
    assert recall == pytest.approx(hits / len(clean) if clean else math.nan, nan_ok=True)


def test_an_empty_selection_has_no_precision() -> None:
    precision, recall = label_precision_recall(torch.tensor([], dtype=torch.int64), torch.tensor([True, False]))
    assert math.isnan(precision)
    assert recall == 0.0


def test_no_clean_rows_have_no_recall() -> None:
    precision, recall = label_precision_recall(torch.tensor([1]), torch.tensor([False, False]))
    assert precision == 0.0
    assert math.isnan(recall)


def test_nothing_selected_and_nothing_clean() -> None:
    precision, recall = label_precision_recall(torch.tensor([], dtype=torch.int64), torch.tensor([False, False]))
    assert math.isnan(precision)
    assert math.isnan(recall)


def test_large_counts_are_not_rounded() -> None:
    # A mean over float16 or a float32 running sum would stall here.
    n = 2**24 + 1
    precision, recall = label_precision_recall(torch.arange(n), torch.ones(n, dtype=torch.bool))
    assert (precision, recall) == (1.0, 1.0)
