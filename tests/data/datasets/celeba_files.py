"""Small faces in CelebA's official layout, and features of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

HEADER = "lefteye_x lefteye_y righteye_x righteye_y nose_x nose_y leftmouth_x leftmouth_y rightmouth_x rightmouth_y"
SPLIT = [0] * 24 + [1] * 10 + [2] * 26
TEST = [row for row, split in enumerate(SPLIT) if split == 2]
LISTS = ("list_landmarks_align_celeba.txt", "list_eval_partition.txt")
FEATURES = "landmark_features.npz"


def faces() -> NDArray[np.int64]:
    """Return the landmarks of 60 faces of 36x44 pixels, each moved as a whole and a bit at every coordinate."""
    rng = np.random.default_rng(0)
    usual = np.array([10, 14, 24, 14, 17, 23, 12, 31, 23, 31])
    moved = np.tile(rng.integers(-6, 7, (60, 2)), 5)
    return usual + moved + rng.integers(-1, 2, (60, 10))


def names() -> list[str]:
    return [f"{number:06d}.jpg" for number in range(1, 61)]


def draw(path: Path, landmarks: NDArray[np.int64]) -> None:
    """Write an image with a white square at each landmark."""
    pixels = np.zeros((44, 36, 3), dtype=np.uint8)
    for x, y in landmarks.reshape(5, 2):
        pixels[y - 2 : y + 3, x - 2 : x + 3] = 255
    Image.fromarray(pixels).save(path, quality=95)


def write_lists(root: Path, landmarks: NDArray[np.int64]) -> None:
    rows = [f"{name} " + "  ".join(map(str, row)) for name, row in zip(names(), landmarks, strict=True)]
    (root / "celeba" / LISTS[0]).write_text("\n".join(["60", HEADER + " ", *rows]) + "\n")
    splits = [f"{name} {split}" for name, split in zip(names(), SPLIT, strict=True)]
    (root / "celeba" / LISTS[1]).write_text("\n".join(splits) + "\n")


def write_images(root: Path) -> None:
    (root / "celeba" / "img_align_celeba").mkdir()
    for name, row in zip(names(), faces(), strict=True):
        draw(root / "celeba" / "img_align_celeba" / name, row)


def write_features(path: Path) -> None:
    """Write random numbers in the place of the network's features."""
    features = np.random.default_rng(1).random((len(TEST), 512), dtype=np.float32)
    np.savez(path, features=features, landmarks=faces()[TEST].astype(np.float32))


def change(name: str, number: int, line: str | None) -> Callable[[Path], None]:
    """Return a function that replaces, or removes, a line of a list."""

    def apply(root: Path) -> None:
        path = root / "celeba" / name
        lines = path.read_text().splitlines()
        lines[number - 1 : number] = [] if line is None else [line]
        path.write_text("\n".join(lines) + "\n")

    return apply


ROW = "000003.jpg 1 2 3 4 5 6 7 8 9 10"
WRONG_LISTS: dict[str, tuple[Callable[[Path], Any], str]] = {
    "count": (change(LISTS[0], 1, "61"), rf"{LISTS[0]}, line 1 announces '61' images, but 60 follow"),
    "no count": (change(LISTS[0], 1, "images"), rf"{LISTS[0]}, line 1 announces 'images'"),
    "no header": (change(LISTS[0], 2, None), rf"{LISTS[0]}, line 2 must name the coordinates lefteye_x"),
    "other header": (change(LISTS[0], 2, HEADER.replace("nose", "chin")), rf"{LISTS[0]}, line 2"),
    "empty list": (lambda root: (root / "celeba" / LISTS[0]).write_text(""), rf"{LISTS[0]}, line 2"),
    "bytes": (lambda root: (root / "celeba" / LISTS[0]).write_bytes(b"\xff\xd8\xff\n\xe0\n"), rf"{LISTS[0]}, line 2"),
    "too few numbers": (change(LISTS[0], 5, ROW[:-3]), rf"{LISTS[0]}, line 5: '{ROW[:-3]}' must be .* 10 numbers"),
    "a word": (change(LISTS[0], 5, ROW.replace("7", "x")), rf"{LISTS[0]}, line 5"),
    "nan": (change(LISTS[0], 5, ROW.replace("7", "nan")), rf"{LISTS[0]}, line 5"),
    "blank line": (change(LISTS[0], 5, ""), rf"{LISTS[0]}, line 5: '' must be"),
    "twice": (change(LISTS[0], 5, ROW.replace("3.jpg", "2.jpg")), rf"{LISTS[0]}, line 5.* not named before"),
    "no such split": (change(LISTS[1], 5, "000005.jpg 3"), rf"{LISTS[1]}, line 5: '000005.jpg 3' needs 0, 1 or 2"),
    "no split": (change(LISTS[1], 5, "000005.jpg"), rf"{LISTS[1]}, line 5.* 1 number;"),
    "unknown image": (change(LISTS[1], 5, "x.jpg 0"), rf"{LISTS[1]}, line 5: 'x.jpg 0' needs an image that is in"),
    "not assigned": (change(LISTS[1], 5, None), rf"{LISTS[0]}, line 7: 000005.jpg is not in .*{LISTS[1]}"),
}
