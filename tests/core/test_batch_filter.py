"""The samples of a batch that a filter keeps, and the options that do not go together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from noisylabels_pl import SPL, CoPRL, PRLGradient, PRLLossLayer
from noisylabels_pl.core import BatchFilter, masked_losses
from noisylabels_pl.core.batch_filter import stop_bad_gradients
from tests.contract.methods import record
from tests.processes import run_on_two_ranks


def test_kept_samples_and_their_fraction() -> None:
    scores = torch.tensor([3.0, 1.0, 2.0, 5.0, 4.0])
    batch_filter = BatchFilter(0.4)
    kept, kept_fraction = batch_filter.keep(scores, 0)
    assert kept.tolist() == [True, True, True, False, False]
    assert kept_fraction == pytest.approx(0.6)
    assert batch_filter.keep_indices(scores, 0).tolist() == [0, 1, 2]


def test_the_mean_of_masked_losses_is_the_mean_of_the_kept() -> None:
    losses = torch.tensor([1.0, float("inf"), 4.0], requires_grad=True)
    kept = torch.tensor([True, False, True])
    mean = masked_losses(losses, kept, kept.float().mean()).mean()
    mean.backward()
    torch.testing.assert_close(mean.detach(), torch.tensor(2.5))
    assert losses.grad is not None
    torch.testing.assert_close(losses.grad, torch.tensor([0.5, 0.0, 0.5]))


def test_an_infinite_derivative_of_a_dropped_loss_is_stopped() -> None:
    """The derivative of log(p) at 0 is infinite, and NaN times the gradient 0."""
    weights = torch.tensor([1.0, 0.0, 2.0], requires_grad=True)
    kept = torch.tensor([True, False, True])
    probs = 2 * weights
    stop_bad_gradients(probs, kept)
    (masked_losses(-probs.log(), kept, kept.float().mean()).mean() + probs.sum()).backward()
    assert weights.grad is not None
    torch.testing.assert_close(weights.grad, torch.tensor([1.5, 0.0, 1.75]))


@pytest.mark.parametrize(("rate", "scope", "second"), [(0.3, "rank", []), (0.4, "rank", [3]), (0.4, "global", [])])
def test_auto_takes_a_second_forward_pass_where_it_is_faster(rate: float, scope: Any, second: list[int]) -> None:
    """A ramp over four epochs passes a third in the last one."""
    batch_filter = BatchFilter(rate, ramp_epochs=4, second_forward="auto", scope=scope)
    assert [epoch for epoch in range(4) if batch_filter.uses_second_forward(epoch, 20)] == second
    assert not batch_filter.uses_second_forward(3, 3)  # batch normalization has no statistics of one sample


def make_batch_filter(**options: Any) -> Any:
    return BatchFilter(**options)


def make_twin(**options: Any) -> Any:
    return CoPRL(lambda: nn.Linear(2, 2), 2, torch.optim.Adam, **options)


@pytest.mark.parametrize("make", [make_batch_filter, PRLLossLayer, PRLGradient, SPL, make_twin])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"forget_rate": 1.2}, r"forget_rate must lie in \[0, 1\], got 1.2"),
        ({"forget_rate": -0.1}, r"forget_rate must lie in \[0, 1\], got -0.1"),
        ({"forget_rate": None}, "forget_rate is not known, .* give one: method.forget_rate=0.2"),
        ({"scope": "all"}, "scope must be one of rank, global"),
        ({"schedule": "linear"}, "schedule must be one of paper, released"),
        ({"ramp_epochs": -1}, "ramp_epochs must not be negative"),
        ({"second_forward": "yes"}, "second_forward must be one of True, False, auto, got 'yes'"),
        ({"second_forward": True, "scope": "global"}, "scope='global' may leave a process without samples"),
        ({"second_forward": False, "bf16_scoring": True}, "that second_forward adds, but second_forward is False"),
        ({"second_forward": False, "train_mode": False}, "that second_forward adds, but second_forward is False"),
    ],
)
def test_wrong_options(make: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(**({"forget_rate": 0.2} | options))


@pytest.mark.parametrize("make", [make_batch_filter, PRLLossLayer, PRLGradient, SPL, make_twin])
def test_unknown_options(make: Any) -> None:
    with pytest.raises(TypeError, match="score"):
        make(forget_rate=0.2, score="loss")


@pytest.mark.processes
@pytest.mark.parametrize("method", ["prl_l", "prl_g", "co_prl_l"])
def test_the_global_scope_equals_one_process(method: str, tmp_path: Path) -> None:
    """So gradient norms under DDP do, too."""
    overrides = ("method.scope=global", "data.batch_size=32", "trainer.max_epochs=3")
    two, _ = run_on_two_ranks(record, method, tmp_path / "two", "trainer=ddp_cpu", *overrides, folder=tmp_path)
    one = record(method, tmp_path / "one", *overrides)
    torch.testing.assert_close(two["weights"], one["weights"], rtol=1e-3, atol=1e-5)
    for name in ("selection/precision", "selection/recall"):
        assert two["history"][name] == pytest.approx(one["history"][name], abs=1e-6)
