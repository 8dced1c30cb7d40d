"""The lists of landmarks and of splits in CelebA's official layout."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

COORDINATES = (
    "lefteye_x",
    "lefteye_y",
    "righteye_x",
    "righteye_y",
    "nose_x",
    "nose_y",
    "leftmouth_x",
    "leftmouth_y",
    "rightmouth_x",
    "rightmouth_y",
)
LANDMARKS = "list_landmarks_align_celeba.txt"
PARTITION = "list_eval_partition.txt"
IMAGES = "img_align_celeba"
SPLITS = ("training", "validation", "test")  # their numbers in the partition file are 0, 1 and 2


@dataclass(frozen=True)
class CelebALists:
    """The images of CelebA's three splits, and the pixel coordinates of their landmarks.

    Attributes:
        coordinates: the names of the 10 coordinates, in the order of the file.
        names: for each of ``SPLITS``, the file names of its images.
        landmarks: for each of ``SPLITS``, the ``(n, 10)`` float32 pixel coordinates of its images.
        lines: the image in each line of the list of landmarks, by line number counted from 1; for messages.
    """

    coordinates: tuple[str, ...]
    names: list[list[str]]
    landmarks: list[Tensor]
    lines: dict[int, str]


def read_lists(folder: Path) -> CelebALists:
    """Read and check both lists.

    Args:
        folder: the folder ``celeba/`` that holds them.

    Raises:
        FileNotFoundError: a list is missing.
        ValueError: a list is damaged, or the two disagree; the message names the file and the line.
    """
    for name in (LANDMARKS, PARTITION):
        if not (folder / name).is_file():
            raise missing_file(folder, name)
    landmarks_path = folder / LANDMARKS
    partition_path = folder / PARTITION
    coordinates, landmarks_of = _read_landmarks(landmarks_path)
    names = _read_partition(partition_path, landmarks_of)
    lines = dict(enumerate(landmarks_of, 3))  # the first two lines are a count and the names of the coordinates
    images_with_split = {image for split_names in names for image in split_names}
    for line_number, image in lines.items():
        if image not in images_with_split:
            raise ValueError(
                f"root: {landmarks_path}, line {line_number}: {image} is not in {partition_path}; fetch both again"
            )
    for split_number, split in enumerate(SPLITS):
        num_images = len(names[split_number])
        if num_images < 2:
            raise ValueError(
                f"root: {partition_path}: {num_images} of its {len(images_with_split)} lines name {split} images "
                f"({split_number}); at least 2 are needed"
            )
    landmarks = [torch.tensor([landmarks_of[image] for image in split_names]) for split_names in names]
    return CelebALists(coordinates, names, landmarks, lines)


def missing_file(folder: Path, name: str) -> FileNotFoundError:
    """Return the error that a list or the images are missing; it shows the official layout.

    Args:
        folder: the folder ``celeba/``.
        name: the missing file or folder in it.
    """
    root = folder.parent
    return FileNotFoundError(
        f"CelebALandmarks: there is no celeba/{name}\nunder root={root} ({root.resolve()});\n"
        f"the official layout is celeba/{IMAGES}/000001.jpg ...,\nceleba/{LANDMARKS} and celeba/{PARTITION}.\n"
        "Set root to the folder that has celeba/."
    )


def _read_landmarks(path: Path) -> tuple[tuple[str, ...], dict[str, list[float]]]:
    """Return the names of the coordinates and ``{image: coordinates}``."""
    lines = _read_lines(path)
    coordinates = tuple(lines[1].split()) if len(lines) > 1 else ()
    if sorted(coordinates) != sorted(COORDINATES):
        raise ValueError(f"root: {path}, line 2 must name the coordinates {' '.join(COORDINATES)}")
    landmarks_of = _parse_numbers(path, lines, first=3, width=len(coordinates))
    if lines[0].strip() != str(len(landmarks_of)):
        raise ValueError(
            f"root: {path}, line 1 announces {lines[0][:80]!r} images, but {len(landmarks_of)} follow; fetch it again"
        )
    return coordinates, landmarks_of


def _read_partition(path: Path, landmarks_of: dict[str, list[float]]) -> list[list[str]]:
    """Return the images of each split, after a check that all of them have landmarks."""
    lines = _read_lines(path)
    names: list[list[str]] = [[] for _ in SPLITS]
    numbers_of = _parse_numbers(path, lines, first=1, width=1)
    for line_number, (image, numbers) in enumerate(numbers_of.items(), 1):
        split_number = numbers[0]
        missing = None
        if image not in landmarks_of:
            missing = f"an image that is in {LANDMARKS}"
        elif split_number not in (0, 1, 2):
            missing = "0, 1 or 2"
        if missing is not None:
            raise ValueError(f"root: {path}, line {line_number}: {lines[line_number - 1]!r} needs {missing}")
        names[int(split_number)].append(image)
    return names


def _read_lines(path: Path) -> list[str]:
    """Return the lines of a file, whatever bytes it holds."""
    return path.read_text(encoding="utf-8", errors="replace").rstrip().splitlines()


def _parse_numbers(path: Path, lines: list[str], *, first: int, width: int) -> dict[str, list[float]]:
    """Return ``{image: numbers}``, read from lines that hold an image and ``width`` numbers, from line ``first`` on."""
    numbers_of: dict[str, list[float]] = {}
    for line_number, line in enumerate(lines[first - 1 :], first):
        image, *words = line.split() or [""]
        try:
            numbers = [float(word) for word in words]
        except ValueError:
            numbers = []
        if len(numbers) != width or image in numbers_of or not all(map(math.isfinite, numbers)):
            plural = "s" if width > 1 else ""
            expected = f"an image that was not named before and {width} number{plural}"
            raise ValueError(f"root: {path}, line {line_number}: {line[:80]!r} must be {expected}; fetch it again")
        numbers_of[image] = numbers
    return numbers_of
