"""Noise that depends on features: part-dependent noise, and a network's confusions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from noisylabels_pl.data import ConfusionNoise, Digits, InstanceNoise, LabelNoise, Noise, NoisyLabels
from noisylabels_pl.data.samples import StoredSamples
from noisylabels_pl.functional import empirical_transition_matrix, label_margins
from tests.data.noise.noise_samples import largest_deviation

NAMES = ("a", "b", "c", "d")
N = 8000
Y = torch.arange(N) % 4
X = 5 + 3 * torch.randn(N, 6, generator=torch.Generator().manual_seed(0))
PROBS = (2 * torch.randn(N, 4, generator=torch.Generator().manual_seed(1)) + 2 * torch.eye(4)[Y]).softmax(1)


def apply(noise: Noise, x: Any = X, y: Tensor = Y) -> NoisyLabels:
    return noise.apply(y, NAMES, features=x, mean=X.mean(0), spread=X.std(0))


def wrong(labels: NoisyLabels) -> Tensor:
    assert labels.is_wrong is not None
    return labels.is_wrong


@pytest.fixture
def probabilities(tmp_path: Path) -> str:
    np.save(tmp_path / "probabilities.npy", PROBS.numpy())
    return str(tmp_path / "probabilities.npy")


def assert_drawn_from_T(labels: NoisyLabels) -> None:
    """Every entry is as often there as the average of its probabilities says."""
    assert labels.T is not None
    torch.testing.assert_close(labels.T.sum(1), torch.ones(4).double())
    assert labels.realized_T is not None
    assert (N / 4 * (labels.realized_T - labels.T).abs() <= largest_deviation(labels.T, N // 4)).all()


# --- part-dependent ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", ["bernoulli", "exact"])
def test_instance_noise_has_its_rate_and_T(count: Any) -> None:
    labels = apply(InstanceNoise(rate=0.4, count=count, seed=1))
    assert labels.rate == pytest.approx(0.4, abs=0.012 if count == "bernoulli" else 0.004)
    assert_drawn_from_T(labels)


@pytest.mark.parametrize(("rate", "effective"), [(0.1, 0.129), (0.2, 0.206), (0.5, 0.5)])
def test_the_effective_rate_is_that_of_the_cut_off_distribution(rate: float, effective: float) -> None:
    assert apply(InstanceNoise(rate=rate, count="exact")).rate == pytest.approx(effective, abs=0.004)


def test_wrong_classes_follow_from_the_features() -> None:
    """NoiseInput with equal features are mistaken for the same classes; by class alone they are not."""
    x = X[:8].repeat(N // 8, 1)
    labels = apply(InstanceNoise(rate=0.6, seed=2), x)
    is_wrong = wrong(labels)
    by_sample = torch.stack(
        [torch.bincount(labels.observed[row::8][is_wrong[row::8]], minlength=4) for row in range(8)]
    )
    shares = by_sample / by_sample.sum(1, keepdim=True)
    assert (shares[:4] - shares[4:]).abs().max() > 0.3  # two groups of the same label
    T = empirical_transition_matrix(Y, labels.observed, 4)
    assert T.diagonal().mean() == pytest.approx(0.4, abs=0.02)


def test_the_scale_of_the_features_does_not_matter() -> None:
    plain = apply(InstanceNoise(rate=0.4))
    other = InstanceNoise(rate=0.4).apply(Y, NAMES, features=X * 2, mean=2 * X.mean(0), spread=2 * X.std(0))
    assert torch.equal(plain.observed, other.observed)


class Images(StoredSamples):
    """Features that are decoded when they are asked for; a stand-in for a dataset of files."""

    def __init__(self) -> None:
        super().__init__(tuple(X.shape), X.dtype)
        self.largest = 0

    def __getitem__(self, indices: Tensor) -> Tensor:
        self.largest = max(self.largest, len(indices))
        return X[indices]

    def update_digest(self, hasher: Any) -> None:
        pass


def test_features_are_read_batch_by_batch() -> None:
    images = Images()
    assert torch.equal(apply(InstanceNoise(rate=0.4), images).observed, apply(InstanceNoise(rate=0.4)).observed)
    assert 0 < images.largest <= 1024


def test_features_in_files_are_not_corrupted() -> None:
    with pytest.raises(ValueError, match=r"^features=1\.0 is for images and features in memory, not for files"):
        apply(InstanceNoise(rate=0.4, features=1.0), Images())


def test_instance_noise_on_images_of_a_dataset() -> None:
    data = Digits(InstanceNoise(rate=0.3, seed=4))
    data.setup()
    assert data.labels.rate == pytest.approx(0.3, abs=0.05)
    other = Digits(InstanceNoise(rate=0.3, seed=4), normalization="unit")
    other.setup()
    assert data.labels.sha256 == other.labels.sha256  # noise does not depend on how images are normalized


def test_instance_noise_that_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^rate must lie in \(0, 1\], got 0; noise=none"):
        InstanceNoise(rate=0)
    with pytest.raises(ValueError, match=r"^noise=instance needs the features"):
        InstanceNoise(rate=0.4).apply(Y, NAMES)
    with pytest.raises(ValueError, match=r"^InstanceNoise is for class labels"):
        InstanceNoise(rate=0.4).apply(X, NAMES)


# --- confusions -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["proportional", "hardest"])
@pytest.mark.parametrize("rate", [0.0, 0.2, 0.6])
def test_confusions_have_their_rate_and_T(probabilities: str, order: Any, rate: float) -> None:
    labels = apply(ConfusionNoise(rate=rate, probabilities=probabilities, order=order, count="exact"))
    assert labels.rate == pytest.approx(rate, abs=1 / N)
    assert_drawn_from_T(labels)


def test_hardest_labels_are_those_with_the_least_margins(probabilities: str) -> None:
    is_wrong = wrong(apply(ConfusionNoise(rate=0.25, probabilities=probabilities, order="hardest")))
    margins = label_margins(PROBS, Y)
    assert margins[is_wrong].max() <= margins[~is_wrong].min()


def test_doubtful_labels_are_wrong_more_often(probabilities: str) -> None:
    is_wrong = wrong(apply(ConfusionNoise(rate=0.2, probabilities=probabilities)))
    doubt = 1 - PROBS.gather(1, Y[:, None]).squeeze(1)
    assert float(is_wrong.double().mean()) == pytest.approx(0.2, abs=0.02)
    factor = 0.2 / float(doubt.mean())
    for low in (0.2, 0.4, 0.6):
        some = (doubt >= low) & (doubt < low + 0.2)
        expected = factor * float(doubt[some].mean())
        assert float(is_wrong[some].double().mean()) == pytest.approx(expected, abs=0.05)


def test_wrong_labels_are_what_the_network_confuses(probabilities: str) -> None:
    labels = apply(ConfusionNoise(rate=0.5, probabilities=probabilities))
    is_wrong = wrong(labels)
    others = PROBS.clone().scatter(1, Y[:, None], 0.0)
    expected = (others / others.sum(1, keepdim=True)).max(1)
    is_second = labels.observed == expected.indices
    assert float(is_second[is_wrong].double().mean()) == pytest.approx(
        float(expected.values[is_wrong].mean()), abs=0.03
    )


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda p: p[1:], r"has shape \(7999, 4\) .*row of 4 probabilities for each of the 8000"),
        (lambda p: p[:, 1:], r"has shape \(8000, 3\)"),
        (lambda p: np.log(p), r"row 0 must be probabilities that sum to 1, got .*take the softmax"),
        (lambda p: np.where(np.arange(N)[:, None] == 17, np.nan, p), r"row 17 must be probabilities.*nan"),
        (lambda p: (p > 0.5).astype(np.int64), r"type int64"),
    ],
)
def test_probabilities_that_are_refused(probabilities: str, spoil: Any, message: str) -> None:
    np.save(probabilities, spoil(PROBS.numpy()))
    with pytest.raises(ValueError, match=rf"^probabilities: .*probabilities\.npy.*{message}"):
        apply(ConfusionNoise(rate=0.2, probabilities=probabilities))


def test_a_network_that_is_sure_of_all_but_a_few_samples(probabilities: str) -> None:
    probs = torch.eye(4)[Y]
    probs[:100] = 0.25
    np.save(probabilities, probs.numpy())
    labels = apply(ConfusionNoise(rate=0.5, probabilities=probabilities, count="exact"))
    assert wrong(labels)[:100].all()
    assert labels.rate == 0.5


def test_probabilities_in_an_npz_file(tmp_path: Path, probabilities: str) -> None:
    plain = apply(ConfusionNoise(rate=0.2, probabilities=probabilities))
    path = tmp_path / "p.npz"
    np.savez(path, probabilities=PROBS.numpy(), index=np.arange(N))
    assert torch.equal(apply(ConfusionNoise(rate=0.2, probabilities=str(path))).observed, plain.observed)
    np.savez(path, a=PROBS.numpy(), b=np.arange(N))
    with pytest.raises(ValueError, match=r"must hold an array probabilities; it holds a, b"):
        apply(ConfusionNoise(rate=0.2, probabilities=str(path)))
    with pytest.raises(FileNotFoundError, match=r"^probabilities: there is no file .*gone\.npy"):
        apply(ConfusionNoise(rate=0.2, probabilities="gone.npy"))


# --- confined ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("noise", [InstanceNoise, ConfusionNoise])
def test_noise_inside_of_a_region(noise: Any, probabilities: str) -> None:
    options = {"probabilities": probabilities} if noise is ConfusionNoise else {}
    region = {"hardest": 0.3, "probabilities": probabilities}
    labels = apply(noise(rate=0.5, count="exact", confined_to=region, **options))
    margins = label_margins(PROBS, Y)
    threshold = margins.sort().values[round(0.3 * N)]
    assert not wrong(labels)[margins >= threshold].any()
    assert labels.rate == pytest.approx(0.15, abs=0.002)
    assert_drawn_from_T(labels)


def test_words_are_no_features() -> None:
    y, words = torch.arange(20) % 2, torch.ones(20, 5, dtype=torch.int64)
    facts = {"features": words, "mean": torch.zeros(()), "spread": torch.ones(())}
    with pytest.raises(ValueError, match="noise=instance needs features, but these samples are numbers of words"):
        InstanceNoise(rate=0.4).apply(y, ("a", "b"), **facts)
    with pytest.raises(ValueError, match=r"features=1.0 is for images and features in memory"):
        LabelNoise("sym", rate=0.4, features=1.0).apply(y, ("a", "b"), **facts)


class RandomSamples(StoredSamples):
    """Other values at each reading, as random transforms give."""

    is_fixed = False

    def __getitem__(self, indices: Tensor) -> Tensor:
        return torch.rand(len(indices), *self.shape[1:])

    def update_digest(self, hasher: Any) -> None:
        pass


def test_samples_that_change_have_no_fixed_noise() -> None:
    facts = {"features": RandomSamples((20, 5), torch.float32), "mean": torch.zeros(()), "spread": torch.ones(())}
    with pytest.raises(ValueError, match="needs samples that are the same at each reading"):
        InstanceNoise(rate=0.4).apply(torch.arange(20) % 2, ("a", "b"), **facts)
