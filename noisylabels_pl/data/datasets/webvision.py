"""Mini-WebVision, and the validation images of ILSVRC-12 as a second test set."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from noisylabels_pl.data.arrays import Arrays
from noisylabels_pl.data.datamodule import NoisyDataModule
from noisylabels_pl.data.datasets.ilsvrc import read_ilsvrc_validation
from noisylabels_pl.data.datasets.image_lists import listed_images, read_labeled_names, require_file
from noisylabels_pl.data.normalization import IMAGENET_MEAN, IMAGENET_STD
from noisylabels_pl.functional import check_range

TRAIN_LIST = "info/train_filelist_google.txt"
TEST_LIST = "info/val_filelist.txt"
TEST_FOLDER = "val_images_256"
SYNSETS = "info/synsets.txt"
NUM_CLASSES_OF_ALL = 1000


class MiniWebVision(NoisyDataModule):
    """Serve the first classes of the Google images of WebVision 1.0: 65,944 training images of 50 classes.

    The labels are the search terms, about a fifth of which are wrong; the true ones are unknown. The test set are the
    2,500 validation images of WebVision. With ``imagenet``, those of ILSVRC-12 of the same classes are a second one,
    logged as ``imagenet/acc``. For 50 classes, the top-5 accuracy is logged, too.

    Papers: `WebVision Database <https://arxiv.org/abs/1708.02862>`_; the first 50 classes were chosen by `MentorNet
    <https://arxiv.org/abs/1712.05055>`_.

    Args:
        root: the folder with ``info/``, ``google/`` and ``val_images_256/``.
        imagenet: the folder with the validation images of ILSVRC-12, in a folder for each synset or as published (see
            :func:`~noisylabels_pl.data.datasets.ilsvrc.read_ilsvrc_validation`); ``None`` for no second test set.
        num_classes: the first so many classes are used, at most 1,000.
        image_size: height and width in pixels; images are resized by their shorter side and cut out of the middle.
        **common: see :class:`~noisylabels_pl.data.NoisyDataModule`.

    Raises:
        FileNotFoundError: in ``setup``, if a list or the first image of a list is missing.
        ValueError: in ``setup``, if a list is damaged.

    Example:
        >>> data = MiniWebVision("data/webvision", crop_size=227, flip=True, normalization="imagenet")
        >>> data.setup()  # doctest: +SKIP
    """

    def __init__(
        self,
        root: str = "data/webvision",
        *,
        imagenet: str | None = None,
        num_classes: int = 50,
        image_size: int = 256,
        **common: Any,
    ) -> None:
        super().__init__(**common)
        check_range("num_classes", num_classes, f"[2, {NUM_CLASSES_OF_ALL}]", integer=True)
        check_range("image_size", image_size, "[1, inf)", integer=True)
        self.root = Path(root).expanduser()
        self.imagenet = None if imagenet is None else Path(imagenet).expanduser()
        self.num_classes = int(num_classes)
        self.image_size = int(image_size)

    def load(self) -> Arrays:
        dataset = "MiniWebVision"
        names, labels = self._read_list(TRAIN_LIST)
        x_train, y_train = listed_images(dataset, "root", self.root, names, labels, self.image_size)
        names, labels = self._read_list(TEST_LIST)
        test_root = require_file(dataset, "root", self.root, TEST_FOLDER)
        x_test, y_test = listed_images(dataset, "root", test_root, names, labels, self.image_size)
        class_names, synsets = self._read_synsets()
        further_tests = {}
        if self.imagenet is not None:
            names, labels = read_ilsvrc_validation(self.imagenet, "imagenet", synsets)
            further_tests["imagenet"] = listed_images(
                dataset, "imagenet", self.imagenet, names, labels, self.image_size
            )
        return Arrays(
            x_train=x_train,
            y_train=y_train,
            x_test=x_test,
            y_test=y_test,
            class_names=class_names,
            mean=255 * torch.tensor(IMAGENET_MEAN).view(3, 1, 1),
            std=255 * torch.tensor(IMAGENET_STD).view(3, 1, 1),
            origin=f"webvision {self.root}",
            train_ids=x_train.names,
            test_ids=x_test.names,
            further_tests=further_tests,
        )

    def _read_list(self, name: str) -> tuple[list[str], list[int]]:
        """Return the names and labels of the images of the first classes in a list."""
        path = require_file("MiniWebVision", "root", self.root, name)
        pairs = zip(*read_labeled_names(path, NUM_CLASSES_OF_ALL), strict=True)
        chosen = [(image, label) for image, label in pairs if label < self.num_classes]
        return [image for image, _ in chosen], [label for _, label in chosen]

    def _read_synsets(self) -> tuple[tuple[str, ...], list[str]]:
        """Return the names of the first classes, and their synsets; the numbers of the classes without that list."""
        if self.imagenet is None and not (self.root / SYNSETS).is_file():
            return tuple(str(number) for number in range(self.num_classes)), []
        path = require_file("MiniWebVision", "root", self.root, SYNSETS)
        lines = path.read_text(encoding="utf-8").splitlines()[: self.num_classes]
        if len(lines) < self.num_classes:
            raise ValueError(f"{path} has {len(lines)} lines, fewer than num_classes={self.num_classes}")
        synsets = []
        class_names = []
        for line in lines:
            synset, _, words = line.strip().partition(" ")
            synsets.append(synset)
            # Two synsets may have the same first word, such as crane.
            word = words.split(",")[0] or synset
            class_names.append(word if word not in class_names else f"{word} {synset}")
        return tuple(class_names), synsets
