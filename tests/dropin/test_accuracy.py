"""With 40 % wrong labels, modules that were not edited classify clean test samples better than without a callback."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import lightning as L
import pytest
import torch

from noisylabels_pl import ELR, Crust, GCELoss, PRLLossLayer, RobustLoss, indexed
from tests.dropin import modules
from tests.dropin.patterns import make_trainer


class SlowerLossInModel(modules.LossInModel):
    """Embeddings memorize within the first epochs at a larger rate."""

    lr = 0.003


NUM_SAMPLES = {SlowerLossInModel: 1200}
EPOCHS = 40
MAIN = [
    modules.FunctionalLoss,
    modules.LogProbabilities,
    SlowerLossInModel,
    modules.ImageDict,
    modules.GraphClassifier,
    modules.ForwardTuple,
    modules.MappedLabels,
    modules.NormalizedAfterTransfer,
]
OTHERS: dict[str, Callable[[], L.Callback]] = {
    "Crust": lambda: Crust(partner="none"),
    "GCE": lambda: RobustLoss(GCELoss()),
}


def clean_accuracy(module: type[modules.Project], *callbacks: L.Callback) -> float:
    torch.manual_seed(0)
    example = module()
    trainer = make_trainer(*callbacks, max_epochs=EPOCHS)
    trainer.fit(example, indexed(module.loader(size=NUM_SAMPLES.get(module, 600))))
    loader = module.loader("test", 597, batch_size=200)
    return trainer.test(example, loader, verbose=False)[0]["test_acc"]


@lru_cache
def plain_accuracy(module: type[modules.Project]) -> float:
    return clean_accuracy(module)


@pytest.mark.parametrize("module", MAIN)
def test_elr_beats_plain_training(module: type[modules.Project]) -> None:
    assert clean_accuracy(module, ELR()) > plain_accuracy(module) + 0.03


@pytest.mark.parametrize("method", OTHERS)
@pytest.mark.parametrize("module", [modules.FunctionalLoss, modules.GraphClassifier])
def test_others_beat_plain_training(module: type[modules.Project], method: str) -> None:
    assert clean_accuracy(module, OTHERS[method]()) > plain_accuracy(module) + 0.03


def test_prl_beats_plain_training() -> None:
    accuracy = clean_accuracy(modules.FunctionalLoss, PRLLossLayer(0.4))
    assert accuracy > plain_accuracy(modules.FunctionalLoss) + 0.03
