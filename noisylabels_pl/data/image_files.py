"""Images that are decoded from their files when a batch needs them."""

from __future__ import annotations

import os
import struct
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal, overload

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from noisylabels_pl.data.samples import StoredSamples

ImageMode = Literal["RGB", "L"]
SUFFIXES = tuple(sorted(Image.registered_extensions()))
"""The endings of the files that Pillow can read."""

UNREADABLE = (
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
"""Everything that Pillow raises for a file that is empty, cut off, damaged, of another format, or far too large."""

_SIZES_READ = 10_000  # of files, to tell datasets apart


class FileNames(Sequence[str]):
    """The names of many files, decoded when they are asked for.

    Args:
        encoded: ``(n,)`` bytes.

    Example:
        >>> FileNames(np.array([b"cat/1.jpg", b"dog/2.jpg"]))[1]
        'dog/2.jpg'
    """

    def __init__(self, encoded: NDArray[np.bytes_]) -> None:
        self._encoded = encoded

    def __len__(self) -> int:
        return len(self._encoded)

    @overload
    def __getitem__(self, position: int) -> str: ...

    @overload
    def __getitem__(self, position: slice) -> Sequence[str]: ...

    def __getitem__(self, position: int | slice) -> str | Sequence[str]:
        if isinstance(position, slice):
            return FileNames(self._encoded[position])
        return os.fsdecode(self._encoded[position])


class ImageFiles(StoredSamples):
    """Images of one size, decoded from files.

    The shorter side of an image is resized to ``image_size``, and the middle is cut out, so that nothing is distorted.

    Args:
        paths: the files.
        image_size: height and width of the images in pixels.
        mode: ``"RGB"``, or ``"L"`` for one channel of gray.
        root: the folder that relative paths start from; the working directory if not given.

    Example:
        >>> images = ImageFiles([Path("cat.jpg"), Path("dog.png")], image_size=224)
        >>> images.shape, images.dtype
        (torch.Size([2, 3, 224, 224]), torch.uint8)
    """

    def __init__(
        self, paths: Sequence[Path | str], image_size: int, mode: ImageMode = "RGB", root: Path | None = None
    ) -> None:
        super().__init__((len(paths), 3 if mode == "RGB" else 1, image_size, image_size), torch.uint8)
        # An array of bytes, because worker processes would copy a list of a million paths at each access. Without the
        # common folder, and made of strings instead of Path objects, it is small and made fast.
        self._paths = np.array([os.fsencode(path) for path in paths])
        self._root = root
        self.image_size = image_size
        self.mode = mode
        self.names = FileNames(self._paths)

    def path(self, position: int) -> Path:
        """Return the file of an image."""
        return Path(self._root or "", os.fsdecode(self._paths[position]))

    def __getitem__(self, indices: Tensor) -> Tensor:
        images = torch.empty((len(indices), *self.shape[1:]), dtype=torch.uint8)
        for row, position in enumerate(indices.tolist()):
            images[row] = read_image(self.path(position), self.image_size, self.mode)
        return images

    def update_digest(self, hasher: Any) -> None:
        """Add the names of all files, and the sizes of at most 10,000 of them: asking for a million takes long."""
        if self._root is not None:
            hasher.update(self._paths.tobytes())
        else:  # the folder of the dataset may have another place on another machine
            for name in self._paths:
                hasher.update(b"/".join(name.split(b"/")[-2:]) + b"\n")
        step = max(1, -(-len(self) // _SIZES_READ))
        for position in range(0, len(self), step):
            hasher.update(f"{self.path(position).stat().st_size}\n".encode())


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
    except UNREADABLE as error:
        reason = " ".join(str(error).replace(f" {str(path)!r}", "").split())
        raise ValueError(
            f"{path} is no readable image ({reason}); remove it, or, in a folder of images, set bad_files to skip"
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
