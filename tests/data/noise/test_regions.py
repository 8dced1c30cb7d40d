"""Noise that is confined to some of the samples."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from noisylabels_pl.data import Digits, LabelNoise, NoisyLabels
from noisylabels_pl.data.datasets.cifar10 import CLASS_NAMES
from tests.data.noise.noise_samples import CLEAN, EACH, TARGETS, counts, wrong_rows

X = 7 + 2 * torch.randn(len(CLEAN), 5, generator=torch.Generator().manual_seed(0))


def confined(confined_to: Any, kind: str = "sym", rate: float = 0.5, **options: Any) -> NoisyLabels:
    noise = LabelNoise(kind, rate=rate, confined_to=confined_to, **options)
    return noise.apply(CLEAN, CLASS_NAMES, features=X, mean=X.mean(0), spread=X.std(0))


@pytest.mark.parametrize("names", [["cat", "dog"], [3, "dog"], [3, 5]])
def test_classes(names: Any) -> None:
    labels = confined({"classes": names}, kind="pairflip", count="exact")
    flipped = counts(CLEAN, labels.observed) - EACH * torch.eye(10).long()
    assert flipped.nonzero().tolist() == [[3, 3], [3, 4], [5, 5], [5, 6]]
    assert flipped[3, 4] == flipped[5, 6] == EACH // 2
    assert labels.rate == pytest.approx(0.1)  # 0.5 of a fifth of the samples
    torch.testing.assert_close(labels.realized_T, labels.T)


def test_one_class_need_not_be_a_list() -> None:
    assert wrong_rows(confined({"classes": "cat"}, rate=1.0)).nonzero().flatten().tolist() == list(range(3, 600, 10))


def test_half_space() -> None:
    labels = confined({"halfspace": 0.25}, rate=1.0)
    is_wrong = wrong_rows(labels)
    assert int(is_wrong.sum()) == 150
    # A hyperplane separates the samples inside from those outside: least squares finds one nearly.
    inside = torch.where(is_wrong, 1.0, -1.0)[:, None]
    design = torch.cat([(X - X.mean(0)) / X.std(0), torch.ones(len(X), 1)], 1)
    side = design @ torch.linalg.lstsq(design, inside).solution
    order = side.flatten().sort(descending=True).indices
    assert float(is_wrong[order[:150]].double().mean()) > 0.9
    assert labels.T is not None
    torch.testing.assert_close(labels.T.diagonal(), 1 - torch.bincount(CLEAN[is_wrong], minlength=10).double() / EACH)


def test_the_direction_follows_from_the_seed() -> None:
    one, again, other = (wrong_rows(confined({"halfspace": 0.5}, rate=1.0, seed=seed)) for seed in (1, 1, 2))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)


def test_the_whole_set_as_a_region_changes_nothing() -> None:
    plain, everything = confined(None), confined({"halfspace": 1.0})
    assert torch.equal(plain.observed, everything.observed)
    torch.testing.assert_close(plain.T, everything.T)


def test_features_of_wrong_samples_inside_are_corrupted() -> None:
    data = Digits(LabelNoise("sym", rate=1.0, features=1.0, confined_to={"classes": [0]}))
    data.setup()
    changed = (data._x_train != data.arrays.x_train).flatten(1).any(1)
    assert torch.equal(changed, data.arrays.y_train == 0)


@pytest.mark.parametrize(
    ("confined_to", "message"),
    [
        ({"classes": ["fox"]}, r"^confined_to\.classes names class 'fox', but the classes are airplane"),
        ({"classes": []}, r"^confined_to=\{'classes': \[\]\} holds no sample"),
        ({"halfspace": 0}, r"^confined_to\.halfspace must lie in \(0, 1\], got 0"),
        ({"halfspace": 1e-9}, r"holds no sample"),
        ({"hardest": 0.3}, r"^confined_to must be \{classes: .*got \{'hardest': 0\.3\}"),
        ({"classes": [1], "halfspace": 0.3}, r"^confined_to must be"),
        ("cat", r"^confined_to must be .*got cat"),
    ],
)
def test_regions_that_are_refused(confined_to: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        confined(confined_to)


def test_what_a_region_needs() -> None:
    noise = LabelNoise("sym", rate=0.5, confined_to={"halfspace": 0.3})
    with pytest.raises(ValueError, match=r"^confined_to\.halfspace needs the features"):
        noise.apply(CLEAN, CLASS_NAMES)
    noise = LabelNoise("signflip", rate=0.5, confined_to={"halfspace": 0.3})
    with pytest.raises(ValueError, match=r"^confined_to is for class labels"):
        noise.apply(TARGETS, ("a", "b", "c", "d"))
