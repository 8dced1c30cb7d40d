"""Datasets on the device against the same datasets behind a loader."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import lightning as L
import pytest
import torch
from torch import Tensor
from torch.nn.utils import parameters_to_vector

from noisylabels_pl import CoPRL, Crust
from noisylabels_pl.data import Batch, Diabetes, Digits, resident
from noisylabels_pl.data.resident import ResidentRows

Make = Callable[..., Any]


class Recorder(L.Callback):
    """Every batch of training and validation that the module sees."""

    def __init__(self) -> None:
        self.seen: list[Tensor] = []
        self.datasets: list[Any] = []

    def on_train_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        self.datasets = [*trainer.datamodule._resident_datasets.values()]  # of training and test arrays

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: Any, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        self.seen += [batch.x, batch.y, batch.index]
        if batch.partner is not None:
            self.seen += [batch.partner.x, batch.partner.y]

    def on_validation_batch_end(
        self, trainer: L.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        self.seen += [*batch]


@pytest.mark.parametrize("augmentation", [{}, {"crop_padding": 1, "flip": True}, {"flip": True}], ids=str)
def test_the_same_batches_and_weights(
    digits: Make, classifier: Make, make_trainer: Make, augmentation: dict[str, Any]
) -> None:
    """With a selection, partners, a scoring pass, and loaders that are asked for again."""
    runs = []
    for where in (True, False, "auto"):
        data, module, recorder = digits(resident=where, **augmentation), classifier(), Recorder()
        trainer = make_trainer(Crust(fraction=0.4, warmup_epochs=1), recorder, max_epochs=3)
        trainer.fit(module, datamodule=data)
        assert [value is not None for value in recorder.datasets] == ([] if where is False else [True, True])
        assert not data._resident_datasets  # the memory is free again
        runs.append((recorder.seen, parameters_to_vector(module.parameters())))
    for seen, weights in runs[1:]:
        assert torch.equal(weights, runs[0][1])
        assert len(seen) == len(runs[0][0]) > 30
        for one, other in zip(seen, runs[0][0], strict=True):
            assert one.dtype == other.dtype
            assert torch.equal(one, other)


def test_twins_and_regression(make_trainer: Make) -> None:
    weights = []
    for where in (True, False):
        torch.manual_seed(0)
        data = Diabetes(resident=where)
        data.setup()
        pair = CoPRL(lambda: torch.nn.Linear(10, 1), 1, torch.optim.Adam, forget_rate=0.2, task="regression")
        make_trainer(max_epochs=2).fit(pair, datamodule=data)
        weights.append(parameters_to_vector(pair.parameters()))
    assert torch.equal(*weights)


def test_a_second_trainer_gets_a_loader_of_its_own(digits: Make, classifier: Make, make_trainer: Make) -> None:
    data = digits(resident=True)
    bare = data.train_dataloader()
    assert next(iter(bare)).x.dtype == torch.uint8  # without a trainer there is no device
    assert bare is data.train_dataloader()
    for _ in range(2):
        trainer = make_trainer(max_epochs=1)
        trainer.fit(classifier(), datamodule=data)
        assert isinstance(next(iter(trainer.train_dataloader)).x, ResidentRows)
        assert trainer.train_dataloader is not bare
        for loader in (data.train_dataloader(), data.test_dataloader()):
            assert next(iter(loader))[0].dtype == torch.uint8  # nor is there one after the fit


def test_only_positions_travel(digits: Make, classifier: Make, make_trainer: Make) -> None:
    data = digits(resident=True)
    trainer = make_trainer(max_epochs=1)
    trainer.fit(classifier(), datamodule=data)
    batch = next(iter(trainer.train_dataloader))
    moved = batch.to("meta")
    assert moved.x.dataset is batch.x.dataset
    assert moved.x.indices.device.type == moved.index.device.type == "meta"


@pytest.mark.parametrize(("free", "is_held"), [(None, False), (0, False), (60_000, False), (10**9, True)])
def test_auto_holds_a_dataset_that_fits(
    digits: Make, classifier: Make, make_trainer: Make, monkeypatch: pytest.MonkeyPatch, free: int | None, is_held: bool
) -> None:
    monkeypatch.setattr(resident, "free_memory", lambda device: free)
    recorder = Recorder()
    make_trainer(recorder, max_epochs=1).fit(classifier(), datamodule=digits(resident="auto"))
    assert [value is not None for value in recorder.datasets] == [is_held, is_held]


def test_workers_are_kept_where_they_are_asked_for(digits: Make, classifier: Make, make_trainer: Make) -> None:
    recorder = Recorder()
    make_trainer(recorder, max_epochs=1).fit(classifier(), datamodule=digits(num_workers=1, resident="auto"))
    assert recorder.seen
    assert not recorder.datasets


def test_wrong_options() -> None:
    with pytest.raises(ValueError, match=r"^resident must be one of True, False, auto, got 'yes'"):
        Digits(resident="yes")
    with pytest.raises(ValueError, match=r"^resident=True leaves nothing to do for num_workers=2"):
        Digits(resident=True, num_workers=2)


@pytest.mark.gpu
def test_on_cuda_the_data_lies_there(digits: Make, classifier: Make, make_trainer: Make) -> None:
    data, recorder = digits(resident=True, crop_padding=1, flip=True), Recorder()
    trainer = make_trainer(Crust(warmup_epochs=0), recorder, max_epochs=2, accelerator="gpu", devices=1)
    trainer.fit(classifier(), datamodule=data)
    assert recorder.datasets[0].y.is_cuda
    assert recorder.datasets[0].x.stored.is_cuda
