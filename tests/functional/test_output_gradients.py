"""The closed-form gradient of the cross entropy."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import cross_entropy

from noisylabels_pl.functional import logit_gradient

few = settings(derandomize=True, max_examples=30, deadline=None)


def batch(rows: int, classes: int, seed: int, scale: float = 1.0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = scale * torch.randn(rows, classes, generator=generator, dtype=torch.float64)
    return logits, torch.randint(0, classes, (rows,), generator=generator)


def test_by_hand() -> None:
    # softmax(log 1, log 2, log 5) = 1/8, 2/8, 5/8, and every class once as the target.
    logits = torch.tensor([1.0, 2.0, 5.0], dtype=torch.float64).log().expand(3, 3)
    got = logit_gradient(logits, torch.tensor([0, 1, 2]))
    expected = torch.tensor([[-7.0, 2.0, 5.0], [1.0, -6.0, 5.0], [1.0, 2.0, -3.0]], dtype=torch.float64) / 8
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-15)


@few
@given(st.integers(1, 9), st.integers(1, 7), st.integers(0, 10**6), st.sampled_from([0.1, 1.0, 30.0]))
def test_equals_autograd_of_the_summed_cross_entropy(rows: int, classes: int, seed: int, scale: float) -> None:
    logits, target = batch(rows, classes, seed, scale)
    leaf = logits.clone().requires_grad_()
    (expected,) = torch.autograd.grad(cross_entropy(leaf, target, reduction="sum"), leaf)
    torch.testing.assert_close(logit_gradient(logits, target), expected, rtol=1e-12, atol=1e-14)


@few
@given(st.integers(1, 9), st.integers(1, 7), st.integers(0, 10**6), st.floats(-50, 50))
def test_shifted_logits_and_log_probabilities_give_the_same(rows: int, classes: int, seed: int, shift: float) -> None:
    logits, target = batch(rows, classes, seed, 3.0)
    expected = logit_gradient(logits, target)
    torch.testing.assert_close(logit_gradient(logits + shift, target), expected, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(logit_gradient(logits.log_softmax(1), target), expected, rtol=1e-10, atol=1e-12)
    assert expected.sum(1).abs().max() < 1e-13
    own = expected.gather(1, target[:, None])
    assert (own <= 0).all()
    assert (expected.scatter(1, target[:, None], 0.0) >= 0).all()


def test_rows_do_not_see_each_other() -> None:
    # Per sample and not divided by the batch size: CRUST compares rows of different batches.
    logits, target = batch(16, 5, 0)
    whole = logit_gradient(logits, target)
    for i in range(16):
        torch.testing.assert_close(logit_gradient(logits[i : i + 1], target[i : i + 1])[0], whole[i])


def test_times_the_head_is_the_gradient_of_its_input() -> None:
    generator = torch.Generator().manual_seed(1)
    head = torch.nn.Linear(6, 4, dtype=torch.float64)
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    features = torch.randn(11, 6, generator=generator, dtype=torch.float64, requires_grad=True)
    target = torch.randint(0, 4, (11,), generator=generator)
    logits = head(features)
    (expected,) = torch.autograd.grad(cross_entropy(logits, target, reduction="sum"), features)
    got = logit_gradient(logits.detach(), target) @ head.weight.detach()
    torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_types_are_promoted_to_float32(dtype: torch.dtype) -> None:
    logits, target = batch(8, 10, 2, 4.0)
    low = logits.to(dtype)
    got = logit_gradient(low, target)
    assert got.dtype == torch.float32
    # The rounding of the input is the only one: against float64 on the same rounded logits.
    torch.testing.assert_close(got.double(), logit_gradient(low.double(), target), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_other_types_stay(dtype: torch.dtype) -> None:
    logits, target = batch(8, 10, 3)
    assert logit_gradient(logits.to(dtype), target).dtype == dtype


def test_autocast_does_not_change_it() -> None:
    logits, target = batch(8, 10, 4)
    plain = logit_gradient(logits.float(), target)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = logit_gradient(logits.float(), target)
    assert mixed.dtype == torch.float32
    torch.testing.assert_close(mixed, plain)


def test_extreme_logits_stay_finite() -> None:
    logits = torch.tensor([[1e4, -1e4, 0.0], [1e4, -1e4, 0.0], [-math.inf, 0.0, 0.0]])
    got = logit_gradient(logits, torch.tensor([0, 1, 2]))
    assert torch.equal(got, torch.tensor([[0.0, 0.0, 0.0], [1.0, -1.0, 0.0], [0.0, 0.5, -0.5]]))


def test_inputs_are_left_alone() -> None:
    logits, target = batch(8, 10, 5)
    before, labels = logits.clone(), target.clone()
    got = logit_gradient(logits, target)
    got.detach().zero_()  # nor may the result share memory with them
    assert torch.equal(logits, before)
    assert torch.equal(target, labels)
