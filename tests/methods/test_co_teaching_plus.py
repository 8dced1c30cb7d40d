"""Co-teaching+: its beginning is Co-teaching, then peers choose among the samples on which they disagree."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from noisylabels_pl import CoTeaching, CoTeachingPlus
from noisylabels_pl.data import Batch
from noisylabels_pl.functional import keep_candidates
from noisylabels_pl.methods.co_teaching_plus import DoubleSoftmax
from noisylabels_pl.nets import mlp

Make = Callable[..., Any]
SGD = partial(torch.optim.SGD, lr=0.1)


def make_pair(kind: Any = CoTeachingPlus, **options: Any) -> Any:
    torch.manual_seed(0)
    return kind(partial(mlp, (1, 8, 8), 10, hidden=(32,)), 10, SGD, **({"forget_rate": 0.4} | options))


@pytest.mark.parametrize("second_forward", [True, False])
def test_its_beginning_is_co_teaching(second_forward: bool, digits: Make, make_trainer: Make) -> None:
    fitted = []
    for pair in (
        make_pair(init_epochs=3, second_forward=second_forward),
        make_pair(CoTeaching, second_forward=second_forward),
    ):
        make_trainer(max_epochs=3).fit(pair, datamodule=digits())
        fitted.append(pair.state_dict())
    for name, value in fitted[0].items():
        assert torch.equal(value, fitted[1][name])


@pytest.mark.parametrize(("double_softmax", "mean_over"), [(True, "kept"), (False, "kept"), (False, "batch")])
def test_peers_choose_among_disagreeing_samples(double_softmax: bool, mean_over: str) -> None:
    pair = make_pair(init_epochs=0, ramp_epochs=0, double_softmax=double_softmax, mean_over=mean_over)
    x, y = torch.randn(32, 1, 8, 8), torch.randint(10, (32,))
    batch = Batch(x, y, torch.arange(32))
    pair.__class__ = type("AtEpoch0", (CoTeachingPlus,), {"current_epoch": 0})
    losses = pair.losses(batch)
    outputs = [pair.net.first(x), pair.net.second(x)]
    disagrees = outputs[0].argmax(1) != outputs[1].argmax(1)
    assert 1 < int(disagrees.sum()) < 32
    num_kept = int(0.6 * int(disagrees.sum()) + 1e-9)
    inputs = [output.softmax(1) if double_softmax else output for output in outputs]
    by_net = [F.cross_entropy(values, y, reduction="none") for values in inputs]
    for own, peer, loss, kept in zip(by_net, by_net[::-1], losses, batch.kept, strict=True):
        chosen = peer.masked_fill(~disagrees, torch.inf).argsort()[:num_kept]
        assert set(kept.nonzero().flatten().tolist()) == set(chosen.tolist())
        divisor = num_kept if mean_over == "kept" else 32
        torch.testing.assert_close(loss, own[chosen].sum() / divisor)


def test_networks_that_agree_do_not_change(digits: Make, make_trainer: Make) -> None:
    pair = make_pair(init_epochs=0)
    pair.net.second.load_state_dict(pair.net.first.state_dict())
    before = {name: value.clone() for name, value in pair.state_dict().items()}
    make_trainer(max_epochs=1).fit(pair, datamodule=digits())
    for name, value in pair.state_dict().items():
        assert torch.equal(value, before[name])


def test_keep_candidates_by_hand() -> None:
    scores = torch.tensor([5.0, torch.nan, 1.0, 1.0, 0.0, torch.inf])
    candidates = torch.tensor([True, True, True, True, False, True])
    kept = [
        keep_candidates(scores, candidates, rate).nonzero().flatten().tolist() for rate in (0.0, 0.2, 0.4, 0.8, 1.0)
    ]
    assert kept == [[0, 1, 2, 3, 5], [0, 2, 3, 5], [0, 2, 3], [2], [2]]
    assert not keep_candidates(scores, torch.zeros(6, dtype=torch.bool), 0.5).any()
    everything = torch.ones(10, dtype=torch.bool)
    assert int(keep_candidates(torch.rand(10), everything, 0.9).sum()) == 1


def test_options() -> None:
    with pytest.raises(ValueError, match="init_epochs must"):
        make_pair(init_epochs=-1)
    assert "all of it is plain Co-teaching" in make_pair(ramp_epochs=0).check_budget(20, 100)[0]
    assert float(DoubleSoftmax()(torch.tensor([[99.0] + [0.0] * 9]), torch.tensor([0]))) == pytest.approx(
        1.4612, abs=1e-4
    )
