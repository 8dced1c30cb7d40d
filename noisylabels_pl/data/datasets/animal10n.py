"""ANIMAL-10N."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from noisylabels_pl.data.arrays import Arrays, mean_and_std
from noisylabels_pl.data.datamodule import NoisyDataModule
from noisylabels_pl.data.datasets.image_lists import listed_images, require_file
from noisylabels_pl.functional import check_range

CLASS_NAMES = (
    "cat",
    "lynx",
    "wolf",
    "coyote",
    "cheetah",
    "jaguar",
    "chimpanzee",
    "orangutan",
    "hamster",
    "guinea pig",
)
# Each animal is mistaken for the one that it was chosen to resemble.
_PAIRS = (
    ("cat", "lynx"),
    ("jaguar", "cheetah"),
    ("wolf", "coyote"),
    ("chimpanzee", "orangutan"),
    ("hamster", "guinea pig"),
)


class Animal10N(NoisyDataModule):
    """Serve ANIMAL-10N: 50,000 + 5,000 color images of 64x64 pixels in five pairs of animals that look alike.

    The training labels are those of people, about 8 % of which are wrong; the true ones are unknown. The test labels
    are correct.

    Paper: `SELFIE: Refurbishing Unclean Samples for Robust Deep Learning
    <https://proceedings.mlr.press/v97/song19b.html>`_.

    Args:
        root: the folder with ``training/`` and ``testing/``, whose files begin with the number of their class, such as
            ``training/3_12345.jpg``.
        image_size: height and width in pixels.
        **common: see :class:`~noisylabels_pl.data.NoisyDataModule`.

    Raises:
        FileNotFoundError: in ``setup``, if a folder is missing.
        ValueError: in ``setup``, if the name of a file does not begin with a class.

    Example:
        >>> data = Animal10N("data/animal10n", flip=True)
        >>> data.setup()  # doctest: +SKIP
    """

    def __init__(self, root: str = "data/animal10n", *, image_size: int = 64, **common: Any) -> None:
        super().__init__(**common)
        check_range("image_size", image_size, "[1, inf)", integer=True)
        self.root = Path(root).expanduser()
        self.image_size = int(image_size)

    def load(self) -> Arrays:
        names, labels = self._read_folder("training")
        x_train, y_train = listed_images("Animal10N", "root", self.root, names, labels, self.image_size)
        names, labels = self._read_folder("testing")
        x_test, y_test = listed_images("Animal10N", "root", self.root, names, labels, self.image_size)
        mean, std = mean_and_std(x_train)
        return Arrays(
            x_train=x_train,
            y_train=y_train,
            x_test=x_test,
            y_test=y_test,
            class_names=CLASS_NAMES,
            mean=mean,
            std=std,
            origin=f"animal10n {self.root}",
            asymmetric_map=dict([*_PAIRS, *(pair[::-1] for pair in _PAIRS)]),
            train_ids=x_train.names,
            test_ids=x_test.names,
        )

    def _read_folder(self, name: str) -> tuple[list[str], list[int]]:
        """Return the images of a folder in the order of their names, and their labels."""
        folder = require_file("Animal10N", "root", self.root, name)
        files = sorted(file for file in os.listdir(folder) if file.lower().endswith((".jpg", ".jpeg", ".png")))
        for file in files:
            if not file[0].isdecimal() or file[1] != "_":
                raise ValueError(f"{folder / file} must begin with the number of its class, such as 3_12345.jpg")
        return [f"{name}/{file}" for file in files], [int(file[0]) for file in files]
