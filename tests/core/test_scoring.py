"""Scoring the training set: as trained, and without a trace."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import lightning as L
import torch
from torch import Tensor, nn

from noisylabels_pl.core import score, score_batches, training_loader

Make = Callable[..., Any]


class Scored(L.Callback):
    """Scores at the end of the epoch and keeps what training may not notice."""

    def __init__(self, **options: Any) -> None:
        self.options = options
        self.same: list[bool] = []

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        state = {name: value.clone() for name, value in pl_module.state_dict().items()}
        rng = torch.get_rng_state()
        modes = [module.training for module in pl_module.modules()]
        self.scores = score(trainer, pl_module, training_loader(trainer), **self.options)
        self.same += [torch.equal(value, pl_module.state_dict()[name]) for name, value in state.items()]
        self.same += [torch.equal(rng, torch.get_rng_state())]
        self.same += [modes == [module.training for module in pl_module.modules()]]


def convolutional() -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5), nn.Flatten(), nn.Linear(144, 10))


def test_scoring_leaves_no_trace(digits: Make, classifier: Make, make_trainer: Make) -> None:
    module = classifier()
    module.net = convolutional()
    module.net[1].eval()  # a user's frozen layer stays frozen
    callback = Scored()
    datamodule = digits(crop_padding=1, flip=True)
    make_trainer(callback, max_epochs=1).fit(module, datamodule=datamodule)
    assert all(callback.same)
    x = datamodule.arrays.x_train[datamodule.train_indices].float()
    module.eval()
    expected = module((x - datamodule.arrays.mean) / datamodule.arrays.std)
    torch.testing.assert_close(callback.scores.logits, expected.detach())
    assert torch.equal(callback.scores.targets, datamodule.labels.observed[datamodule.train_indices])


def test_train_mode_scores_augmented_images(digits: Make, classifier: Make, make_trainer: Make) -> None:
    logits = []
    for options in ({}, {"train_mode": True}):
        callback = Scored(**options)
        make_trainer(callback, max_epochs=1).fit(classifier(), datamodule=digits(crop_padding=1))
        logits.append(callback.scores.logits)
    assert not torch.allclose(logits[0], logits[1])


def test_scoring_in_half_precision(digits: Make, classifier: Make, make_trainer: Make) -> None:
    class Asks(nn.Flatten):
        def forward(self, x: Tensor) -> Tensor:
            asked.append((self.training, torch.is_autocast_enabled("cpu")))
            return super().forward(x)

    asked: list[tuple[bool, bool]] = []
    module = classifier()
    module.net = nn.Sequential(Asks(), nn.Linear(64, 10))
    callback = Scored(bf16=True)
    make_trainer(callback, max_epochs=1).fit(module, datamodule=digits())
    assert set(asked) == {(False, True), (True, False), (False, False)}  # scoring, training, validation
    assert callback.scores.logits.dtype == torch.float32
    rounded = callback.scores.logits.bfloat16().float()
    assert torch.equal(callback.scores.logits, rounded)


def test_train_mode_leaves_frozen_layers_frozen(digits: Make, classifier: Make, make_trainer: Make) -> None:
    module = classifier()
    module.net = convolutional()
    module.net[1].eval()
    callback = Scored(train_mode=True)
    make_trainer(callback, max_epochs=1).fit(module, datamodule=digits())
    assert all(callback.same)  # frozen: no running statistic changes


def test_batches_of_some_rows_are_what_a_whole_pass_gives(digits: Make, classifier: Make, make_trainer: Make) -> None:
    rows = torch.tensor([99, 3, 50])
    batches: list[tuple[Tensor, Tensor, Tensor]] = []

    class Visits(Scored):
        def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
            super().on_train_epoch_end(trainer, pl_module)
            score_batches(trainer, pl_module, training_loader(trainer), lambda *batch: batches.append(batch), rows=rows)

    callback = Visits()
    make_trainer(callback, max_epochs=1).fit(classifier(), datamodule=digits())
    index, logits, targets = (torch.cat(values) for values in zip(*batches, strict=True))
    assert torch.equal(index, rows)
    torch.testing.assert_close(logits, callback.scores.logits[rows])
    assert torch.equal(targets, callback.scores.targets[rows])
