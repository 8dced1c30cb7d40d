"""The lists in CelebA's official layout."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

COORDINATES = tuple(
    f"{part}_{axis}" for part in ("lefteye", "righteye", "nose", "leftmouth", "rightmouth") for axis in "xy"
)
LANDMARKS, PARTITION, IMAGES = "list_landmarks_align_celeba.txt", "list_eval_partition.txt", "img_align_celeba"


@dataclass(frozen=True)
class Lists:
    """What the two lists say: for training, validation and test images their names and ``(n, 10)`` landmarks."""

    coordinates: tuple[str, ...]
    names: list[list[str]]
    landmarks: list[Tensor]
    lines: dict[int, str]  # the image of each line of the list of landmarks, for messages


def read_lists(folder: Path) -> Lists:
    """Read and check both lists.

    Raises:
        ValueError: naming the file and the line that is wrong.
    """
    path, partition = folder / LANDMARKS, folder / PARTITION
    lines, assigned = (_lines(name) for name in (path, partition))
    coordinates = tuple(lines[1].split()) if len(lines) > 1 else ()
    if sorted(coordinates) != sorted(COORDINATES):
        raise ValueError(f"data.root: {path}, line 2 must name the coordinates {' '.join(COORDINATES)}")
    landmarks = _rows(path, lines, 3, len(coordinates))
    if lines[0].strip() != str(len(landmarks)):
        raise ValueError(
            f"data.root: {path}, line 1 announces {lines[0][:80]!r} images, but {len(landmarks)} follow; fetch it again"
        )
    names: list[list[str]] = [[], [], []]
    split_of = _rows(partition, assigned, 1, 1)
    for number, (image, (split,)) in enumerate(split_of.items(), 1):
        if split not in (0, 1, 2) or image not in landmarks:
            wanted = "0, 1 or 2" if image in landmarks else f"an image that is in {LANDMARKS}"
            raise ValueError(f"data.root: {partition}, line {number}: {assigned[number - 1]!r} needs {wanted}")
        names[int(split)].append(image)
    numbered = dict(enumerate(landmarks, 3))
    for number, image in numbered.items():
        if image not in split_of:
            raise ValueError(f"data.root: {path}, line {number}: {image} is not in {partition}; fetch both again")
    for split, kind in enumerate(("training", "validation", "test")):
        if len(names[split]) < 2:
            raise ValueError(
                f"data.root: {partition}: {len(names[split])} of its {len(split_of)} lines name {kind} images "
                f"({split}); at least 2 are needed"
            )
    return Lists(
        coordinates, names, [torch.tensor([landmarks[image] for image in part]) for part in names], lines=numbered
    )


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8", errors="replace").rstrip().splitlines()


def _rows(path: Path, lines: list[str], first: int, width: int) -> dict[str, list[float]]:
    """``{image: numbers}`` of the lines from number ``first`` on, counted from 1."""
    rows: dict[str, list[float]] = {}
    for number, line in enumerate(lines[first - 1 :], first):
        image, *values = line.split() or [""]
        try:
            numbers = [float(value) for value in values]
        except ValueError:
            numbers = []
        if len(numbers) != width or image in rows or not all(map(math.isfinite, numbers)):
            expected = f"an image that was not named before and {width} number{'s'[: width > 1]}"
            raise ValueError(f"data.root: {path}, line {number}: {line[:80]!r} must be {expected}; fetch it again")
        rows[image] = numbers
    return rows
