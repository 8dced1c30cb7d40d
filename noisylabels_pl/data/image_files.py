"""Images that are decoded from their files when a batch needs them."""

from __future__ import annotations

import os
import struct
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from noisylabels_pl.data.samples import StoredSamples

ImageMode = Literal["RGB", "L"]
SUFFIXES = tuple(sorted(Image.registered_extensions()))
"""The endings of the files that Pillow can read."""

# Everything that Pillow raises for a file that is empty, cut off, damaged, of another format, or far too large.
_UNREADABLE = (
    UnidentifiedImageError,
    OSError,
    struct.error,
    SyntaxError,
    ValueError,
    EOFError,
    IndexError,
    TypeError,
    Image.DecompressionBombError,
)


class ImageFiles(StoredSamples):
    """Images of one size, decoded from files.

    The shorter side of an image is resized to ``image_size``, and the middle is cut out, so that nothing is distorted.

    Args:
        paths: the files.
        image_size: height and width of the images in pixels.
        mode: ``"RGB"``, or ``"L"`` for one channel of gray.

    Example:
        >>> images = ImageFiles([Path("cat.jpg"), Path("dog.png")], image_size=224)
        >>> images.shape, images.dtype
        (torch.Size([2, 3, 224, 224]), torch.uint8)
    """

    def __init__(self, paths: Sequence[Path], image_size: int, mode: ImageMode = "RGB") -> None:
        super().__init__((len(paths), 3 if mode == "RGB" else 1, image_size, image_size), torch.uint8)
        # An array of bytes, because worker processes would copy a list of a million paths at each access.
        self._paths = np.array([os.fsencode(path) for path in paths])
        self.image_size = image_size
        self.mode = mode

    def path(self, position: int) -> Path:
        """Return the file of an image."""
        return Path(os.fsdecode(self._paths[position]))

    def __getitem__(self, indices: Tensor) -> Tensor:
        images = torch.empty((len(indices), *self.shape[1:]), dtype=torch.uint8)
        for row, position in enumerate(indices.tolist()):
            images[row] = read_image(self.path(position), self.image_size, self.mode)
        return images

    def update_digest(self, hasher: Any) -> None:
        for position in range(len(self)):
            path = self.path(position)
            hasher.update(f"{path.parent.name}/{path.name} {path.stat().st_size}\n".encode(errors="surrogateescape"))


def read_image(path: Path, image_size: int, mode: ImageMode = "RGB") -> Tensor:
    """Return an image, resized by its shorter side and cut out of the middle.

    Args:
        path: a file that Pillow reads.
        image_size: height and width of the result.
        mode: see :class:`ImageFiles`.

    Returns:
        ``(3, image_size, image_size)`` uint8, or one channel for ``"L"``.

    Raises:
        ValueError: the file cannot be read as an image.

    Example:
        >>> read_image(Path("cat.jpg"), 224).shape  # doctest: +SKIP
        torch.Size([3, 224, 224])
    """
    try:
        with Image.open(path) as file:
            # A JPEG is decoded at a half, a quarter or an eighth of its size, where that is still large enough.
            file.draft(mode, (image_size, image_size))
            image = upright(file).convert(mode)
    except _UNREADABLE as error:
        reason = " ".join(str(error).replace(f" {str(path)!r}", "").split())
        raise ValueError(
            f"{path} is no readable image ({reason}); remove it, or set bad_files to skip (data.bad_files=skip)"
        ) from error
    return fit_square(image, image_size)


def fit_square(image: Image.Image, image_size: int) -> Tensor:
    """Return an image, resized by its shorter side and cut out of the middle.

    Args:
        image: of mode ``"RGB"`` or ``"L"``.
        image_size: height and width of the result.

    Returns:
        ``(C, image_size, image_size)`` uint8.

    Example:
        >>> fit_square(Image.new("L", (20, 10)), 5).shape
        torch.Size([1, 5, 5])
    """
    scale = image_size / min(image.size)
    if scale != 1:
        width, height = (max(image_size, round(side * scale)) for side in image.size)
        image = image.resize((width, height), Image.Resampling.BICUBIC)
    left = (image.width - image_size) // 2
    top = (image.height - image_size) // 2
    pixels = np.array(image.crop((left, top, left + image_size, top + image_size)))
    return torch.from_numpy(pixels.reshape(image_size, image_size, -1)).permute(2, 0, 1)


def find_unreadable(paths: Sequence[Path]) -> list[int]:
    """Return the positions of the files that cannot be decoded.

    Args:
        paths: the files; each is decoded once, JPEGs at an eighth of their size, several files side by side.

    Example:
        >>> find_unreadable([Path("no/such.png")])
        [0]
    """
    with ThreadPoolExecutor() as pool:
        is_readable = list(pool.map(_can_be_read, paths))
    return [position for position, readable in enumerate(is_readable) if not readable]


def _can_be_read(path: Path) -> bool:
    try:
        read_image(path, 8)
    except ValueError:
        return False
    return True


def upright(image: Image.Image) -> Image.Image:
    """Return an image turned as its camera has noted, and with the transparency of its palette."""
    if image.mode.startswith(("I", "F")):
        raise ValueError(f"its pixels have more than 8 bits (mode {image.mode}); convert it to 8 bits")
    image = ImageOps.exif_transpose(image)
    if image.mode == "P" and "transparency" in image.info:
        return image.convert("RGBA")
    return image
