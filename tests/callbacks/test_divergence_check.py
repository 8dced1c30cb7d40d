"""A fit that diverges is ended, and one that recovers is not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from noisylabels_pl.callbacks import DivergedError, DivergenceCheck
from noisylabels_pl.core import Classifier

Make = Callable[..., Any]
STEPS = 9  # of an epoch


class NaNAt(Classifier):
    """Its loss is NaN in some steps, in which its weights do not change."""

    steps: tuple[int, ...] = ()

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        loss = super().training_step(batch, batch_idx)
        return loss.nan_to_num(0).mul(0) + torch.nan if self.trainer.global_step in self.steps else loss

    def on_before_optimizer_step(self, optimizer: Any) -> None:
        for parameter in self.parameters():
            parameter.grad = parameter.grad.nan_to_num(0)


def skipping(classifier: Make, *steps: int) -> NaNAt:
    module = NaNAt(classifier().net, 10, lambda parameters: torch.optim.SGD(parameters, lr=0.1))
    module.steps = steps
    return module


def test_a_learning_rate_that_is_far_too_large(digits: Make, classifier: Make, make_trainer: Make) -> None:
    module = classifier()
    module.optimizer = lambda parameters: torch.optim.SGD(parameters, lr=1e8)
    with pytest.raises(
        DivergedError, match=r"training loss is nan in epoch 0, after 9 optimizer steps; .*optim\.lr"
    ) as info:
        make_trainer(DivergenceCheck(), max_epochs=3).fit(module, datamodule=digits())
    assert (info.value.epoch, info.value.step) == (0, STEPS)


def test_a_step_that_is_skipped_is_no_divergence(digits: Make, classifier: Make, make_trainer: Make) -> None:
    # The first and the last step of an epoch are looked at.
    module = skipping(classifier, 0, 2 * STEPS - 1)
    trainer = make_trainer(DivergenceCheck(), max_epochs=3)
    trainer.fit(module, datamodule=digits())
    assert trainer.global_step == 3 * STEPS


def test_a_loss_that_stays_nan_is_divergence_though_the_weights_are_finite(
    digits: Make, classifier: Make, make_trainer: Make
) -> None:
    module = skipping(classifier, *range(STEPS, 3 * STEPS))
    with pytest.raises(DivergedError, match="training loss is nan in epoch 1, after 18"):
        make_trainer(DivergenceCheck(), max_epochs=3).fit(module, datamodule=digits())


def test_weights_that_the_last_step_ruins(digits: Make, classifier: Make, make_trainer: Make) -> None:
    class Ruined(Classifier):
        def optimizer_step(self, *args: Any, **options: Any) -> None:
            super().optimizer_step(*args, **options)
            if self.trainer.is_last_batch:
                next(self.parameters()).data.fill_(torch.nan)

    module = Ruined(classifier().net, 10, lambda parameters: torch.optim.SGD(parameters, lr=0.1))
    with pytest.raises(DivergedError, match="the weights are not finite in epoch 0"):
        make_trainer(DivergenceCheck(), max_epochs=1).fit(module, datamodule=digits())
