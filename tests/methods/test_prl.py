"""PRL(L), PRL(G) and Co-PRL(L): the samples that they drop, and training on the rest."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import EMAWeightAveraging
from torch import Tensor, nn
from torch.nn import functional as F

from noisylabels_pl import (
    SPL,
    CoPRL,
    Crust,
    GCELoss,
    PRLGradient,
    PRLLossLayer,
    RobustLoss,
    indexed,
    per_sample_gradient_norms,
)
from noisylabels_pl.functional import keep_mask, loss_layer_gradient_norm
from tests.contract.methods import assert_same
from tests.core.filter_helpers import (
    LR,
    RATE,
    Make,
    Normalized,
    Plain,
    assert_a_loop_restates,
    assert_kept_samples_are_cleaner,
    assert_peers_choose_for_each_other,
    fit,
    problem,
)
from tests.helpers import WithCriterion, foreign_loader


@pytest.mark.parametrize("second_forward", [False, True])
@pytest.mark.parametrize(("method", "score"), [(PRLLossLayer, "loss_layer"), (PRLGradient, "gradient")])
@pytest.mark.parametrize("task", ["ce", "mse"])
def test_a_loop_that_restates_it(task: str, method: Any, score: str, second_forward: bool, make_trainer: Make) -> None:
    assert_a_loop_restates(method(RATE, second_forward=second_forward), score, task, second_forward, make_trainer)


@pytest.mark.parametrize("second_forward", [False, True])
@pytest.mark.parametrize("task", ["ce", "mse"])
def test_peers_choose_for_each_other(task: str, second_forward: bool, make_trainer: Make) -> None:
    assert_peers_choose_for_each_other(CoPRL, "loss_layer", task, second_forward, make_trainer)


@pytest.mark.parametrize("method", [PRLLossLayer, PRLGradient])
def test_kept_samples_are_cleaner_than_the_rest(
    method: Any, digits: Make, classifier: Make, make_trainer: Make
) -> None:
    assert_kept_samples_are_cleaner(method(0.4, ramp_epochs=2), digits, classifier, make_trainer)


def test_with_squared_errors_it_chooses_as_self_paced_learning_does(make_trainer: Make) -> None:
    fitted = []
    for method in (PRLLossLayer(RATE), SPL(RATE)):
        torch.manual_seed(0)
        fitted.append(fit(Plain(nn.MSELoss()), [method], problem("mse"), make_trainer))
    assert_same(fitted[0].state_dict(), fitted[1].state_dict())


def test_a_robust_loss_inside(make_trainer: Make) -> None:
    """The score of PRL(L) stays that of cross-entropy: wrong labels have small gradients of a robust loss."""
    fitted = []
    for order in (1, -1):
        torch.manual_seed(0)
        callbacks: list[L.Callback] = [PRLLossLayer(0.4), RobustLoss(GCELoss())]
        fitted.append(fit(Plain(), callbacks[::order], problem("ce"), make_trainer))
    assert_same(fitted[0].state_dict(), fitted[1].state_dict())
    torch.manual_seed(0)
    net, (x, y) = Plain().net, problem("ce")
    kept = keep_mask(loss_layer_gradient_norm(net(x[:20]), y[:20]), 0.4)
    module = fit(
        Plain(net=deepcopy(net)),
        [PRLLossLayer(0.4), RobustLoss(GCELoss())],
        (x[:20], y[:20]),
        make_trainer,
        max_epochs=1,
    )
    GCELoss()(net(x[:20][kept]), y[:20][kept]).backward()
    for after, before in zip(module.net.parameters(), net.parameters(), strict=True):
        torch.testing.assert_close(after, before - LR * before.grad, rtol=1e-5, atol=1e-6)


def test_gradients_over_all_parameters_are_taken_once(make_trainer: Make) -> None:
    module = Plain()
    fit(module, [PRLGradient(0.9, second_forward="auto")], problem("ce"), make_trainer)
    assert {len(x) for x in module.seen} == {20}


def test_batch_normalization_has_no_per_sample_gradients(make_trainer: Make) -> None:
    module = Plain(net=Normalized())
    with pytest.raises(ValueError, match=r"layer 'net\.2' is a BatchNorm1d.*convert_batchnorm=true"):
        fit(module, [PRLGradient(0.4)], problem("ce"), make_trainer)
    convert = PRLGradient(0.4, convert_batchnorm=True)
    with pytest.raises(ValueError, match="weight averaging has copied the module before PRLGradient could convert"):
        fit(module, [EMAWeightAveraging(), convert], problem("ce"), make_trainer)
    fit(module, [convert, EMAWeightAveraging()], problem("ce"), make_trainer)
    assert isinstance(module.net[2], nn.GroupNorm)
    assert module.net[2].weight.requires_grad
    assert not torch.equal(module.net[2].weight, torch.ones(32))  # the optimizer has the new parameters


class RecordsNorms(PRLGradient):
    """Records the gradient norms of each batch."""

    def __init__(self, forget_rate: float) -> None:
        super().__init__(forget_rate)
        self.norms: list[Tensor] = []

    def gradient_norms(self, losses: Tensor) -> Tensor:
        self.norms.append(super().gradient_norms(losses))
        return self.norms[-1]


def test_gradient_norms_under_mixed_precision(make_trainer: Make) -> None:
    torch.manual_seed(0)
    module, method = Plain(), RecordsNorms(0.4)
    net = deepcopy(module.net)
    x, y = problem("ce")
    fit(module, [method], (x[:20], y[:20]), make_trainer, max_epochs=1, precision="bf16-mixed")
    full = per_sample_gradient_norms(net, F.cross_entropy, x[:20], y[:20])
    assert method.norms[0].dtype == torch.float32
    torch.testing.assert_close(method.norms[0], full, rtol=0.02, atol=0)
    assert torch.equal(keep_mask(method.norms[0], 0.4), keep_mask(full, 0.4))


def test_two_criteria_in_one_step(make_trainer: Make) -> None:
    """Each call of the criterion has its own gradients, whatever forward passes came before it."""

    class Heads(Plain):
        def __init__(self) -> None:
            super().__init__(net=nn.Sequential(nn.Linear(64, 16), nn.ReLU()))
            self.a, self.b = nn.Linear(16, 10), nn.Linear(16, 10)

        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            x, y = batch
            hidden = self.net(x)
            loss = self.criterion(self.a(hidden), y) + 0.4 * self.criterion(self.b(hidden), y)
            with torch.no_grad():
                self.criterion(self.a(hidden), y)  # for a log
            return loss

    torch.manual_seed(0)
    module, method = Heads(), RecordsNorms(0.4)
    before = deepcopy(module)
    x, y = (values[:20] for values in problem("ce"))
    fit(module, [method], (x, y), make_trainer, max_epochs=1)
    assert len(method.norms) == 2
    for head, norms in zip((before.a, before.b), method.norms, strict=True):
        net = nn.Sequential(before.net, head)
        torch.testing.assert_close(norms, per_sample_gradient_norms(net, F.cross_entropy, x, y))


def test_refusals(make_trainer: Make, digits: Make) -> None:
    with pytest.raises(TypeError, match="forget_rate"):
        PRLLossLayer()  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="convert_batchnorm"):
        PRLLossLayer(0.2, convert_batchnorm=True)  # type: ignore[call-arg]
    x, y = problem("mse")
    with pytest.raises(TypeError, match=r"no closed form .* BCEWithLogitsLoss .* use PRLGradient"):
        fit(Plain(nn.BCEWithLogitsLoss()), [PRLLossLayer(0.2)], (x, (y > 0).float()), make_trainer)
    fit(Plain(nn.BCEWithLogitsLoss()), [PRLGradient(0.2)], (x, (y > 0).float()), make_trainer)
    message = r"PRLLossLayer and Crust cannot be combined: PRLLossLayer judges each sample, but Crust mixes"
    with pytest.raises(ValueError, match=message):
        fit(WithCriterion(), [PRLLossLayer(0.2), Crust()], indexed(foreign_loader(digits())), make_trainer)
