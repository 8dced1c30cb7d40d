"""Batches of every type, loaders from everywhere, and Lightning's own callbacks beside ours."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import (
    BatchSizeFinder,
    EarlyStopping,
    EMAWeightAveraging,
    LearningRateFinder,
    ModelCheckpoint,
    StochasticWeightAveraging,
)
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.swa_utils import AveragedModel, update_bn
from torch.utils.data import DataLoader, IterableDataset, SubsetRandomSampler, TensorDataset, WeightedRandomSampler

from noisylabels_pl import ELR, SPL, Crust, GCELoss, PRLGradient, PRLLossLayer, RobustLoss, indexed
from noisylabels_pl.core import CriterionCallback
from noisylabels_pl.core.scoring import positions_of
from tests.dropin import modules
from tests.dropin.patterns import make_trainer
from tests.dropin.test_patterns import tensors_of

METHODS: dict[str, Callable[[], CriterionCallback]] = {
    "ELR": ELR,
    "Crust": lambda: Crust(warmup_epochs=1),
    "PRLLossLayer": lambda: PRLLossLayer(0.25),
    "SPL with a second forward pass": lambda: SPL(0.25, second_forward=True),
    "RobustLoss": lambda: RobustLoss(GCELoss()),
}
every_method = pytest.mark.parametrize("method", METHODS)


class WithBatchNorm(modules.ImageDict):
    """Has running statistics, for the callbacks that average weights."""

    def __init__(self) -> None:
        super().__init__()
        self.net.insert(1, nn.BatchNorm1d(64))


class MakesLoadersAnew(L.LightningDataModule):
    """Returns a new loader at each call, as most examples do."""

    def __init__(self, module: type[modules.Project], *, is_indexed: bool = False) -> None:
        super().__init__()
        self.module = module
        self.is_indexed = is_indexed
        self.num_calls = 0

    def train_dataloader(self) -> DataLoader[Any]:
        self.num_calls += 1
        loader = self.module.loader()
        return indexed(loader) if self.is_indexed else loader

    def val_dataloader(self) -> DataLoader[Any]:
        return self.module.loader("test", 64)


class Positions(L.Callback):
    """Compares the positions of each batch with its samples."""

    def __init__(self) -> None:
        self.num_batches = 0
        self.order: list[int] = []

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        index = positions_of(trainer, batch, batch_idx, required=True).index
        dataset = trainer.train_dataloader.dataset
        samples = dataset.collate_fn([dataset.make_sample(dataset.images[i], dataset.observed[i]) for i in index])
        for values, expected in zip(tensors_of(batch), tensors_of(samples), strict=True):
            if values.dtype == expected.dtype:  # not normalized by a hook
                torch.testing.assert_close(values, expected)
        self.num_batches += 1
        self.order += index.tolist()


# Types of batches -----------------------------------------------------------------------------------


BATCH_TYPES = {
    modules.ImageDict: dict,
    modules.ListBatch: list,
    modules.NamedTupleBatch: modules.Example,
    modules.EncodingBatch: modules.Encoding,
    modules.GraphClassifier: modules.GraphBatch,
    modules.AudioClassifier: dict,
}


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("module", BATCH_TYPES)
def test_batches_are_those_of_the_loader(module: type[modules.Project], num_workers: int) -> None:
    plain = module.loader(shuffle=False)
    loader = indexed(module.loader(shuffle=False, num_workers=num_workers))
    batches = list(loader)
    assert len(batches) == len(loader) == len(plain)
    for batch, expected in zip(batches, plain, strict=True):
        assert type(batch) is type(expected) is BATCH_TYPES[module]
        for values in zip(tensors_of(batch), tensors_of(expected), strict=True):
            assert torch.equal(*values)


@pytest.mark.parametrize("module", BATCH_TYPES)
def test_positions_are_those_of_the_samples(module: type[modules.Project]) -> None:
    positions = Positions()
    make_trainer(positions, max_epochs=2).fit(module(), indexed(module.loader(num_workers=2)))
    assert positions.num_batches == 8
    first, second = positions.order[:128], positions.order[128:]
    assert sorted(first) == sorted(second) == list(range(128))
    assert first != second


def test_a_batch_may_be_one_tensor() -> None:
    class Autoencoder(modules.Project):
        num_outputs = 64

        @staticmethod
        def make_sample(image: Tensor, label: Tensor) -> Any:
            return image.flatten()

        def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
            assert type(batch) is Tensor
            return F.mse_loss(self(batch), batch)

    prl = PRLLossLayer(0.25)
    positions = Positions()
    make_trainer(positions, prl, max_epochs=1).fit(Autoencoder(), indexed(Autoencoder.loader()))
    assert positions.num_batches == 4


def test_a_second_forward_pass_of_a_graph_is_refused_before_the_first_step() -> None:
    trainer = make_trainer(SPL(0.25, second_forward=True))
    with pytest.raises(TypeError, match="second_forward=False"):
        trainer.fit(modules.GraphClassifier(), indexed(modules.GraphClassifier.loader()))
    assert trainer.global_step == 0


def test_attributes_of_the_dataset_are_reachable() -> None:
    loader = indexed(modules.ImageDict.loader())
    assert loader.dataset.classes == tuple("0123456789")
    assert torch.equal(loader.dataset.observed, modules.digits("train")[1][:128])
    assert loader.batch_size == 32
    with pytest.raises(AttributeError, match="no_such_attribute"):
        _ = loader.dataset.no_such_attribute


def test_a_loader_serves_several_fits() -> None:
    loader = indexed(modules.ImageDict.loader())
    module = modules.ImageDict()
    for options in ({"fast_dev_run": True}, {"fast_dev_run": True}, {"max_epochs": 1}, {"max_epochs": 2}):
        positions = Positions()
        make_trainer(ELR(), positions, SPL(0.25), **options).fit(module, loader)
        assert positions.num_batches


def test_a_look_at_the_loader_during_the_fit_moves_no_position() -> None:
    class Looks(L.Callback):
        def on_train_batch_start(self, trainer: L.Trainer, *args: Any) -> None:
            next(iter(trainer.train_dataloader))
            assert len(list(trainer.train_dataloader)) == 4

    positions = Positions()
    make_trainer(ELR(), Looks(), positions, max_epochs=2).fit(modules.ImageDict(), indexed(modules.ImageDict.loader()))
    assert positions.num_batches == 8


def test_an_iterator_that_is_kept_moves_no_position() -> None:
    class Keeps(L.Callback):
        def on_train_batch_end(self, trainer: L.Trainer, *args: Any) -> None:
            self.iterator = iter(trainer.train_dataloader)
            next(self.iterator)

    positions = Positions()
    make_trainer(ELR(), Keeps(), positions, max_epochs=2).fit(modules.ImageDict(), indexed(modules.ImageDict.loader()))
    assert positions.num_batches == 8


def test_a_fit_after_a_refused_one() -> None:
    loader = indexed(modules.OwnFormula.loader())
    with pytest.raises(TypeError, match="computes no loss") as error:
        make_trainer(ELR()).fit(modules.OwnFormula(), loader)
    positions = Positions()
    make_trainer(ELR(), positions, max_epochs=1).fit(modules.FunctionalLoss(), loader)
    assert positions.num_batches == 4
    assert error.traceback  # holds the frames, and the iterator, of the refused fit


# Loaders from everywhere ------------------------------------------------------------------------------


@every_method
@pytest.mark.parametrize("is_indexed", [False, True], ids=["bare", "indexed"])
@pytest.mark.parametrize("reload", [0, 1])
def test_a_datamodule_may_make_its_loader_anew(method: str, reload: int, is_indexed: bool) -> None:
    datamodule = MakesLoadersAnew(modules.ImageDict, is_indexed=is_indexed)
    callback = METHODS[method]()
    trainer = make_trainer(callback, reload_dataloaders_every_n_epochs=reload)
    trainer.fit(modules.ImageDict(), datamodule)
    assert datamodule.num_calls >= (3 if reload else 1)
    assert trainer.global_step == (8 if method == "Crust" else 12)
    assert "train_dataloader" not in vars(datamodule)


@every_method
def test_a_module_may_make_its_loader(method: str) -> None:
    class Own(modules.ImageDict):
        def train_dataloader(self) -> DataLoader[Any]:
            return self.loader()

    module = Own()
    trainer = make_trainer(METHODS[method]())
    trainer.fit(module)
    assert trainer.global_step == (8 if method == "Crust" else 12)
    assert "train_dataloader" not in vars(module)


def test_a_bare_loader_trains_as_an_indexed_one() -> None:
    """Also with two callbacks that need positions, whose order does not matter."""
    states = []
    for is_indexed in (True, False):
        for order in (1, -1):
            torch.manual_seed(0)
            module = modules.ImageDict()
            datamodule = MakesLoadersAnew(modules.ImageDict, is_indexed=is_indexed)
            callbacks = [ELR(), Crust(warmup_epochs=1, partner="none")][::order]
            trainer = make_trainer(*callbacks)
            trainer.fit(module, datamodule)
            assert trainer.global_step == 8
            assert "train_dataloader" not in vars(datamodule)
            states.append(module.state_dict())
    for state in states[1:]:
        assert all(torch.equal(values, states[0][name]) for name, values in state.items())


def test_a_bare_loader_that_has_no_positions_is_refused() -> None:
    class Streams(L.LightningDataModule):
        def train_dataloader(self) -> Any:
            return DataLoader(Stream(), batch_size=16)

    class Stream(IterableDataset[Any]):
        def __iter__(self) -> Any:
            return iter(modules.DigitsDataset("train", 32, modules.ImageDict.make_sample))

    datamodule = Streams()
    trainer = make_trainer(ELR())
    with pytest.raises(TypeError, match="needs a map-style dataset"):
        trainer.fit(modules.ImageDict(), datamodule)
    assert trainer.global_step == 0
    assert "train_dataloader" not in vars(datamodule)


@every_method
def test_weighted_sampler(method: str) -> None:
    weights = torch.rand(128, generator=torch.Generator().manual_seed(0)) + 0.1
    sampler = WeightedRandomSampler(weights.tolist(), 128)
    loader = indexed(modules.ImageDict.loader(shuffle=False, sampler=sampler))
    assert loader.sampler is sampler
    callback = METHODS[method]()
    positions = Positions()
    trainer = make_trainer(callback, positions) if method not in SEES_OTHER_INPUTS else make_trainer(callback)
    if method == "Crust":
        with pytest.raises(TypeError, match="chooses the samples, but the training loader has a WeightedRandomSampler"):
            trainer.fit(modules.ImageDict(), loader)
        assert trainer.global_step == 0
        return
    trainer.fit(modules.ImageDict(), loader)
    if method == "ELR":
        visited = torch.zeros(128, dtype=torch.bool)
        visited[positions.order] = True
        assert torch.equal(callback.targets.rows.sum(1) > 0, visited)


@every_method
def test_subset_sampler_never_adds_the_held_out_samples(method: str) -> None:
    sampler = SubsetRandomSampler(range(96))
    loader = indexed(modules.ImageDict.loader(shuffle=False, sampler=sampler))
    callback = METHODS[method]()
    positions = Positions()
    trainer = make_trainer(callback, positions) if method not in SEES_OTHER_INPUTS else make_trainer(callback)
    if method == "Crust":
        with pytest.raises(TypeError, match=r"over the samples to choose from, as Subset\(dataset, indices\)"):
            trainer.fit(modules.ImageDict(), loader)
        assert trainer.global_step == 0
        return
    trainer.fit(modules.ImageDict(), loader)
    assert trainer.global_step == 9
    if method == "ELR":
        assert callback.targets.rows[:96].sum(1).all()
        assert not callback.targets.rows[96:].any()
    if positions.order:
        assert set(positions.order) == set(range(96))


SEES_OTHER_INPUTS = ("Crust", "SPL with a second forward pass")


# Lightning's callbacks, and torch's tools --------------------------------------------------------------


def test_update_bn_reads_the_indexed_loader() -> None:
    module = modules.ListBatch()
    module.net.insert(1, nn.BatchNorm1d(64))
    means = []
    for loader in (module.loader(shuffle=False), indexed(module.loader(shuffle=False))):
        averaged = AveragedModel(module.net)
        update_bn(loader, averaged)
        means.append(averaged.module[1].running_mean.clone())
    assert means[0].abs().sum() > 0
    assert torch.equal(*means)


@every_method
@pytest.mark.parametrize(
    "averaging",
    [lambda: StochasticWeightAveraging(swa_lrs=0.05, swa_epoch_start=1), EMAWeightAveraging],
    ids=["SWA", "EMA"],
)
def test_weight_averaging(method: str, averaging: Callable[[], L.Callback]) -> None:
    module = WithBatchNorm()
    keys = list(module.state_dict())
    make_trainer(averaging(), METHODS[method]()).fit(module, indexed(module.loader()))
    assert list(module.state_dict()) == keys
    assert all(values.isfinite().all() for values in module.state_dict().values())
    assert torch._C._len_torch_function_stack() == 0


@every_method
def test_batch_size_finder(method: str, tmp_path: Path) -> None:
    class Own(modules.ImageDict):
        def __init__(self) -> None:
            super().__init__()
            self.batch_size = 8

        def train_dataloader(self) -> DataLoader[Any]:
            return indexed(self.loader(batch_size=self.batch_size))

        def val_dataloader(self) -> DataLoader[Any]:
            return self.loader("test", 64, batch_size=self.batch_size)

    module = Own()
    finder = BatchSizeFinder(init_val=8, max_trials=2, steps_per_trial=2)
    callback = METHODS[method]()
    trainer = make_trainer(finder, callback, default_root_dir=tmp_path)
    trainer.fit(module)
    assert module.batch_size > 8
    steps = math.ceil(128 / module.batch_size)
    assert trainer.global_step < 3 * steps if method == "Crust" else trainer.global_step == 3 * steps


@every_method
def test_learning_rate_finder(method: str, tmp_path: Path) -> None:
    module = modules.ImageDict()
    finder = LearningRateFinder(num_training_steps=30, early_stop_threshold=None)
    callback = METHODS[method]()
    positions = Positions()
    callbacks = [finder, callback] if method in SEES_OTHER_INPUTS else [finder, callback, positions]
    trainer = make_trainer(*callbacks, default_root_dir=tmp_path)
    trainer.fit(module, indexed(module.loader()))
    assert trainer.global_step == (8 if method == "Crust" else 12)
    if method == "ELR":
        # As many visits as the fit had: the finder's are not counted.
        torch.testing.assert_close(callback.targets.rows.sum(1), torch.full((128,), 1 - 0.7**3))


@every_method
def test_early_stopping(method: str) -> None:
    stop = EarlyStopping("val_acc", mode="min", patience=0)
    trainer = make_trainer(stop, METHODS[method](), max_epochs=6)
    trainer.fit(modules.ImageDict(), indexed(modules.ImageDict.loader()), modules.ImageDict.loader("test", 64))
    assert 0 < trainer.current_epoch < 6


@every_method
def test_resumed_equals_uninterrupted(method: str, tmp_path: Path) -> None:
    module = modules.ImageDict

    def fit(folder: str, max_epochs: int, resume: Path | None = None) -> modules.Project:
        torch.manual_seed(0)
        example = module()
        checkpoint = ModelCheckpoint(tmp_path / folder, save_last=True, save_top_k=0)
        options = {"enable_checkpointing": True, "max_epochs": max_epochs}
        trainer = make_trainer(METHODS[method](), checkpoint, **options)
        trainer.fit(example, indexed(module.loader()), ckpt_path=resume, weights_only=False)
        return example

    whole = fit("whole", 4)
    fit("half", 2)
    resumed = fit("resumed", 4, tmp_path / "half" / "last.ckpt")
    for name, values in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], values)


@every_method
def test_accumulation(method: str) -> None:
    trainer = make_trainer(METHODS[method](), accumulate_grad_batches=2)
    trainer.fit(modules.ImageDict(), indexed(modules.ImageDict.loader()))
    assert trainer.global_step == (4 if method == "Crust" else 6)


@pytest.mark.parametrize("precision", ["bf16-mixed", "64-true", "bf16-true", "16-true"])
@pytest.mark.parametrize("method", [*METHODS, "PRLGradient"])
def test_precision_with_a_float32_loader(method: str, precision: Any) -> None:
    module = modules.ImageDict()
    callback = METHODS[method]() if method in METHODS else PRLGradient(0.25)
    trainer = make_trainer(callback, precision=precision)
    trainer.fit(module, indexed(module.loader()))
    assert trainer.global_step == (8 if method == "Crust" else 12)
    assert all(values.isfinite().all() for values in module.state_dict().values())
    if method == "ELR":
        assert callback.targets.rows.dtype == (torch.float64 if precision == "64-true" else torch.float32)


@pytest.mark.parametrize("num_workers", [0, 2])
@every_method
def test_workers(method: str, num_workers: int) -> None:
    loader = indexed(modules.ImageDict.loader(num_workers=num_workers))
    trainer = make_trainer(METHODS[method](), max_epochs=2)
    trainer.fit(modules.ImageDict(), loader)
    assert trainer.global_step == (6 if method == "Crust" else 8)


@every_method
def test_compiled_module(method: str) -> None:
    torch.compiler.reset()
    compiled = torch.compile(modules.ImageDict(), backend="eager")
    callback = METHODS[method]()
    trainer = make_trainer(callback)
    trainer.fit(compiled, indexed(modules.ImageDict.loader()))
    assert trainer.global_step == (8 if method == "Crust" else 12)
    if method == "ELR":
        torch.testing.assert_close(callback.targets.rows.sum(1), torch.full((128,), 1 - 0.7**3))


@pytest.mark.parametrize("callback", [Crust(warmup_epochs=0), SPL(0.5, second_forward=True)], ids=["Crust", "SPL"])
def test_a_dataset_that_hands_out_its_own_tensors_keeps_them(callback: Any) -> None:
    """One batch is the whole dataset, on the CPU, without a copy."""
    x, y = torch.rand(64, 64, generator=torch.Generator().manual_seed(0)), torch.arange(64) % 10
    copies = x.clone(), y.clone()

    class Whole(TensorDataset):
        def __getitems__(self, indices: list[int]) -> Any:
            return self.tensors if len(indices) == len(self) else (x[indices], y[indices])

    loader = DataLoader(Whole(x, y), batch_size=64, collate_fn=lambda batch: batch)
    torch.manual_seed(0)
    make_trainer(callback, max_epochs=2).fit(modules.FunctionalLoss(), indexed(loader))
    assert torch.equal(x, copies[0])
    assert torch.equal(y, copies[1])
