"""Fits that are resumed from a checkpoint in the middle of an epoch."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import Checkpoint, ModelCheckpoint, OnExceptionCheckpoint
from torch import Tensor, nn
from torch.utils.data import DataLoader, Sampler

from noisylabels_pl import ELR, SPL, Crust, GCELoss, PRLGradient, PRLLossLayer, RobustLoss, indexed
from noisylabels_pl.cli.checkpoints import Checkpoints
from noisylabels_pl.core import CriterionCallback
from noisylabels_pl.data import IndexedLoader
from tests.dropin import modules
from tests.dropin.patterns import make_trainer
from tests.dropin.test_loaders import MakesLoadersAnew
from tests.processes import run_on_two_ranks

Make = Callable[..., Any]
METHODS: dict[str, Callable[[], CriterionCallback]] = {
    "ELR": ELR,
    "Crust": lambda: Crust(warmup_epochs=1),
    "PRLLossLayer": lambda: PRLLossLayer(0.25),
    "SPL with a second forward pass": lambda: SPL(0.25, second_forward=True),
    "PRLGradient": lambda: PRLGradient(0.25),
    "RobustLoss": lambda: RobustLoss(GCELoss()),
}


class Visits(L.Callback):
    """Records the batches of a fit, and the epochs that were validated."""

    def __init__(self) -> None:
        self.batches: list[tuple[int, int, float]] = []
        self.validated: list[int] = []

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        images = batch["image"] if isinstance(batch, dict) else batch[0]
        self.batches.append((trainer.current_epoch, batch_idx, float(images.double().sum())))

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.validated.append(trainer.current_epoch)


def fit(
    callback: L.Callback,
    *callbacks: L.Callback,
    loader: Any = None,
    resume: Path | None = None,
    **options: Any,
) -> tuple[dict[str, Tensor], Visits]:
    """Fit an example, and return its weights and what it visited."""
    torch.manual_seed(0)
    module, visits = modules.ImageDict(), Visits()
    saves = any(isinstance(callback, Checkpoint) for callback in callbacks)
    trainer = make_trainer(callback, visits, *callbacks, enable_checkpointing=saves, **options)
    if isinstance(loader, L.LightningDataModule):
        trainer.fit(module, datamodule=loader, ckpt_path=resume, weights_only=True)
    else:
        loader = loader or indexed(module.loader())
        trainer.fit(module, loader, module.loader("test", 64), ckpt_path=resume, weights_only=True)
    return module.state_dict(), visits


def every_step(folder: Path) -> ModelCheckpoint:
    return ModelCheckpoint(folder, "{step}", save_top_k=-1, every_n_train_steps=1)


def assert_goes_on(resumed: tuple[dict[str, Tensor], Visits], whole: tuple[dict[str, Tensor], Visits]) -> None:
    """Check that a resumed fit visited the rest of the batches, and has the same weights."""
    num_skipped = len(whole[1].batches) - len(resumed[1].batches)
    assert resumed[1].batches == whole[1].batches[num_skipped:]
    for name, values in whole[0].items():
        assert torch.equal(resumed[0][name], values), name


@pytest.mark.parametrize(
    ("method", "options"),
    [
        *((method, {}) for method in METHODS),
        ("ELR", {"accumulate_grad_batches": 2}),
        ("Crust", {"accumulate_grad_batches": 2}),
        ("ELR", {"limit_train_batches": 3}),
    ],
)
def test_resumed_equals_uninterrupted(method: str, options: Any, tmp_path: Path) -> None:
    whole = fit(METHODS[method](), every_step(tmp_path), **options)
    for step in (1, 3):
        resumed = fit(METHODS[method](), resume=tmp_path / f"step={step}.ckpt", **options)
        assert_goes_on(resumed, whole)
        assert resumed[1].validated


@pytest.mark.parametrize("method", ["ELR", "Crust"])
def test_a_checkpoint_of_the_last_batch_goes_on_with_the_next_epoch(method: str, tmp_path: Path) -> None:
    whole = fit(METHODS[method](), every_step(tmp_path))
    resumed = fit(METHODS[method](), resume=tmp_path / "step=4.ckpt")
    assert_goes_on(resumed, whole)
    assert resumed[1].batches[0][:2] == (1, 0)


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("is_indexed", [False, True], ids=["bare", "indexed"])
@pytest.mark.parametrize("method", ["ELR", "Crust"])
def test_a_loader_that_is_made_anew_goes_on(method: str, is_indexed: bool, num_workers: int, tmp_path: Path) -> None:
    """A selection is followed by a reload, which makes another loader."""

    class Makes(MakesLoadersAnew):
        def train_dataloader(self) -> DataLoader[Any]:
            loader = modules.ImageDict.loader(num_workers=num_workers)
            return indexed(loader) if is_indexed else loader

    datamodule = Makes(modules.ImageDict)
    whole = fit(METHODS[method](), every_step(tmp_path), loader=datamodule)
    resumed = fit(METHODS[method](), resume=tmp_path / "step=5.ckpt", loader=datamodule)
    assert_goes_on(resumed, whole)
    assert resumed[1].validated == [1, 2]


def test_skipped_samples_are_not_read(tmp_path: Path) -> None:
    class Counts(modules.DigitsDataset):
        num_read = 0

        def __getitem__(self, index: int) -> Any:
            self.num_read += 1
            return super().__getitem__(index)

    dataset = Counts("train", 128, modules.ImageDict.make_sample)
    loader = indexed(DataLoader(dataset, batch_size=32, shuffle=True))
    fit(ELR(), every_step(tmp_path), loader=loader, max_epochs=2)
    dataset.num_read = 0
    fit(ELR(), loader=loader, resume=tmp_path / "step=7.ckpt", max_epochs=2)
    assert dataset.num_read == 32


def test_validation_in_the_middle_of_an_epoch(tmp_path: Path) -> None:
    saved = ModelCheckpoint(tmp_path, "{step}", save_top_k=-1, save_on_train_epoch_end=False, monitor="val_acc")
    options = {"val_check_interval": 2}
    whole = fit(ELR(), saved, **options)
    resumed = fit(ELR(), resume=tmp_path / "step=6.ckpt", **options)
    assert_goes_on(resumed, whole)
    assert resumed[1].batches[0][:2] == (1, 2)
    assert resumed[1].validated[-3:] == [1, 2, 2]


class Fails(L.Callback):
    """Fails in the step of batch 2 of epoch 1, before the optimizer's step."""

    def on_before_optimizer_step(self, trainer: L.Trainer, *_: Any) -> None:
        if trainer.global_step == 6:
            raise InterruptedError("stopped")


def test_a_look_at_the_loader_before_the_first_batch(tmp_path: Path) -> None:
    class Looks(L.Callback):
        def on_train_start(self, trainer: L.Trainer, *_: Any) -> None:
            next(iter(trainer.train_dataloader))

    at_the_end = ModelCheckpoint(tmp_path, "{epoch}", save_top_k=-1, save_on_train_epoch_end=True)
    whole = fit(ELR(), at_the_end, every_step(tmp_path), max_epochs=2)
    for name in ("epoch=0.ckpt", "step=5.ckpt"):
        assert_goes_on(fit(ELR(), Looks(), resume=tmp_path / name, max_epochs=2), whole)


def test_a_step_that_was_interrupted_is_done_again(tmp_path: Path) -> None:
    """A callback with a record of each sample would have written it twice; one without is exact."""
    whole = fit(PRLLossLayer(0.25))
    with pytest.raises(InterruptedError):
        fit(PRLLossLayer(0.25), Fails(), OnExceptionCheckpoint(tmp_path, "failed"))
    resumed = fit(PRLLossLayer(0.25), resume=tmp_path / "failed.ckpt")
    assert_goes_on(resumed, whole)
    assert resumed[1].batches[0][:2] == (1, 2)
    assert resumed[1].validated == [1, 2]


def test_only_the_interrupted_epoch_is_cut(tmp_path: Path) -> None:
    """Other iterators over the loader see all batches, whenever they start."""

    class Looks(L.Callback):
        def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
            counts.append(len(list(trainer.train_dataloader)))

        def on_train_end(self, trainer: L.Trainer, *_: Any) -> None:
            counts.append(len(list(trainer.train_dataloader)))

    counts: list[int] = []
    loader = indexed(modules.ImageDict.loader())
    whole = fit(ELR(), every_step(tmp_path), max_epochs=2)
    resumed = fit(ELR(), Looks(), loader=loader, resume=tmp_path / "step=5.ckpt", max_epochs=2)
    assert_goes_on(resumed, whole)
    assert counts[1:] == [4] * 3
    assert len(list(loader)) == 4


class Backwards(Sampler[int]):
    """A custom sampler, in another order in each epoch."""

    def __init__(self, dataset: Any) -> None:
        self.dataset, self.epoch = dataset, 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __iter__(self) -> Any:
        rows = torch.arange(len(self.dataset)).roll(self.epoch)
        return iter(rows.flip(0).tolist())

    def __len__(self) -> int:
        return len(self.dataset)


def test_a_sampler_of_the_user_goes_on(tmp_path: Path) -> None:
    dataset = modules.ImageDict.loader().dataset

    def loader() -> IndexedLoader:
        return indexed(DataLoader(dataset, batch_size=32, sampler=Backwards(dataset)))

    whole = fit(ELR(), every_step(tmp_path), loader=loader())
    assert_goes_on(fit(ELR(), loader=loader(), resume=tmp_path / "step=6.ckpt"), whole)


@pytest.mark.parametrize("method", [None, "ELR"])
def test_lightning_does_not_warn_of_a_loader_that_goes_on(method: str | None, tmp_path: Path) -> None:
    def run(resume: Path | None, *callbacks: L.Callback) -> int:
        visits = Visits()
        methods = [] if method is None else [METHODS[method]()]
        trainer = make_trainer(*methods, visits, *callbacks, max_epochs=2, enable_checkpointing=bool(callbacks))
        trainer.fit(modules.ImageDict(), indexed(modules.ImageDict.loader()), ckpt_path=resume, weights_only=True)
        return len(visits.batches)

    run(None, every_step(tmp_path))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        run(tmp_path / "step=6.ckpt")
    messages = [str(warning.message) for warning in caught]
    assert not any("not resumable" in message for message in messages)
    assert any("start from the first one again" in message for message in messages) is (method is None)


@pytest.mark.parametrize("resumed_with", [{"num_workers": 2}, {"resident": True}, {"resident": False}])
def test_augmentation_and_dropout_go_on(resumed_with: Any, digits: Make, classifier: Make, tmp_path: Path) -> None:
    """The command line's checkpoints hold the state of the random numbers; a loader with workers draws none more."""

    def run(resume: Path | None, *callbacks: L.Callback, **options: Any) -> dict[str, Tensor]:
        module = classifier()
        module.net.insert(1, nn.Dropout(0.5))
        own = Checkpoints(tmp_path / "own")
        trainer = make_trainer(Crust(warmup_epochs=1), own, *callbacks, enable_checkpointing=True)
        trainer.fit(module, datamodule=digits(crop_padding=1, flip=True, **options), ckpt_path=resume)
        return module.state_dict()

    whole = run(None, every_step(tmp_path))
    for step in (4, 12):  # 9 batches in epoch 0, 4 in those with a selection
        torch.manual_seed(1)
        resumed = run(tmp_path / f"step={step}.ckpt", **resumed_with)
        for name, values in whole.items():
            assert torch.equal(resumed[name], values), (step, name)


def fit_in_two_processes(folder: str, method: str, resume: str | None) -> tuple[dict[str, Tensor], list[Any]]:
    """One of two processes."""
    saved = [] if resume else [every_step(Path(folder))]
    loader = indexed(modules.ImageDict.loader(batch_size=16))
    options = {"strategy": "ddp", "devices": 2}
    path = Path(resume) if resume else None
    weights, visits = fit(METHODS[method](), *saved, loader=loader, resume=path, **options)
    return weights, visits.batches


@pytest.mark.processes
@pytest.mark.parametrize("method", ["ELR", "Crust"])
def test_processes_go_on(method: str, tmp_path: Path) -> None:
    saved = str(tmp_path / "saved")
    whole = run_on_two_ranks(fit_in_two_processes, saved, method, None, folder=tmp_path / "whole")
    resume = str(tmp_path / "saved" / "step=5.ckpt")
    resumed = run_on_two_ranks(fit_in_two_processes, saved, method, resume, folder=tmp_path / "resumed")
    for rank in (0, 1):
        weights, batches = resumed[rank]
        assert batches == whole[rank][1][5:]
        for name, values in whole[rank][0].items():
            assert torch.equal(weights[name], values), name
