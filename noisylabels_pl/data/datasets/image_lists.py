"""Lists of images and their labels, in the text files that datasets of images come with."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from noisylabels_pl.data.image_files import ImageFiles

GUIDE = "docs/datasets.md says where to get it and where it belongs"


def require_file(dataset: str, argument: str, root: Path, name: str) -> Path:
    """Return the path of a file or folder of a dataset.

    Args:
        dataset: the name of the dataset, for the message.
        argument: the argument that names the folder, for the message.
        root: the folder.
        name: the file in it.

    Raises:
        FileNotFoundError: it does not exist; the message names it.

    Example:
        >>> require_file("WebVision", "root", Path("no/such/folder"), "info/val_filelist.txt")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ...
        FileNotFoundError: WebVision: there is no info/val_filelist.txt in root=no/such/folder (...
    """
    path = root / name
    if not path.exists():
        raise FileNotFoundError(f"{dataset}: there is no {name} in {argument}={root} ({root.resolve()}); {GUIDE}")
    return path


def read_labeled_names(path: Path, num_classes: int) -> tuple[list[str], list[int]]:
    """Read a list with the name of an image and its label in each line.

    Args:
        path: the file.
        num_classes: labels must lie in ``0..num_classes - 1``.

    Returns:
        The names and the labels, in the order of the file.

    Raises:
        ValueError: a line is no name and label; the message names the file and the line.
    """
    names = []
    labels = []
    with path.open(encoding="utf-8", errors="surrogateescape") as file:
        for number, line in enumerate(file, 1):
            name, _, text = line.strip().rpartition(" ")
            label = int(text) if text.isdecimal() else -1
            if not name or not 0 <= label < num_classes:
                raise ValueError(
                    f"{path}, line {number}: {line.strip()[:80]!r} must be the name of an image and a label in "
                    f"0..{num_classes - 1}; fetch the file again"
                )
            names.append(name)
            labels.append(label)
    return names, labels


def read_names(path: Path) -> list[str]:
    """Read a list with the name of an image in each line.

    Raises:
        ValueError: the file has no line.
    """
    with path.open(encoding="utf-8", errors="surrogateescape") as file:
        names = [line.strip() for line in file if line.strip()]
    if not names:
        raise ValueError(f"{path} names no image; fetch the file again")
    return names


def listed_images(
    dataset: str, argument: str, root: Path, names: Sequence[str], labels: Sequence[int], image_size: int
) -> tuple[ImageFiles, Tensor]:
    """Return the images of a list, and their labels, after a check that the first image is there.

    A later image that is missing or damaged is named when it is read.

    Args:
        dataset: see :func:`require_file`.
        argument: see :func:`require_file`.
        root: the folder that the names start from.
        names: of the images.
        labels: the class of each image.
        image_size: see :class:`~noisylabels_pl.data.image_files.ImageFiles`.

    Raises:
        FileNotFoundError: the first image does not exist.
        ValueError: there is no image.
    """
    if not names:
        raise ValueError(f"{dataset}: its lists name no image of these classes in {argument}={root}; {GUIDE}")
    require_file(dataset, argument, root, names[0])
    return ImageFiles(names, image_size, root=root), torch.from_numpy(np.array(labels, dtype=np.int64))
