"""Truncated generalized cross-entropy: whom it leaves out, and when it chooses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from noisylabels_pl import Crust, GCELoss, RobustLoss, TruncatedGCE, indexed
from noisylabels_pl.callbacks import History
from noisylabels_pl.functional import generalized_cross_entropy
from tests.core.combined import fit, same_weights
from tests.helpers import WithCriterion, foreign_loader

Make = Callable[..., Any]


class Watches(WithCriterion):
    """Keeps what each step has seen."""

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, y = batch
        logits = self(x)
        loss = self.criterion(logits, y)
        self.seen = [*getattr(self, "seen", []), (self.current_epoch, batch.index, logits.detach(), y, loss.detach())]
        return loss


def test_samples_are_chosen_in_some_epochs_and_stay_out_in_between(digits: Make, make_trainer: Make) -> None:
    class Epochs(TruncatedGCE):
        """Keeps the table of each epoch."""

        def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
            super().on_train_epoch_end(trainer, pl_module)
            tables.append(self.kept.rows.clone() if self.kept.rows is not None else None)

    tables: list[Any] = []
    torch.manual_seed(0)
    module = Watches()
    loader = indexed(foreign_loader(digits()), as_batches=True)
    make_trainer(Epochs(k=0.3, start_epoch=2, every=2), max_epochs=6).fit(module, loader)
    assert (tables[1] == 1).all()
    assert 0.1 < tables[2].mean() < 1
    assert torch.equal(tables[2], tables[3])
    assert not torch.equal(tables[3], tables[4])
    assert torch.equal(tables[4], tables[5])
    for epoch, index, logits, y, loss in module.seen:
        losses = generalized_cross_entropy(logits, y, 0.7)
        threshold = (1 - 0.3**0.7) / 0.7
        is_kept = tables[epoch][index] > 0
        torch.testing.assert_close(loss, torch.where(is_kept, losses, threshold).mean())
        if epoch in (2, 4):
            assert torch.equal(is_kept, logits.softmax(1).gather(1, y[:, None]).squeeze(1) > 0.3)


@pytest.mark.parametrize("options", [{"start_epoch": 3}, {"start_epoch": 0, "k": 0.0}])
def test_before_its_start_or_without_a_threshold_it_is_gce(
    digits: Make, make_trainer: Make, options: dict[str, Any]
) -> None:
    modules = [fit(digits, make_trainer, callback) for callback in (TruncatedGCE(**options), RobustLoss(GCELoss()))]
    assert same_weights(modules)


def test_wrong_labels_are_left_out(digits: Make, classifier: Make, make_trainer: Make) -> None:
    datamodule, method, history = digits(train_size=1000), TruncatedGCE(start_epoch=15, every=5), History()
    make_trainer(method, history, max_epochs=20).fit(classifier(), datamodule=datamodule)
    right = datamodule.clean_targets == datamodule.labels.observed[datamodule.train_indices]
    kept = method.kept.rows
    assert kept[right].mean() > 0.9
    assert kept[~right].mean() < 0.3


def test_a_start_after_the_fit_is_told(digits: Make, make_trainer: Make) -> None:
    method = TruncatedGCE(start_epoch=40)
    fit(digits, make_trainer, method)
    assert method.warnings == ["no sample is left out: start_epoch=40 is after 3 epochs"]


def test_refusals(digits: Make, make_trainer: Make) -> None:
    class Weighted(WithCriterion):
        def __init__(self) -> None:
            super().__init__()
            self.criterion = torch.nn.CrossEntropyLoss(weight=torch.ones(10))

    with pytest.raises(ValueError, match=r"CrossEntropyLoss has class weights .*, which TruncatedGCE would ignore"):
        fit(digits, make_trainer, TruncatedGCE(), module=Weighted)
    with pytest.raises(ValueError, match="TruncatedGCE keeps a record of each sample, but Crust mixes samples"):
        fit(digits, make_trainer, TruncatedGCE(), Crust(warmup_epochs=1))
    for options, message in (
        ({"q": 0}, r"q must lie in \(0, 1\], got 0; its limit 0 is cross-entropy"),
        ({"k": 1}, r"k must lie in \[0, 1\), got 1"),
        ({"start_epoch": -1}, "start_epoch must not be negative, got -1"),
        ({"every": 0}, r"every must .*, got 0"),
    ):
        with pytest.raises(ValueError, match=message):
            TruncatedGCE(**options)
