"""Scores at the loss layer, the trimmed mean and the choice of the smallest scores, against PRL's definitions."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from noisylabels_pl.functional import forget_rate_schedule, keep_mask, loss_layer_gradient_norm, robust_mean

few = settings(derandomize=True, max_examples=50, deadline=None)
shapes = (st.integers(1, 9), st.integers(2, 7), st.integers(0, 10**6))


def batch(rows: int, classes: int, seed: int = 0, scale: float = 2.0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = scale * torch.randn(rows, classes, generator=generator, dtype=torch.float64)
    return logits, torch.randint(0, classes, (rows,), generator=generator)


def share_kept(rate: Fraction, rows: int) -> int:
    return max(1, math.floor((1 - rate) * rows))


# --- loss_layer_gradient_norm ---


@few
@given(*shapes, st.sampled_from([0.1, 2.0, 20.0]))
def test_cross_entropy_scores_are_norms_of_autograd(rows: int, classes: int, seed: int, scale: float) -> None:
    logits, target = batch(rows, classes, seed, scale)
    logits.requires_grad_()
    (gradient,) = torch.autograd.grad(F.cross_entropy(logits, target, reduction="sum"), logits)
    scores = loss_layer_gradient_norm(logits, target, "ce").detach()
    assert scores.shape == (rows,)
    torch.testing.assert_close(scores, gradient.norm(dim=1), rtol=1e-6, atol=1e-12)
    p = logits.detach().softmax(1)
    expected = p.square().sum(1) - 2 * p[torch.arange(rows), target] + 1
    torch.testing.assert_close(scores.square(), expected, rtol=1e-9, atol=1e-12)
    assert ((scores >= 0) & (scores <= math.sqrt(2) * (1 + 1e-12))).all()


def test_cross_entropy_is_the_default() -> None:
    logits, target = batch(9, 5)
    assert torch.equal(loss_layer_gradient_norm(logits, target), loss_layer_gradient_norm(logits, target, loss="ce"))


@few
@given(st.integers(1, 9), st.integers(1, 7), st.integers(0, 10**6))
def test_squared_error_scores_are_norms_of_autograd(rows: int, q: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    output, target = torch.randn(2, rows, q, generator=generator, dtype=torch.float64)
    output.requires_grad_()
    (gradient,) = torch.autograd.grad(0.5 * (output - target).square().sum(), output)
    scores = loss_layer_gradient_norm(output, target, "mse").detach()
    assert scores.shape == (rows,)
    torch.testing.assert_close(scores, gradient.norm(dim=1))


def test_squared_error_of_single_numbers() -> None:
    output, target = torch.tensor([1.0, -2.0, 3.0]), torch.tensor([0.5, 1.0, 3.0])
    expected = torch.tensor([0.5, 3.0, 0.0])
    torch.testing.assert_close(loss_layer_gradient_norm(output, target, "mse"), expected)
    torch.testing.assert_close(loss_layer_gradient_norm(output[:, None], target[:, None], "mse"), expected)


def test_scores_at_the_extremes() -> None:
    logits = torch.tensor([[1e4, 0.0, -1e4], [0.0, 0.0, 0.0]])
    for y, expected in ((0, 0.0), (1, math.sqrt(2)), (2, math.sqrt(2))):
        scores = loss_layer_gradient_norm(logits, torch.tensor([y, y]))
        assert scores[0].item() == pytest.approx(expected, abs=1e-6)
        assert scores[1].item() == pytest.approx(math.sqrt(2 / 3), rel=1e-6)


@pytest.mark.parametrize("doubt", [1e-3, 1e-4, 1e-5])
def test_small_scores_of_confident_samples_are_not_lost_to_cancellation(doubt: float) -> None:
    logits = torch.tensor([[math.log((1 - doubt) / doubt), 0.0]])
    score = loss_layer_gradient_norm(logits, torch.tensor([0])).item()
    assert score == pytest.approx(math.sqrt(2) * doubt, rel=0.02)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_half_types_are_promoted_and_others_stay(dtype: torch.dtype) -> None:
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    logits, target = batch(8, 5)
    logits = logits.to(dtype)
    scores = loss_layer_gradient_norm(logits, target)
    assert scores.dtype == wide
    torch.testing.assert_close(scores, loss_layer_gradient_norm(logits.to(wide), target))
    floats = batch(8, 5, seed=1)[0].to(dtype)
    scores = loss_layer_gradient_norm(logits, floats, "mse")
    assert scores.dtype == wide
    torch.testing.assert_close(scores, (logits.to(wide) - floats.to(wide)).norm(dim=1))


def test_outputs_of_autocast_against_targets_of_float32() -> None:
    output, target = batch(8, 5)[0].bfloat16(), batch(8, 5, seed=1)[0].float()
    scores = loss_layer_gradient_norm(output, target, "mse")
    assert scores.dtype == torch.float32
    torch.testing.assert_close(scores, (output.float() - target).norm(dim=1))


@pytest.mark.parametrize("other", [(4,), (4, 2), (1, 3), (3, 4), (4, 3, 1)])
def test_squared_error_refuses_other_shapes(other: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="target"):
        loss_layer_gradient_norm(torch.zeros(4, 3), torch.zeros(other), "mse")


def test_squared_error_does_not_broadcast_a_column() -> None:
    with pytest.raises(ValueError, match="target"):
        loss_layer_gradient_norm(torch.zeros(4, 1), torch.zeros(4), "mse")


def test_unknown_losses_are_refused() -> None:
    with pytest.raises(ValueError, match=r"(?s)\bloss\b.*\bce\b.*\bmse\b.*hinge"):
        loss_layer_gradient_norm(torch.zeros(2, 3), torch.zeros(2, dtype=torch.long), "hinge")  # type: ignore[arg-type]


# --- robust_mean ---


@few
@given(st.integers(1, 30), st.integers(1, 5), st.integers(0, 100), st.integers(0, 10**6))
def test_the_trimmed_mean_restated(rows: int, d: int, percent: int, seed: int) -> None:
    G = torch.randn(rows, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    kept = sorted(G.tolist(), key=lambda row: sum(x * x for x in row))[: share_kept(Fraction(percent, 100), rows)]
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
def test_other_shares_to_drop_are_refused(eps: float) -> None:
    with pytest.raises(ValueError, match=rf"\beps\b.*{eps}"):
        robust_mean(torch.ones(4, 2), eps)


# --- keep_mask ---


@few
@given(
    st.lists(st.integers(-3, 3) | st.floats(-3, 3, width=32), min_size=1, max_size=40),
    st.integers(0, 1000),
)
def test_the_smallest_are_kept_and_ties_go_to_the_earlier(scores: list[float], permille: int) -> None:
    mask = keep_mask(torch.tensor(scores, dtype=torch.float32), permille / 1000)
    order = sorted(range(len(scores)), key=lambda i: (scores[i], i))  # tensors above hold these values exactly
    expected = sorted(order[: share_kept(Fraction(permille, 1000), len(scores))])
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
            expected = share_kept(Fraction(percent, 100), rows)
            fooled += max(1, math.floor((1 - percent / 100) * rows)) != expected
            assert keep_mask(scores, percent / 100).sum() == expected, (rows, percent)
    assert fooled > 10  # the plain expression would not pass


def test_the_trimmed_mean_has_the_same_floor() -> None:
    for rows in (20, 100):
        G = torch.arange(1.0, rows + 1)[:, None].double()
        for percent in range(101):
            kept = share_kept(Fraction(percent, 100), rows)
            assert robust_mean(G, percent / 100).item() == pytest.approx((kept + 1) / 2), (rows, percent)


@pytest.mark.parametrize("forget", [0.2, 0.3, 0.45, 0.5, 0.7])
def test_the_floor_holds_along_the_ramp(forget: float) -> None:
    scores = torch.arange(1000.0)
    for epoch in range(12):
        rate = Fraction(str(forget)) * min(Fraction(epoch + 1, 10), 1)
        mask = keep_mask(scores, forget_rate_schedule(epoch, forget))
        assert mask.sum() == share_kept(rate, 1000), epoch


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
def test_other_rates_are_refused(rate: float) -> None:
    with pytest.raises(ValueError, match=rf"\bforget_rate\b.*{rate}"):
        keep_mask(torch.ones(4), rate)


# --- forget_rate_schedule ---


@few
@given(st.floats(0, 1), st.integers(1, 20), st.integers(0, 40))
def test_the_papers_ramp(rate: float, ramp: int, epoch: int) -> None:
    now = forget_rate_schedule(epoch, rate, ramp_epochs=ramp, schedule="paper")
    assert isinstance(now, float)
    assert now == pytest.approx(rate * min((epoch + 1) / ramp, 1))
    assert now <= rate


@few
@given(st.floats(0, 1), st.integers(1, 20), st.integers(0, 40))
def test_the_released_ramp(rate: float, ramp: int, epoch: int) -> None:
    table = np.full(41, rate)
    table[:ramp] = np.linspace(0, rate, ramp)
    now = forget_rate_schedule(epoch, rate, ramp_epochs=ramp, schedule="released")
    assert isinstance(now, float)
    assert now == pytest.approx(table[epoch])
    assert now <= rate


def test_ramps_by_hand() -> None:
    paper = [forget_rate_schedule(epoch, 0.5) for epoch in range(12)]
    assert paper == pytest.approx([0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.5, 0.5])
    released = [forget_rate_schedule(epoch, 0.5, schedule="released") for epoch in range(12)]
    assert released == pytest.approx([epoch / 18 for epoch in range(10)] + [0.5, 0.5])
    for schedule in ("paper", "released"):
        assert forget_rate_schedule(100, 0.3, schedule=schedule) == 0.3


def test_ramps_of_one_epoch_and_of_none() -> None:
    for schedule in ("paper", "released"):
        assert [forget_rate_schedule(epoch, 0.4, ramp_epochs=0, schedule=schedule) for epoch in range(3)] == [0.4] * 3
    assert [forget_rate_schedule(epoch, 0.4, ramp_epochs=1, schedule="paper") for epoch in range(3)] == [0.4] * 3
    assert [forget_rate_schedule(epoch, 0.4, ramp_epochs=1, schedule="released") for epoch in range(3)] == [
        0.0,
        0.4,
        0.4,
    ]


def test_other_ramps_are_refused() -> None:
    for schedule in ("paper", "released"):
        with pytest.raises(ValueError, match=r"\bramp_epochs\b.*-1"):
            forget_rate_schedule(0, 0.5, ramp_epochs=-1, schedule=schedule)
    with pytest.raises(ValueError, match=r"(?s)\bschedule\b.*\bpaper\b.*\breleased\b.*cosine"):
        forget_rate_schedule(0, 0.5, schedule="cosine")  # type: ignore[arg-type]
