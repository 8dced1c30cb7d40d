"""Small image files for tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image


def write_images(root: Path, classes: tuple[str, ...] = ("cat", "dog"), per_class: int = 6, side: int = 12) -> None:
    """Write PNGs of noise whose color tells the class, in a folder for each class; their sizes differ."""
    rng = np.random.default_rng(0)
    for label, name in enumerate(classes):
        folder = root / name
        folder.mkdir(parents=True)
        for number in range(per_class):
            pixels = rng.integers(0, 60, size=(side + number % 3, side + 4, 3), dtype=np.uint8)
            pixels[..., label % 3] += 120
            Image.fromarray(pixels).save(folder / f"{number}.png")
