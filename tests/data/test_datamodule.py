"""From a dataset and its noise to loaders."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils.data import DataLoader

from noisylabels_pl.data import (
    Batch,
    Digits,
    FileNoise,
    LabelNoise,
    NoisyDataModule,
    NpzData,
    Selection,
    SelectionSampler,
)
from noisylabels_pl.data.augment import crop_and_flip
from noisylabels_pl.data.split import stratified_split
from tests.data.digits_truth import true_labels
from tests.helpers import Recorder

Make = Callable[..., Any]
TRAIN = 1348  # a quarter of the 1,797 digits is the test set


def noisy(**options: Any) -> Digits:
    """Digits with 40 % of the labels wrong."""
    noise = options.pop("noise", LabelNoise("sym", rate=0.4, seed=0))
    data = Digits(noise, **options)
    data.setup()
    return data


def together(loader: DataLoader[Any]) -> tuple[Tensor, Tensor]:
    batches = list(loader)
    return torch.cat([x for x, _ in batches]), torch.cat([y for _, y in batches])


# --- stratified_split -------------------------------------------------------------------------------------------------


@settings(derandomize=True, max_examples=150, deadline=None)
@given(st.lists(st.integers(0, 5), max_size=80), st.floats(0, 1), st.integers(0, 1000))
def test_split_keeps_the_fractions_of_labels(labels: list[int], fraction: float, seed: int) -> None:
    n, y = len(labels), torch.tensor(labels, dtype=torch.int64)
    size = round(fraction * n)
    rows = torch.arange(n) * 3 + 1  # not the positions, because labels[i] belongs to rows[i]
    taken, rest = stratified_split(rows, y, size, np.random.default_rng(seed))
    assert len(taken) == size
    assert sorted(taken.tolist() + rest.tolist()) == rows.tolist()
    assert taken.tolist() == sorted(taken.tolist())
    assert rest.tolist() == sorted(rest.tolist())
    for label in set(labels):
        expected = labels.count(label) * size / n
        assert abs(int((y[taken // 3] == label).sum()) - expected) < 1


def test_split_follows_from_the_generator() -> None:
    rows, labels = torch.arange(100), torch.arange(100) % 4

    def taken(seed: int) -> list[int]:
        return stratified_split(rows, labels, 20, np.random.default_rng(seed))[0].tolist()

    assert taken(1) == taken(1)
    assert taken(1) != taken(2)


def test_split_takes_every_row_about_as_often() -> None:
    # Sizes that do not divide: 23 of 50, with classes of 31, 15 and 4.
    rows, labels, draws = torch.arange(50), torch.tensor([0] * 31 + [1] * 15 + [2] * 4), 400
    taken = torch.zeros(50)
    for seed in range(draws):
        taken[stratified_split(rows, labels, 23, np.random.default_rng(seed))[0]] += 1
    # A class may be rounded up or down, by at most one row; within it the rows are alike.
    for label in range(3):
        members = taken[labels == label]
        mean = float(members.mean())
        assert abs(mean / draws - 23 / 50) < 1 / len(members)
        assert ((members - mean).abs() <= 4.5 * (mean * (1 - mean / draws)) ** 0.5).all()


# --- the split --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("val_fraction", "train_size", "total", "held_out"),
    [
        (0.1, None, TRAIN, 135),
        (0.0, None, TRAIN, 0),
        (0.5, 301, 301, 150),
        (0.1, 100, 100, 10),
        (0.25, 9999, TRAIN, 337),
    ],
)
def test_sizes(val_fraction: float, train_size: int | None, total: int, held_out: int) -> None:
    data = noisy(val_fraction=val_fraction, train_size=train_size)
    assert len(data.val_indices) == held_out
    assert len(data.train_indices) == total - held_out
    rows = data.val_indices.tolist() + data.train_indices.tolist()
    assert len(set(rows)) == total
    assert set(rows) <= set(range(TRAIN))
    assert len(data.train_dataloader().dataset) == total - held_out  # type: ignore[arg-type]


def test_parts_are_stratified_by_observed_labels() -> None:
    data = noisy(train_size=500, val_fraction=0.3)
    observed = data.labels.observed
    everything = torch.bincount(observed, minlength=10)
    kept = torch.cat([data.train_indices, data.val_indices])
    assert ((torch.bincount(observed[kept], minlength=10) - everything * 500 / TRAIN).abs() < 1).all()
    held_out = torch.bincount(observed[data.val_indices], minlength=10)
    assert ((held_out - torch.bincount(observed[kept], minlength=10) * 0.3).abs() < 1).all()


def test_split_follows_from_its_seed() -> None:
    one, same, other = (noisy(seed=seed, train_size=600) for seed in (1, 1, 2))
    assert torch.equal(one.train_indices, same.train_indices)
    assert torch.equal(one.val_indices, same.val_indices)
    assert set(one.train_indices.tolist()) != set(other.train_indices.tolist())
    assert set(one.val_indices.tolist()) != set(other.val_indices.tolist())


def test_setting_up_leaves_the_global_generators_alone() -> None:
    torch.manual_seed(5)
    np.random.seed(5)  # noqa: NPY002
    before = torch.get_rng_state(), np.random.get_state()[1].tolist()  # type: ignore[index] # noqa: NPY002
    data = noisy(train_size=300)
    data.train_dataloader()
    data.val_dataloader()
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1] == np.random.get_state()[1].tolist()  # type: ignore[index] # noqa: NPY002


# --- the noise --------------------------------------------------------------------------------------------------------


def test_noise_comes_before_the_split() -> None:
    variants = [noisy(), noisy(seed=7), noisy(val_fraction=0.0), noisy(train_size=200), noisy(batch_size=7)]
    assert len({data.labels.sha256 for data in variants}) == 1
    for data in variants:
        assert len(data.labels.observed) == TRAIN


def test_noise_follows_from_its_own_seed() -> None:
    one, other = (noisy(noise=LabelNoise("sym", rate=0.4, seed=seed)) for seed in (0, 1))
    assert one.labels.sha256 != other.labels.sha256


def test_realized_rate_is_reported() -> None:
    data = noisy()
    wrong = data.labels.observed != data.arrays.y_train
    assert data.labels.rate == pytest.approx(float(wrong.double().mean()))
    assert 0.34 < float(wrong.double().mean()) < 0.46
    assert data.labels.realized_T is not None
    torch.testing.assert_close(data.labels.realized_T.sum(1), torch.ones(10, dtype=torch.float64))


def test_labels_are_the_same_every_epoch() -> None:
    data = noisy(train_size=300)
    loader = data.train_dataloader()
    seen: dict[int, set[int]] = {}
    for epoch in range(3):
        loader.sampler.set_epoch(epoch)  # type: ignore[attr-defined]
        for batch in loader:
            for index, label in zip(batch.index.tolist(), batch.y.tolist(), strict=True):
                seen.setdefault(index, set()).add(label)
    assert {index: {label} for index, label in enumerate(data.labels.observed[data.train_indices].tolist())} == seen


def test_saved_noise_gives_the_same_run(tmp_path: Path) -> None:
    data = noisy()
    data.labels.save(tmp_path / "noise.npz")
    again = noisy(noise=FileNoise(tmp_path / "noise.npz"))
    assert again.labels.sha256 == data.labels.sha256
    assert again.labels.rate == data.labels.rate
    assert torch.equal(again.train_indices, data.train_indices)
    assert again.clean_targets is not None
    assert data.clean_targets is not None
    assert torch.equal(again.clean_targets, data.clean_targets)


def test_clean_targets_go_with_the_positions_of_a_batch() -> None:
    data = noisy(train_size=400)
    assert data.clean_targets is not None
    assert len(data.clean_targets) == len(data.train_indices)
    wrong = 0
    for batch in data.train_dataloader():
        clean = data.clean_targets[batch.index]
        assert true_labels(batch.x) == clean.tolist()
        wrong += int((batch.y != clean).sum())
    observed, rows = data.labels.observed, data.train_indices
    assert wrong == int((observed[rows] != data.arrays.y_train[rows]).sum())
    assert wrong > 100


def test_validation_labels_carry_the_noise_and_test_labels_do_not() -> None:
    data = noisy(val_fraction=0.5)
    loaders = data.val_dataloader()
    x, y = together(loaders["val"])
    assert y.tolist() == data.labels.observed[data.val_indices].tolist()
    wrong = torch.tensor(true_labels(x)) != y
    assert 0.3 < float(wrong.double().mean()) < 0.5
    x, y = together(loaders["test"])
    assert true_labels(x) == y.tolist()


def test_without_noise_the_labels_of_a_known_dataset_are_the_true_ones() -> None:
    data = noisy(noise=LabelNoise())
    assert data.labels.rate == 0
    assert torch.equal(data.labels.observed, data.arrays.y_train)


# --- loaders ----------------------------------------------------------------------------------------------------------


def test_training_loader_can_be_selected_from_and_is_always_the_same() -> None:
    data = noisy(train_size=100, val_fraction=0.0, batch_size=32)
    loader = data.train_dataloader()
    assert data.train_dataloader() is loader
    assert isinstance(loader.sampler, SelectionSampler)
    assert [len(batch.index) for batch in loader] == [32, 32, 32, 4]
    loader.sampler.selection = Selection(torch.tensor([5, 50, 99]), partners=torch.tensor([1, 2, 3]))
    (batch,) = data.train_dataloader()
    assert isinstance(batch, Batch)
    assert dict(zip(batch.index.tolist(), batch.partner.index.tolist(), strict=True)) == {5: 1, 50: 2, 99: 3}
    observed = data.labels.observed[data.train_indices]
    assert torch.equal(batch.y, observed[batch.index])
    assert torch.equal(batch.partner.y, observed[batch.partner.index])


def test_order_follows_from_the_seed() -> None:
    def order(seed: int) -> list[int]:
        return torch.cat([batch.index for batch in noisy(seed=seed, train_size=200).train_dataloader()]).tolist()

    assert order(1) == order(1)
    assert order(1) != order(2)


def test_a_last_batch_that_is_not_full_is_left_out_in_training(make_trainer: Make, classifier: Make) -> None:
    visits = Recorder()
    data = noisy(drop_last=True, train_size=100, val_fraction=0.0, batch_size=32)
    make_trainer(visits, max_epochs=3).fit(classifier(), datamodule=data)
    assert [len(visited) for visited in visits.visited.values()] == [96, 96, 96]
    assert len({*visits.visited[0], *visits.visited[1], *visits.visited[2]}) > 96  # other ones in each epoch
    assert torch.equal(together(data.test_dataloader())[1], data.arrays.y_test)
    with pytest.raises(
        ValueError, match=r"^drop_last=True leaves no batch, because 100 .* batch_size=101; set drop_last"
    ):
        noisy(drop_last=True, train_size=100, val_fraction=0.0, batch_size=101)


def test_evaluation_visits_everything_once_in_order() -> None:
    data = noisy(val_fraction=0.5)
    loaders = data.val_dataloader()
    assert list(loaders) == ["val", "test"]
    for _ in range(2):
        x, y = together(loaders["test"])
        assert torch.equal(x, data.arrays.x_test)
        assert torch.equal(y, data.arrays.y_test)
        x, y = together(loaders["val"])
        assert torch.equal(x, data.arrays.x_train[data.val_indices])
    assert len(loaders["val"]) == 2  # so that the batches' seam is in it


def test_predictions_are_of_all_training_samples_in_order(make_trainer: Make, classifier: Make) -> None:
    data, module = noisy(val_fraction=0.2, train_size=300), classifier()
    predicted = torch.cat(make_trainer().predict(module, datamodule=data))
    x = (data.arrays.x_train.float() - data.arrays.mean) / data.arrays.std
    with torch.no_grad():
        torch.testing.assert_close(predicted, module.eval()(x))


def test_without_validation_split_there_is_only_the_test_set() -> None:
    data = noisy(val_fraction=0.0)
    loaders = data.val_dataloader()
    assert list(loaders) == ["test"]
    assert len(data.val_indices) == 0
    assert data.train_indices.tolist() == list(range(TRAIN))
    assert torch.equal(together(loaders["test"])[1], data.arrays.y_test)


def test_workers_give_the_same_batches() -> None:
    here, elsewhere = (list(noisy(train_size=120, num_workers=n).train_dataloader()) for n in (0, 2))
    assert len(here) == len(elsewhere)
    for one, other in zip(here, elsewhere, strict=True):
        for name in ("x", "y", "index"):
            assert torch.equal(getattr(one, name), getattr(other, name))


def test_set_up_twice_is_set_up_once() -> None:
    data = noisy(train_size=200)
    before = data.arrays, data.labels, data.train_indices, data.clean_targets, data.train_dataloader()
    data.setup()
    data.setup("fit")
    data.setup("test")
    after = data.arrays, data.labels, data.train_indices, data.clean_targets, data.train_dataloader()
    for one, other in zip(before, after, strict=True):
        assert one is other


def test_hash_of_the_data_does_not_depend_on_options() -> None:
    digests = {noisy(**options).arrays.digest() for options in ({}, {"seed": 3}, {"train_size": 50}, {"batch_size": 9})}
    digests.add(noisy(noise=LabelNoise("pairflip", rate=0.9)).arrays.digest())
    assert len(digests) == 1
    assert len(digests.pop()) == 64


# --- wrong arguments --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [-0.1, 1.0, 1.5, float("nan")])
def test_wrong_val_fraction(value: float) -> None:
    with pytest.raises(ValueError, match=rf"^val_fraction must lie in \[0, 1\), got {value}"):
        Digits(val_fraction=value)


@pytest.mark.parametrize("value", [0, -3])
@pytest.mark.parametrize("name", ["batch_size", "train_size"])
def test_sizes_that_are_not_positive(name: str, value: int) -> None:
    with pytest.raises(ValueError, match=rf"^{name} must lie in \[1, inf\), got {value}"):
        Digits(**{name: value})


def test_negative_crop_padding() -> None:
    with pytest.raises(ValueError, match=r"^crop_padding must not be negative, got -1"):
        noisy(crop_padding=-1)


def test_nothing_left_to_train_on() -> None:
    with pytest.raises(ValueError, match=r"^val_fraction=0\.9999 of 1348 samples leaves none to train on"):
        noisy(val_fraction=0.9999).train_dataloader()


@pytest.mark.parametrize("options", [{"crop_padding": 2}, {"flip": True}])
def test_features_cannot_be_cropped_or_flipped(tmp_path: Path, options: dict[str, Any]) -> None:
    x, y = np.random.default_rng(0).random((40, 5)), np.arange(40) % 4
    np.savez(tmp_path / "table.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    with pytest.raises(ValueError, match=next(iter(options))):
        NpzData(str(tmp_path / "table.npz"), **options).setup()


def on_devices(data: NoisyDataModule, devices: int) -> NoisyDataModule:
    data.trainer = L.Trainer(
        accelerator="cpu", devices=devices, strategy="ddp_spawn", logger=False, enable_checkpointing=False
    )
    return data


def test_batch_size_is_that_of_all_devices_together() -> None:
    loader = on_devices(noisy(batch_size=96), 3).train_dataloader()
    assert loader.batch_size == 32


@pytest.mark.parametrize(("batch_size", "advice"), [(100, 99), (2, 3)])
def test_batch_size_that_does_not_divide_by_the_devices(batch_size: int, advice: int) -> None:
    data = on_devices(noisy(batch_size=batch_size), 3)
    with pytest.raises(ValueError, match=rf"^batch_size={batch_size} .*3 devices; take {advice}$"):
        data.train_dataloader()


# --- on the device ----------------------------------------------------------------------------------------------------


class Watcher(L.Callback):
    """Record the inputs of the network, by epoch and position; those of validation in order."""

    def __init__(self) -> None:
        self.training: dict[int, dict[int, Tensor]] = {}
        self.validation: list[Tensor] = []

    def on_train_batch_start(self, trainer: L.Trainer, pl_module: Any, batch: Batch, batch_idx: int) -> None:
        assert isinstance(batch, Batch)
        epoch = self.training.setdefault(trainer.current_epoch, {})
        epoch.update(zip(batch.index.tolist(), batch.x, strict=True))

    def on_validation_batch_start(
        self, trainer: L.Trainer, pl_module: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        if dataloader_idx == 0 and trainer.current_epoch == 0:
            self.validation.append(batch[0])

    def images(self, epoch: int) -> Tensor:
        return torch.stack([self.training[epoch][index] for index in sorted(self.training[epoch])])


@pytest.fixture
def watch(classifier: Make, make_trainer: Make) -> Callable[..., tuple[Watcher, NoisyDataModule]]:
    def run(epochs: int = 2, *, validate: bool = False, **options: Any) -> tuple[Watcher, NoisyDataModule]:
        watcher, data = Watcher(), noisy(**({"train_size": 100, "val_fraction": 0.2} | options))
        trainer = make_trainer(watcher, max_epochs=epochs, limit_val_batches=1.0 if validate else 0)
        trainer.fit(classifier(), datamodule=data)
        return watcher, data

    return run


def standardized(data: NoisyDataModule, rows: Tensor) -> Tensor:
    return (data.arrays.x_train[rows].float() - data.arrays.mean) / data.arrays.std


def test_without_augmentation_every_epoch_shows_the_same(watch: Make) -> None:
    watcher, data = watch()
    for epoch in range(2):
        torch.testing.assert_close(watcher.images(epoch), standardized(data, data.train_indices))


def test_augmentation_follows_from_seed_epoch_and_position(watch: Make) -> None:
    options = {"crop_padding": 1, "flip": True}
    one, _ = watch(**options, batch_size=16)
    other, _ = watch(**options, batch_size=33, num_workers=1)
    for epoch in range(2):
        assert torch.equal(one.images(epoch), other.images(epoch))
    assert not torch.equal(one.images(0), one.images(1))


def test_augmentation_changes_with_the_seed(watch: Make) -> None:
    saved = {}
    for seed in (0, 1):
        watcher, data = watch(1, crop_padding=1, seed=seed)
        rows = data.train_indices.tolist()
        saved[seed] = dict(zip(rows, watcher.images(0), strict=True))
    common = set(saved[0]) & set(saved[1])
    changed = [not torch.equal(saved[0][row], saved[1][row]) for row in common]
    assert len(common) > 3
    assert any(changed)


def test_every_crop_and_flip_occurs_and_nothing_else(watch: Make) -> None:
    watcher, data = watch(1, crop_padding=1, flip=True, train_size=400, val_fraction=0.0)
    x = data.arrays.x_train[data.train_indices]
    explained = torch.zeros(len(x), dtype=torch.bool)
    for top in range(3):
        for left in range(3):
            for flip in (False, True):
                offsets, flips = torch.tensor([[top, left]]).expand(len(x), 2), torch.full((len(x),), flip)
                variant = crop_and_flip(x, offsets, flips, padding=1)
                shown = (variant.float() - data.arrays.mean) / data.arrays.std
                same = (shown == watcher.images(0)).flatten(1).all(1)
                # 400 / 18 are expected; the digits' blank borders make some variants coincide.
                assert int(same.sum()) >= 5
                explained |= same
    assert explained.all()


def test_validation_is_not_augmented(watch: Make) -> None:
    watcher, data = watch(1, validate=True, crop_padding=2, flip=True, val_fraction=0.5)
    torch.testing.assert_close(torch.cat(watcher.validation), standardized(data, data.val_indices))


def test_outside_of_a_fit_nothing_is_augmented() -> None:
    data = noisy(train_size=100, crop_padding=2, flip=True)
    batch = next(iter(data.train_dataloader()))
    shown = data.on_after_batch_transfer(batch, 0)
    assert shown is batch
    torch.testing.assert_close(shown.x, standardized(data, data.train_indices[batch.index]))


def test_partners_are_prepared_like_the_samples() -> None:
    data = noisy(train_size=100)
    loader = data.train_dataloader()
    loader.sampler.selection = Selection(torch.arange(8), partners=torch.arange(8) + 50)  # type: ignore[attr-defined]
    (batch,) = loader
    partner = data.on_after_batch_transfer(batch, 0).partner
    torch.testing.assert_close(partner.x, standardized(data, data.train_indices[partner.index]))


@pytest.mark.parametrize("precision", ["64-true", "bf16-true", "bf16-mixed"])
def test_any_precision_of_the_trainer(classifier: Make, make_trainer: Make, precision: str) -> None:
    data = noisy(train_size=64, batch_size=32)
    trainer = make_trainer(max_epochs=1, precision=precision)
    trainer.fit(classifier(), datamodule=data)
    assert trainer.global_step == 2
