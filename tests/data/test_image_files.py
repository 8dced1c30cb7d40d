"""Decoding images: sizes, modes and orientation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from noisylabels_pl.data.image_files import ImageFiles, find_unreadable, read_image


def save(path: Path, pixels: np.ndarray, **options: object) -> Path:  # type: ignore[type-arg]
    Image.fromarray(pixels.astype(np.uint8)).save(path, **options)
    return path


def test_an_image_of_the_right_size_is_unchanged(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (8, 8, 3))
    image = read_image(save(tmp_path / "a.png", pixels), 8)
    assert torch.equal(image, torch.from_numpy(pixels).permute(2, 0, 1).byte())


def test_middle_of_a_wide_image(tmp_path: Path) -> None:
    columns = np.repeat([0, 10, 20, 30, 40, 50], 3).reshape(1, 6, 3).repeat(2, axis=0)
    image = read_image(save(tmp_path / "a.png", columns), 2)
    assert image[0].tolist() == [[20, 30], [20, 30]]


def test_small_image_is_enlarged_without_distortion(tmp_path: Path) -> None:
    pixels = np.zeros((4, 8, 3))
    pixels[:, 2:6] = 200  # a square, in the middle
    image = read_image(save(tmp_path / "a.png", pixels), 16).float()
    assert image.shape == (3, 16, 16)
    assert image[:, :, 2:-2].min() > 190


def test_modes(tmp_path: Path) -> None:
    gray = np.full((8, 8), 77)
    assert read_image(save(tmp_path / "gray.png", gray), 8)[:, 0, 0].tolist() == [77, 77, 77]
    assert read_image(save(tmp_path / "gray.png", gray), 8, "L")[:, 0, 0].tolist() == [77]
    red = np.zeros((8, 8, 4))
    red[..., 0], red[..., 3] = 200, 255
    assert read_image(save(tmp_path / "red.png", red), 8)[:, 0, 0].tolist() == [200, 0, 0]
    palette = Image.fromarray(red[..., :3].astype(np.uint8)).quantize(4)
    palette.save(tmp_path / "palette.gif")
    assert read_image(tmp_path / "palette.gif", 8)[:, 0, 0].tolist() == [200, 0, 0]


def test_camera_orientation(tmp_path: Path) -> None:
    pixels = np.zeros((8, 8, 3))
    pixels[0] = 255  # the upper edge is white
    exif = Image.Exif()
    exif[0x0112] = 3  # turned upside down
    image = read_image(save(tmp_path / "a.png", pixels, exif=exif), 8)
    assert image[0, :, 0].tolist() == [0] * 7 + [255]


def test_large_jpeg_is_decoded_small(tmp_path: Path) -> None:
    """A JPEG is decoded at an eighth of its size; its colors stay."""
    pixels = np.zeros((256, 256, 3))
    pixels[..., 1] = 180
    image = read_image(save(tmp_path / "a.jpg", pixels, quality=95), 16).float()
    torch.testing.assert_close(image.mean((1, 2)), torch.tensor([0.0, 180.0, 0.0]), atol=3.0, rtol=0.0)


def test_reading_some(tmp_path: Path) -> None:
    paths = [save(tmp_path / f"{value}.png", np.full((4, 4, 3), value)) for value in (1, 2, 3)]
    images = ImageFiles(paths, image_size=4)
    assert images[torch.tensor([2, 0, 2])][:, 0, 0, 0].tolist() == [3, 1, 3]
    assert images.path(1) == paths[1]
    assert len(images) == 3
    assert images.ndim == 4


@pytest.mark.parametrize("contents", [b"", b"GIF89a", b"\x89PNG\r\n\x1a\n" + b"\0" * 50, b"\xff\xd8\xff\xe0 no jpeg"])
def test_finding_what_is_no_image(tmp_path: Path, contents: bytes) -> None:
    good = save(tmp_path / "a.png", np.zeros((4, 4, 3)))
    (tmp_path / "b.png").write_bytes(contents)
    assert find_unreadable([good, tmp_path / "b.png", tmp_path / "none.png"]) == [1, 2]
