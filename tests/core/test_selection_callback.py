"""Choosing the samples of every epoch, in Lightning's loop."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset, WeightedRandomSampler

from noisylabels_pl import indexed
from noisylabels_pl.core import Classifier, Scores, SelectionCallback, score, training_loader
from noisylabels_pl.data import Batch, Digits, Selection
from tests.helpers import Recorder

Make = Callable[..., Any]


class Schedule(SelectionCallback):
    """Selects given samples, whatever the scores."""

    def __init__(self, sizes: dict[int, int], **options: Any) -> None:
        super().__init__(**({"warmup_epochs": 0} | options))
        self.sizes = sizes
        self.calls: list[int] = []

    def select(self, module: L.LightningModule, scores: Scores, epoch: int) -> Selection:
        self.calls.append(epoch)
        return Selection(torch.arange(self.sizes[epoch]) + epoch)


@pytest.mark.parametrize("workers", [0, 2])
def test_each_epoch_trains_on_its_selection_and_is_validated(
    digits: Make, classifier: Make, make_trainer: Make, workers: int
) -> None:
    # Shrinks and grows by whole batches of 32, and by less than one.
    sizes = {0: 64, 1: 130, 2: 129, 3: 40, 4: 200}
    recorder, callback = Recorder(), Schedule(sizes)
    make_trainer(callback, recorder, max_epochs=5).fit(classifier(), datamodule=digits(num_workers=workers))
    assert callback.calls == list(sizes)
    for epoch, size in sizes.items():
        assert sorted(recorder.visited[epoch]) == list(range(epoch, epoch + size))
        assert recorder.visited[epoch] != sorted(recorder.visited[epoch])
    assert recorder.validated == list(sizes)


def test_warm_up_trains_on_everything(digits: Make, classifier: Make, make_trainer: Make) -> None:
    recorder = Recorder()
    callback = Schedule({2: 30}, warmup_epochs=2)
    datamodule = digits()
    make_trainer(callback, recorder, max_epochs=3).fit(classifier(), datamodule=datamodule)
    total = len(datamodule.train_indices)
    assert [len(recorder.visited[epoch]) for epoch in range(3)] == [total, total, 30]


def fit(
    digits: Make, classifier: Make, make_trainer: Make, folder: Path, **options: Any
) -> tuple[Classifier, Recorder]:
    resume, when = options.pop("resume", None), options.pop("save_on_train_epoch_end", True)
    datamodule = digits(num_workers=options.pop("workers", 0))
    module, recorder = classifier(), Recorder()
    checkpoint = ModelCheckpoint(folder, "{epoch}", save_top_k=-1, save_on_train_epoch_end=when)
    sizes = {epoch: 40 + 30 * epoch for epoch in range(6)}
    trainer = make_trainer(Schedule(sizes), recorder, checkpoint, enable_checkpointing=True, **options)
    trainer.fit(module, datamodule=datamodule, ckpt_path=resume)
    return module, recorder


@pytest.mark.parametrize("save_on_train_epoch_end", [True, False], ids=["at the epoch's end", "after validation"])
def test_resumed_equals_uninterrupted(
    digits: Make, classifier: Make, make_trainer: Make, tmp_path: Path, save_on_train_epoch_end: bool
) -> None:
    when: dict[str, Any] = {"save_on_train_epoch_end": save_on_train_epoch_end}
    whole, visited = fit(digits, classifier, make_trainer, tmp_path / "whole", max_epochs=4, **when)
    fit(digits, classifier, make_trainer, tmp_path / "half", max_epochs=2, **when)
    resume = tmp_path / "half" / "epoch=1.ckpt"
    when |= {"resume": resume, "workers": 2}  # workers prefetch, so a wrong first order would show
    resumed, rest = fit(digits, classifier, make_trainer, tmp_path / "rest", max_epochs=4, **when)
    assert rest.visited == {epoch: visited.visited[epoch] for epoch in (2, 3)}
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


def test_weights_follow_their_samples(digits: Make, classifier: Make, make_trainer: Make) -> None:
    class Weighted(SelectionCallback):
        seen: list[tuple[Tensor, Tensor]] = []  # noqa: RUF012

        def select(self, module: L.LightningModule, scores: Scores, epoch: int) -> Selection:
            chosen = torch.randperm(len(scores.targets))[:50]
            return Selection(chosen, weights=chosen.float())

        def adjust_losses(self, losses: Tensor, logits: Tensor, target: Tensor, batch: Batch) -> Tensor:
            weights = self.values_for("weights", batch)
            assert weights is not None
            self.seen.append((batch.index, weights))
            adjusted = super().adjust_losses(losses, logits, target, batch)
            assert torch.equal(adjusted, weights * losses)
            return adjusted

    callback = Weighted(warmup_epochs=0)
    make_trainer(callback, max_epochs=1).fit(classifier(), datamodule=digits())
    assert sum(len(index) for index, _ in callback.seen) == 50
    for index, weights in callback.seen:
        assert torch.equal(index.float(), weights)


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


def test_scoring_some_rows(digits: Make, classifier: Make, make_trainer: Make) -> None:
    rows = torch.tensor([3, 50, 99])
    some, everything = Scored(rows=rows), Scored()
    make_trainer(some, everything, max_epochs=1).fit(classifier(), datamodule=digits())
    torch.testing.assert_close(some.scores.logits[rows], everything.scores.logits[rows])
    assert int((some.scores.logits != 0).any(1).sum()) == 3


@pytest.mark.parametrize("fails", [False, True])
def test_the_loader_is_whole_again_after_a_fit(digits: Make, classifier: Make, make_trainer: Make, fails: bool) -> None:
    class Stop(L.Callback):
        def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
            if fails:
                raise KeyError("stopped")

    datamodule, callback = digits(), Schedule({0: 40, 1: 40})
    for _ in range(2):
        recorder = Recorder()
        trainer = make_trainer(callback, recorder, Stop(), max_epochs=1)
        if fails:
            with pytest.raises(KeyError, match="stopped"):
                trainer.fit(classifier(), datamodule=datamodule)
        else:
            trainer.fit(classifier(), datamodule=datamodule)
        assert len(recorder.visited[0]) == 40
        assert datamodule.train_dataloader().sampler.selection is None
    assert callback.calls[0] == 0
    assert callback.calls.count(0) == 2  # the second fit does not go on with the selection of the first


class Rebuilds(Digits):
    def train_dataloader(self) -> DataLoader[Any]:
        self._train_loader = None
        return super().train_dataloader()


def test_a_loader_made_anew_every_epoch_is_refused(classifier: Make, make_trainer: Make) -> None:
    recorder = Recorder()
    with pytest.raises(RuntimeError, match="make the loader once"):
        make_trainer(Schedule({}, warmup_epochs=5), recorder, max_epochs=9).fit(
            classifier(), datamodule=Rebuilds(train_size=200, batch_size=32)
        )
    assert not recorder.visited  # before anything was trained, not after the warm-up


def test_a_selection_that_fills_no_batch(classifier: Make, make_trainer: Make) -> None:
    dataset = TensorDataset(torch.rand(40, 1, 8, 8), torch.arange(40) % 10)
    loader = indexed(DataLoader(dataset, batch_size=16, shuffle=True, drop_last=True))
    with pytest.raises(ValueError, match=r"selection of 10 samples does not fill one batch.*drop_last=True"):
        make_trainer(Schedule({0: 10}), max_epochs=1).fit(classifier(), loader)


def test_a_scoring_loader_of_other_samples(classifier: Make, make_trainer: Make) -> None:
    dataset = TensorDataset(torch.rand(40, 1, 8, 8), torch.arange(40) % 10)
    fewer = indexed(DataLoader(TensorDataset(*dataset[:30]), batch_size=16))
    with pytest.raises(ValueError, match="scoring_loader has 30 samples"):
        make_trainer(Schedule({0: 10}, scoring_loader=fewer), max_epochs=1).fit(
            classifier(), indexed(DataLoader(dataset, batch_size=16))
        )


def test_a_sampler_of_the_users_own_is_refused(classifier: Make, make_trainer: Make) -> None:
    dataset = TensorDataset(torch.rand(40, 1, 8, 8), torch.arange(40) % 10)
    weighted = WeightedRandomSampler(torch.ones(40), 40)
    loader = indexed(DataLoader(dataset, batch_size=8, sampler=weighted))
    with pytest.raises(TypeError, match="shuffle=True instead of a sampler"):
        make_trainer(Schedule({0: 10}), max_epochs=1).fit(classifier(), loader)


def test_negative_warm_up() -> None:
    with pytest.raises(ValueError, match="warmup_epochs must not be negative, got -1"):
        Schedule({}, warmup_epochs=-1)
