"""Promises that every regression dataset keeps."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from noisylabels_pl.data import LabelNoise, NoisyDataModule
from tests.data.datasets.regression_data import ROWS, every_dataset, made, noisy


@every_dataset
def test_shapes_and_standardized_targets(name: str) -> None:
    arrays = made(name).arrays
    train, test, features, targets = ROWS[name]
    for x, y, rows in ((arrays.x_train, arrays.y_train, train), (arrays.x_test, arrays.y_test, test)):
        assert (x.shape, y.shape) == ((rows, features), (rows, targets))
        assert x.dtype == y.dtype == torch.float32
        assert x.isfinite().all()
        assert y.isfinite().all()
    assert arrays.y_train.mean(0).tolist() == pytest.approx([0.0] * targets, abs=1e-5)
    assert arrays.y_train.std(0, correction=0).tolist() == pytest.approx([1.0] * targets, abs=1e-5)
    assert arrays.y_test.std(0).min() > 0.5  # in the unit of the training set, not of its own
    assert arrays.y_test.mean(0).abs().max() > 1e-4
    assert arrays.is_regression
    assert len(arrays.class_names) == len(set(arrays.class_names)) == targets
    assert arrays.y_train_clean is not None
    assert torch.equal(arrays.y_train_clean, arrays.y_train)


@every_dataset
def test_training_and_test_set_are_disjoint(name: str) -> None:
    arrays = made(name).arrays
    rows = {row.numpy().tobytes() for row in torch.cat([arrays.x_train, arrays.x_test])}
    assert len(rows) == sum(ROWS[name][:2])


@every_dataset
def test_every_seed_has_the_same_data_in_another_split_and_order(name: str) -> None:
    def order(data: NoisyDataModule) -> list[int]:
        return [row for batch in data.train_dataloader() for row in data.train_indices[batch.index].tolist()]

    one, again, other = (made(name, seed=seed, batch_size=50) for seed in (0, 0, 1))
    assert one.arrays.digest() == again.arrays.digest() == other.arrays.digest()
    assert torch.equal(one.val_indices, again.val_indices)
    assert not torch.equal(one.val_indices, other.val_indices)
    first = order(one)
    assert first == order(again)
    assert first != order(other)
    assert first != sorted(first)


@every_dataset
@pytest.mark.parametrize("fraction", [0.0, 0.1, 0.25])
@pytest.mark.parametrize("size", [None, 200])
def test_split(name: str, fraction: float, size: int | None) -> None:
    data = made(name, noisy(), val_fraction=fraction, train_size=size)
    rows = size or ROWS[name][0]
    held_out = round(fraction * rows)
    assert len(data.val_indices) == held_out
    assert len(data.train_indices) == rows - held_out
    together = [*data.val_indices.tolist(), *data.train_indices.tolist()]
    assert len(set(together)) == rows
    assert set(together) <= set(range(ROWS[name][0]))
    assert set(data.val_dataloader()) == ({"val", "test"} if fraction else {"test"})
    assert data.clean_targets is not None
    assert torch.equal(data.clean_targets, data.arrays.y_train[data.train_indices])


@every_dataset
def test_validation_is_random_and_noisy(name: str) -> None:
    taken = torch.zeros(ROWS[name][0])
    shares = []
    for seed in range(20):
        data = made(name, noisy(seed=seed), seed=seed, val_fraction=0.25)
        taken[data.val_indices] += 1
        y = torch.cat([y for _, y in data.val_dataloader()["val"]])
        clean = data.arrays.y_train[data.val_indices]
        assert torch.equal(y, data.labels.observed[data.val_indices])
        wrong = (y != clean).any(1)
        assert torch.equal(y[wrong], -clean[wrong])
        shares.append(float(wrong.double().mean()))
    assert 0.2 < min(shares) < 0.4 < max(shares) < 0.6  # not stratified by what is wrong
    assert np.mean(shares) == pytest.approx(0.4, abs=0.05)
    assert 0 < taken.sum() / len(taken) / 20 < 0.26
    assert taken.max() <= 14  # of 20 draws with probability 1/4
    halves = taken.view(2, -1).sum(1)
    assert abs(float(halves[0] - halves[1])) < 0.15 * float(taken.sum())


@every_dataset
def test_test_set_is_clean(name: str) -> None:
    data = made(name, noisy(rate=1.0, features=1.0))
    for loader in (data.test_dataloader(), data.val_dataloader()["test"]):
        x, y = (torch.cat(parts) for parts in zip(*loader, strict=True))
        assert torch.equal(x, made(name).arrays.x_test)
        assert torch.equal(y, made(name).arrays.y_test)


@every_dataset
def test_the_network_is_given_standardized_features(name: str) -> None:
    data = made(name, val_fraction=0.0)
    x = torch.cat([data.on_after_batch_transfer(batch, 0).x for batch in data.train_dataloader()])
    assert x.dtype == torch.float32
    assert x.mean(0).abs().max() < 1e-4
    assert x.std(0, correction=0).sub(1).abs().max() < 1e-3


@every_dataset
@pytest.mark.parametrize("options", [{"flip": True}, {"crop_padding": 2}])
def test_augmentation_is_for_images(name: str, options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"^crop_padding, flip and crop_size are for images"):
        made(name, **options)


@every_dataset
def test_noise_of_classes_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"^kind='sym' is not for .*signflip"):
        made(name, LabelNoise("sym", rate=0.4))
