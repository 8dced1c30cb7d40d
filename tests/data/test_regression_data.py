"""The datasets whose targets are real numbers."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_diabetes
from sklearn.linear_model import Ridge
from sklearn.metrics import r2_score

from noisylabels_pl.data import Diabetes, LabelNoise, NoisyDataModule, NpzRegression, SyntheticRegression

SAMPLES = 500
MAKERS: dict[str, Any] = {
    "diabetes": Diabetes,
    "synthetic": partial(SyntheticRegression, num_samples=SAMPLES),
}
ROWS = {"diabetes": (354, 88, 10, 1), "synthetic": (400, 100, 512, 10)}  # training, test, features, targets
every_dataset = pytest.mark.parametrize("name", MAKERS)


def made(name: str, noise: LabelNoise | None = None, **options: Any) -> NoisyDataModule:
    data: NoisyDataModule = MAKERS[name](noise=noise, **options)
    data.setup()
    return data


def noisy(**options: Any) -> LabelNoise:
    return LabelNoise("signflip", **({"rate": 0.4, "count": "exact"} | options))


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


def test_diabetes_is_that_of_scikit_learn() -> None:
    arrays = made("diabetes").arrays
    features, progression = load_diabetes(return_X_y=True, scaled=False)
    truth = {row.astype(np.float32).tobytes(): y for row, y in zip(features, progression, strict=True)}
    train, test = ([truth[row.numpy().tobytes()] for row in x] for x in (arrays.x_train, arrays.x_test))
    assert sorted([*train, *test]) == sorted(progression.tolist())
    for original, y in ((train, arrays.y_train), (test, arrays.y_test)):
        expected = (np.array(original) - np.mean(train)) / np.std(train)
        np.testing.assert_allclose(y[:, 0].numpy(), expected, atol=1e-5)


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


def test_synthetic_data_does_not_depend_on_the_global_generator() -> None:
    torch.manual_seed(1)
    state = torch.get_rng_state()
    one = made("synthetic").arrays.digest()
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    assert made("synthetic").arrays.digest() == one


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


# --- synthetic_regression ---------------------------------------------------------------------------------------------


def ridge_r2(**options: Any) -> float:
    data = SyntheticRegression(num_samples=2000, **options)
    data.setup()
    arrays = data.arrays
    x_train, x_test = ((x - arrays.mean) / arrays.std for x in (arrays.x_train, arrays.x_test))
    ridge = Ridge(alpha=300.0).fit(x_train.numpy(), arrays.y_train.numpy())
    return float(r2_score(arrays.y_test.numpy(), ridge.predict(x_test.numpy())))


def test_features_predict_the_targets_as_far_as_can_be() -> None:
    plain, default, half = ridge_r2(unpredictable=0.0), ridge_r2(), ridge_r2(unpredictable=0.5)
    assert plain > 0.7
    assert plain > default > half
    assert 0.6 < default < 0.92
    assert 0.2 < half < 0.52
    assert plain - half > 0.25


def test_no_target_is_a_copy_of_another() -> None:
    arrays = made("synthetic").arrays
    correlations = torch.corrcoef(arrays.y_train.T).fill_diagonal_(0)
    assert correlations.abs().max() < 0.95


def test_options_are_of_the_data() -> None:
    digests = {
        SyntheticRegression(num_samples=50, **options).load().digest()
        for options in ({}, {"num_causes": 5}, {"unpredictable": 0.3})
    }
    assert len(digests) == 3


def test_few_causes_leave_little_in_the_features() -> None:
    x = SyntheticRegression(num_samples=SAMPLES, num_causes=2).load().x_train
    spectrum = torch.linalg.svdvals(x - x.mean(0)).square()
    assert spectrum[:10].sum() / spectrum.sum() > 0.9


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_samples": 3}, r"data\.num_samples must be a whole number of at least \d+, got 3"),
        ({"num_samples": -1}, r"data\.num_samples must be a whole number of at least \d+, got -1"),
        ({"num_causes": 0}, r"data\.num_causes must be a whole number of at least 1, got 0"),
        ({"unpredictable": 1.0}, r"data\.unpredictable must lie in \[0, 1\), got 1\.0"),
        ({"unpredictable": -0.1}, r"data\.unpredictable must lie in \[0, 1\), got -0\.1"),
        ({"unpredictable": float("nan")}, r"data\.unpredictable must lie in \[0, 1\), got nan"),
        ({"val_fraction": 1.0}, r"data\.val_fraction must lie in \[0, 1\), got 1"),
        ({"train_size": 0}, r"data\.train_size must be at least 1, got 0"),
    ],
)
def test_arguments_out_of_range(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SyntheticRegression(**options)


@every_dataset
@pytest.mark.parametrize("options", [{"flip": True}, {"crop_padding": 2}])
def test_augmentation_is_for_images(name: str, options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"data\.crop_padding and data\.flip are for images"):
        made(name, **options)


@every_dataset
def test_noise_of_classes_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"noise=sym\b.*signflip"):
        made(name, LabelNoise("sym", rate=0.4))


# --- your own numbers ---


def own(path: Path, **changed: Any) -> NpzRegression:
    rng = np.random.default_rng(0)
    arrays = {"x_train": rng.normal(size=(30, 4)), "x_test": rng.normal(size=(10, 4))}
    arrays |= {"y_train": 1000 + 5 * rng.normal(size=(30, 2)), "y_test": 1000 + 5 * rng.normal(size=(10, 2))}
    np.savez(path, **{name: value for name, value in (arrays | changed).items() if value is not None})
    return NpzRegression(str(path))


def test_own_numbers_are_standardized_as_they_are_observed(tmp_path: Path) -> None:
    clean = np.random.default_rng(1).normal(size=(30, 2))
    observed = np.where(np.arange(30)[:, None] < 6, clean + 100, clean)
    arrays = own(tmp_path / "own.npz", y_train=observed, y_train_clean=clean, y_test=clean[:10]).load()
    mean, std = observed.mean(0), observed.std(0)
    torch.testing.assert_close(arrays.y_train, torch.from_numpy((observed - mean) / std).float())
    torch.testing.assert_close(arrays.y_train_clean, torch.from_numpy((clean - mean) / std).float())
    torch.testing.assert_close(arrays.y_test, torch.from_numpy((clean[:10] - mean) / std).float())
    datamodule = own(tmp_path / "own.npz", y_train=observed, y_train_clean=clean, y_test=clean[:10])
    datamodule.setup()
    assert datamodule.labels.rate == 0.2
    single = own(tmp_path / "own.npz", y_train=observed[:, 0], y_test=clean[:10, 0]).load()
    assert single.y_train.shape == (30, 1)
    assert single.y_train_clean is None


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"y_test": None}, r"data\.path: .* has no array y_test"),
        ({"y_train": np.zeros((29, 2))}, r"y_train has shape \(29, 2\) .* each of the 30 samples"),
        ({"y_test": np.zeros((10, 3))}, r"y_test has 3 numbers a sample, y_train 2"),
        ({"y_train": np.full((30, 2), np.nan)}, r"y_train\[0\] is \[nan nan\], not a finite float32"),
        ({"y_train": np.array(["a"] * 30)}, r"y_train has shape \(30,\) and type <U1"),
    ],
)
def test_own_numbers_that_are_wrong(tmp_path: Path, changed: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        own(tmp_path / "own.npz", **changed).load()


def test_names_of_own_numbers(tmp_path: Path) -> None:
    datamodule = own(tmp_path / "own.npz")
    datamodule.target_names = ["weight"]
    with pytest.raises(ValueError, match=r"data\.target_names names 1 targets, but y_train has 2"):
        datamodule.load()
