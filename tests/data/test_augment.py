"""Cropping and flipping against one image at a time."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torchvision.transforms.v2 import functional as tv

from noisylabels_pl.data.augment import Augmentation, EpochAugmentations, PaddedImages, center_crop, crop_and_flip


def one_by_one(x: Tensor, offsets: Tensor, flips: Tensor, padding: int) -> Tensor:
    """Pad with zeros, cut out, mirror; image by image in numpy."""
    images = []
    for image, (top, left), flip in zip(x.numpy(), offsets.tolist(), flips.tolist(), strict=True):
        padded = np.pad(image, ((0, 0), (padding, padding), (padding, padding)))
        crop = padded[:, top : top + image.shape[1], left : left + image.shape[2]]
        images.append(crop[:, :, ::-1] if flip else crop)
    return torch.from_numpy(np.stack(images))


def images(shape: tuple[int, ...], dtype: torch.dtype, seed: int) -> Tensor:
    values = torch.randint(1, 256, shape, generator=torch.Generator().manual_seed(seed))
    return values.to(torch.uint8) if dtype == torch.uint8 else (values.to(dtype) - 100) / 7


@settings(derandomize=True, max_examples=80, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 6), st.integers(1, 4), st.integers(1, 9), st.integers(1, 9)),
    padding=st.integers(0, 5),
    dtype=st.sampled_from([torch.uint8, torch.float32, torch.float64]),
    seed=st.integers(0, 10**6),
)
def test_equals_one_image_at_a_time(shape: tuple[int, ...], padding: int, dtype: torch.dtype, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    offsets = torch.randint(0, 2 * padding + 1, (shape[0], 2), generator=generator)
    flips = torch.rand(shape[0], generator=generator) < 0.5
    x = images(shape, dtype, seed)
    before = x.clone()
    got = crop_and_flip(x, offsets, flips, padding=padding)
    assert got.dtype == dtype
    assert got.is_contiguous()
    assert torch.equal(got, one_by_one(x, offsets, flips, padding))
    assert torch.equal(x, before)


def test_by_hand() -> None:
    x = torch.tensor([[[[1, 2, 3], [4, 5, 6]]]], dtype=torch.uint8).repeat(3, 1, 1, 1)
    # Row offset 2 of a padding of 1 shifts up; column offset 0 shifts right; the third image is mirrored only.
    offsets = torch.tensor([[2, 1], [1, 0], [1, 1]])
    flips = torch.tensor([False, True, True])
    expected = [[[4, 5, 6], [0, 0, 0]], [[2, 1, 0], [5, 4, 0]], [[3, 2, 1], [6, 5, 4]]]
    assert crop_and_flip(x, offsets, flips, padding=1)[:, 0].tolist() == expected


def test_the_middle_offset_changes_nothing() -> None:
    x = images((4, 3, 8, 8), torch.uint8, 0)
    offsets = torch.full((4, 2), 2)
    assert torch.equal(crop_and_flip(x, offsets, torch.zeros(4, dtype=torch.bool), padding=2), x)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_no_padding_only_flips(dtype: torch.dtype) -> None:
    x = images((4, 3, 5, 7), dtype, 1)
    flips = torch.tensor([True, False, True, False])
    got = crop_and_flip(x, torch.zeros(4, 2, dtype=torch.int64), flips, padding=0)
    assert torch.equal(got[flips], x[flips].flip(3))
    assert torch.equal(got[~flips], x[~flips])


def test_empty_batch() -> None:
    x = torch.zeros(0, 3, 8, 8, dtype=torch.uint8)
    got = crop_and_flip(x, torch.zeros(0, 2, dtype=torch.int64), torch.zeros(0, dtype=torch.bool), padding=2)
    assert got.shape == (0, 3, 8, 8)


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.float64, torch.int16])
def test_padded_images_against_torchvision(channels: int, dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(channels)
    x = torch.randint(1, 255, (9, channels, 7, 6), generator=generator).to(dtype)
    rows = torch.tensor([3, 3, 0, 8, 5])
    offsets = torch.tensor([[0, 0], [4, 4], [2, 2], [1, 3], [3, 0]])
    flips = torch.tensor([True, False, False, True, False])
    images = PaddedImages(x, 2)
    assert (
        images.stored.numel() * images.stored.element_size()
        == x.element_size() * torch.Size(PaddedImages.stored_shape(x, 2)).numel()
    )
    padded = tv.pad(x, [2, 2])
    expected = [tv.crop(padded[row], *offset, 7, 6) for row, offset in zip(rows, offsets.tolist(), strict=True)]
    expected = [tv.horizontal_flip(image) if flip else image for image, flip in zip(expected, flips, strict=True)]
    got = images.gather(rows, Augmentation(offsets, flips))
    assert got.dtype == dtype
    assert torch.equal(got, torch.stack(expected))
    assert torch.equal(images.gather(rows), x[rows])


def test_crops_that_are_smaller_than_the_images() -> None:
    x = torch.arange(25).view(1, 1, 5, 5)
    assert center_crop(x, 3)[0, 0].tolist() == [[6, 7, 8], [11, 12, 13], [16, 17, 18]]
    offsets = torch.tensor([[0, 3]])
    got = crop_and_flip(x, offsets, torch.tensor([True]), padding=1, crop_size=3)
    assert got[0, 0].tolist() == [[0, 0, 0], [4, 3, 2], [9, 8, 7]]
    images = PaddedImages(x, 1, 3)
    assert torch.equal(images.gather(torch.tensor([0])), center_crop(x, 3))


def test_crops_reach_every_place() -> None:
    augmentations = EpochAugmentations(0, 500, padded_size=(5, 4), crop_size=(3, 3), flip=True)
    drawn = augmentations.at(torch.arange(500), epoch=2)
    places = {(row, column) for row in range(3) for column in range(2)}
    assert {(row, column) for row, column in drawn.offsets.tolist()} == places
    assert 0.4 < float(drawn.flips.float().mean()) < 0.6
