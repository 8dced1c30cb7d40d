"""A filter for two networks: their second forward passes."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch

from noisylabels_pl import CoPRL, indexed
from tests.core.filter_helpers import LR, Make, RecordsPasses, fit, loader_of, problem


def make_pair(forget_rate: float, **options: Any) -> CoPRL:
    return CoPRL(RecordsPasses, 10, partial(torch.optim.SGD, lr=LR), forget_rate=forget_rate, **options)


@pytest.mark.parametrize("train_mode", [True, False])
@pytest.mark.parametrize("bf16", [True, False])
def test_the_scoring_pass(train_mode: bool, bf16: bool, make_trainer: Make) -> None:
    pair = make_pair(0.4, ramp_epochs=0, train_mode=train_mode, bf16_scoring=bf16, second_forward=True)
    fit(pair, [], indexed(loader_of(problem("ce"))), make_trainer, max_epochs=1)
    for net in (pair.net.first, pair.net.second):
        assert net.passes == [(20, train_mode, False, bf16), (12, True, True, False)] * 3


@pytest.mark.parametrize(("rate", "scope", "second"), [(0.3, "rank", []), (0.4, "rank", [3]), (0.4, "global", [])])
def test_auto_takes_a_second_forward_pass_where_it_is_faster(
    rate: float, scope: str, second: list[int], make_trainer: Make
) -> None:
    """A ramp over four epochs passes a third in the last one."""
    pair = make_pair(rate, ramp_epochs=4, second_forward="auto", scope=scope)
    fit(pair, [], indexed(loader_of(problem("ce"))), make_trainer, max_epochs=4)
    for net in (pair.net.first, pair.net.second):
        sizes = [size for size, *_ in net.passes]
        assert sizes == [size for epoch in range(4) for size in ([20, 12] if epoch in second else [20]) * 3]


@pytest.mark.parametrize("options", [{}, {"second_forward": True}], ids=["auto is the default", "always"])
def test_a_second_forward_pass_leaves_batch_normalization_two_samples(options: Any, make_trainer: Make) -> None:
    x, y = problem("ce")
    loader = indexed(loader_of((x[:22], y[:22])))  # batches of 20 and 2
    pair = make_pair(0.4, ramp_epochs=0, **options)
    fit(pair, [], loader, make_trainer, max_epochs=1)
    for net in (pair.net.first, pair.net.second):
        assert [size for size, *_ in net.passes] == [20, 12, 2]
