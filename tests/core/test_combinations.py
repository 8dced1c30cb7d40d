"""Several callbacks in one fit: those that may be combined are, whatever their order, and the others are refused."""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import permutations
from typing import Any

import lightning as L
import pytest
import torch
from torch import Tensor, nn

from noisylabels_pl import Crust, GCELoss, RobustLoss
from noisylabels_pl.core import CriterionCallback, Needs
from noisylabels_pl.data import Batch
from noisylabels_pl.functional import generalized_cross_entropy
from tests.core.combined import fit, same_weights
from tests.helpers import WithCriterion

Make = Callable[..., Any]


class Trim(CriterionCallback):
    """Leaves out the half of a batch with the largest losses, as the loss before it has them."""

    needs = Needs(role="weights")

    def adjust_losses(self, losses: Tensor, logits: Tensor, target: Tensor, batch: Batch) -> Tensor:
        return 2 * losses * (losses <= losses.median())


class Remember(CriterionCallback):
    """Adds a penalty from a running average of each sample's predictions."""

    def __init__(self) -> None:
        super().__init__()
        self.averages = self.tables.add("averages")

    def adjust_losses(self, losses: Tensor, logits: Tensor, target: Tensor, batch: Batch) -> Tensor:
        probs = logits.softmax(1)
        old = self.averages.read(batch.index, probs)
        self.averages.write(batch.index, 0.7 * old + 0.3 * probs)
        return losses + (probs * self.averages.read(batch.index, probs)).sum(1)


def test_loss_weights_and_samples_in_any_order(digits: Make, make_trainer: Make) -> None:
    def make() -> list[L.Callback]:
        return [RobustLoss(GCELoss()), Trim(), Crust(warmup_epochs=1, selector="facility_location", weights="cluster")]

    together = [fit(digits, make_trainer, *order) for order in permutations(make())]
    assert same_weights(together)
    for left_out in range(3):
        callbacks = make()
        del callbacks[left_out]
        assert not same_weights([together[0], fit(digits, make_trainer, *callbacks)])


@pytest.mark.parametrize("crust_first", [True, False])
def test_the_value_of_a_loss_inside_a_coreset(digits: Make, make_trainer: Make, crust_first: bool) -> None:
    class Recomputes(WithCriterion):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            logits = self(batch.x)
            loss = self.criterion(logits, batch.y)
            if batch.partner is not None:
                share = crust.values_for("lam", batch).masked_fill(batch.partner.index == batch.index, 1)
                own, other = (generalized_cross_entropy(logits, y, 0.7) for y in (batch.y, batch.partner.y))
                weights = crust.values_for("weights", batch)
                checked.append((loss, (weights * (share * own + (1 - share) * other)).mean()))
            return loss

    checked: list[tuple[Tensor, Tensor]] = []
    crust = Crust(warmup_epochs=1, selector="facility_location", weights="cluster")
    callbacks = [crust, RobustLoss(GCELoss(q=0.7))]
    fit(digits, make_trainer, *callbacks[:: 1 if crust_first else -1], module=Recomputes)
    assert len(checked) > 4
    for loss, expected in checked:
        torch.testing.assert_close(loss, expected)


def test_a_record_of_each_sample_of_a_coreset(digits: Make, make_trainer: Make) -> None:
    remember = Remember()
    fit(digits, make_trainer, Crust(warmup_epochs=1, partner="none"), remember)
    visits = (remember.averages.rows.sum(1).double().neg().add(1).log() / torch.tensor(0.7).double().log()).round()
    assert visits.min() == 1  # the warm-up visited everybody
    assert visits.max() == 3
    assert 0.2 < (visits == 3).double().mean() <= 0.5


class TwoCriteria(WithCriterion):
    """Is trained with two criteria."""

    def __init__(self) -> None:
        super().__init__()
        self.auxiliary = nn.CrossEntropyLoss()

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, y = batch
        logits = self(x)
        first, second = self.criterion(logits, y), self.auxiliary(logits, y)
        self.seen = logits.detach(), y, first.detach(), second.detach()
        return first + second


def test_losses_for_two_criteria_of_one_module(digits: Make, make_trainer: Make) -> None:
    callbacks = [RobustLoss(GCELoss(q=q), criterion=name) for q, name in ((0.3, "criterion"), (0.9, "auxiliary"))]
    logits, y, first, second = fit(digits, make_trainer, *callbacks, module=TwoCriteria).seen
    torch.testing.assert_close(first, generalized_cross_entropy(logits, y, 0.3).mean())
    torch.testing.assert_close(second, generalized_cross_entropy(logits, y, 0.9).mean())


class Picky(Trim):
    def conflict(self, other: CriterionCallback) -> str | None:
        return "Picky needs the samples as they are" if isinstance(other, Crust) else None


class OtherLoss(GCELoss):
    """Another one."""


class OtherCrust(Crust):
    """Another one."""


@pytest.mark.parametrize(
    ("callbacks", "message"),
    [
        ((lambda: RobustLoss(GCELoss()), Remember), r"{0} and {1} cannot be combined: both replace the loss of each"),
        (
            (lambda: RobustLoss(GCELoss()), lambda: RobustLoss(OtherLoss())),
            "both replace the loss of each sample; leave",
        ),
        ((lambda: Crust(partner="none"), lambda: OtherCrust(partner="none")), "both choose the samples of an epoch"),
        ((Trim, type("OtherTrim", (Trim,), {})), "both weight the samples of a batch; leave one of them out"),
        (
            (Remember, lambda: Crust(warmup_epochs=1)),
            "Remember keeps a record of each sample, but Crust mixes samples; leave one of them out",
        ),
        ((Picky, lambda: Crust(warmup_epochs=1)), "Picky needs the samples as they are; leave one of them out"),
    ],
)
@pytest.mark.parametrize("reverse", [False, True])
def test_what_cannot_be_combined_is_refused(
    digits: Make, make_trainer: Make, callbacks: tuple[Callable[[], Any], ...], message: str, reverse: bool
) -> None:
    made = [make() for make in (callbacks[::-1] if reverse else callbacks)]
    names = [callback.state_key.split("[")[0] for callback in made]
    with pytest.raises(ValueError, match=message.format(*map(re.escape, names))):
        fit(digits, make_trainer, *made)


def test_two_of_a_kind_are_refused_by_lightning(make_trainer: Make) -> None:
    with pytest.raises(RuntimeError, match="more than one stateful callback of type `Crust`"):
        make_trainer(Crust(), Crust(fraction=0.3))
