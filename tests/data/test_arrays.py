"""The checks of arrays, and their moments."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from noisylabels_pl.data.arrays import check_classes, check_features, check_labels, mean_and_std

IMAGES = np.random.default_rng(1).integers(0, 256, (60, 3, 6, 8), dtype=np.uint8)


def test_check_features_returns_a_tensor_of_its_own_layout() -> None:
    nhwc = IMAGES.transpose(0, 2, 3, 1)
    got = check_features("x", nhwc)
    assert got.is_contiguous()
    assert torch.equal(got, torch.from_numpy(IMAGES))


def test_check_labels_names_the_first_wrong_row() -> None:
    with pytest.raises(ValueError, match=r"^y\[2\] is 9; labels must lie in 0\.\.2$"):
        check_labels("y", np.array([0, 1, 9, -4]), 4, 3)
    assert check_labels("y", np.array([0, 1, 2], dtype=np.int16), 3, 3).tolist() == [0, 1, 2]


def test_check_classes_accepts_one_sample_of_each() -> None:
    check_classes("y", torch.tensor([2, 0, 1]), 3)


def test_moments_of_many_rows_far_from_zero() -> None:
    x = (100_000 + np.random.default_rng(2).integers(0, 3, (10_001, 2))).astype(np.float32)
    mean, std = mean_and_std(torch.from_numpy(x))
    np.testing.assert_allclose(mean, x.astype(np.float64).mean(0), rtol=1e-7)
    np.testing.assert_allclose(std, x.astype(np.float64).std(0), rtol=1e-5)
