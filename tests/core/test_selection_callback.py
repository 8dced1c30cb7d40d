"""Choosing the samples of every epoch, in Lightning's loop."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset, WeightedRandomSampler

from noisylabels_pl import indexed
from noisylabels_pl.core import Classifier, Scores, SelectionCallback
from noisylabels_pl.data import Batch, Digits, Selection
from tests.core.filter_helpers import RecordsPasses
from tests.helpers import Recorder, Tutorial

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


def test_a_loader_made_anew_every_epoch(classifier: Make, make_trainer: Make) -> None:
    """It gets the selection as one that is kept."""
    recorder = Recorder()
    datamodule = Rebuilds(train_size=200, batch_size=32)
    make_trainer(Schedule({1: 64, 2: 40}, warmup_epochs=1), recorder, max_epochs=3).fit(
        classifier(), datamodule=datamodule
    )
    assert [len(set(recorder.visited[epoch])) for epoch in range(3)] == [180, 64, 40]
    assert recorder.batches == {0: 6, 1: 2, 2: 2}
    assert "train_dataloader" not in vars(datamodule)


def test_a_selection_that_fills_no_batch(classifier: Make, make_trainer: Make) -> None:
    dataset = TensorDataset(torch.rand(40, 1, 8, 8), torch.arange(40) % 10)
    loader = indexed(DataLoader(dataset, batch_size=16, shuffle=True, drop_last=True))
    with pytest.raises(ValueError, match=r"selection of 10 samples does not fill one batch.*drop_last=True"):
        make_trainer(Schedule({0: 10}), max_epochs=1).fit(classifier(), loader)


@pytest.mark.parametrize("drop_last", [True, False])
def test_no_sample_is_alone_in_a_pass_in_training_mode(drop_last: bool, make_trainer: Make) -> None:
    """Neither of a selection, nor in the scoring pass over all 41 samples; both visit each of them once."""
    dataset = TensorDataset(torch.rand(41, 1, 8, 8), torch.arange(41) % 10)
    loader = DataLoader(dataset, batch_size=8, shuffle=True, drop_last=drop_last)
    recorder, module, callback = Recorder(), Tutorial(), Schedule({0: 17, 1: 25, 2: 33}, train_mode=True)
    module.net = RecordsPasses()
    make_trainer(callback, recorder, max_epochs=3).fit(module, indexed(loader, as_batches=True))
    trained = [size for size, _, has_gradients, _ in module.net.passes if has_gradients]
    scored = [size for size, _, has_gradients, _ in module.net.passes if not has_gradients]
    last = [] if drop_last else [9]
    assert trained == [8] * (2 - len(last)) + last + [8] * (3 - len(last)) + last + [8] * (4 - len(last)) + last
    assert scored == [8] + 3 * [8, 8, 8, 8, 9]  # the first checks that the step can be scored
    if not drop_last:
        assert [len(set(recorder.visited[epoch])) for epoch in range(3)] == [17, 25, 33]


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
    with pytest.raises(TypeError, match=r"give the loader shuffle=True over the samples to choose from"):
        make_trainer(Schedule({0: 10}), max_epochs=1).fit(classifier(), loader)


def test_negative_warm_up() -> None:
    with pytest.raises(ValueError, match="warmup_epochs must not be negative, got -1"):
        Schedule({}, warmup_epochs=-1)
