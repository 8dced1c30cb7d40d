"""The handwritten digits of scikit-learn."""

from __future__ import annotations

from typing import Any

import torch

from noisylabels_pl.data import Digits, LabelNoise
from tests.data.digits_truth import label_of_image, true_labels

TRAIN = 1348
TEST = 449  # a quarter of 1,797


def digits(**options: Any) -> Digits:
    data = Digits(**options)
    data.setup()
    return data


def test_digits_are_those_of_scikit_learn() -> None:
    arrays = digits().arrays
    assert arrays.x_train.shape == (TRAIN, 1, 8, 8)
    assert arrays.x_test.shape == (TEST, 1, 8, 8)
    assert true_labels(arrays.x_train) == arrays.y_train.tolist()
    assert true_labels(arrays.x_test) == arrays.y_test.tolist()
    assert arrays.class_names == tuple("0123456789")
    images = {image.tobytes() for image in torch.cat([arrays.x_train, arrays.x_test]).numpy()}
    assert images == set(label_of_image())
    assert arrays.origin


def test_the_test_set_is_fixed_and_stratified() -> None:
    one = digits(seed=0, noise=LabelNoise("sym", rate=0.4))
    other = digits(seed=9, val_fraction=0.5)
    assert torch.equal(one.arrays.x_test, other.arrays.x_test)
    assert one.arrays.digest() == other.arrays.digest()
    expected = torch.bincount(torch.cat([one.arrays.y_train, one.arrays.y_test])) * TEST / (TRAIN + TEST)
    assert ((torch.bincount(one.arrays.y_test) - expected).abs() < 1).all()


def test_asymmetric_noise_has_patrinis_map_of_mnist() -> None:
    data = digits(noise=LabelNoise("asym", rate=1.0))
    confused = {7: 1, 2: 7, 3: 8, 5: 6, 6: 5}
    assert data.labels.observed.tolist() == [confused.get(label, label) for label in data.arrays.y_train.tolist()]
