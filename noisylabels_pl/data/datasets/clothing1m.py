"""Clothing1M."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from noisylabels_pl.data.arrays import Arrays
from noisylabels_pl.data.datamodule import NoisyDataModule
from noisylabels_pl.data.datasets.image_lists import listed_images, read_labeled_names, read_names, require_file
from noisylabels_pl.data.image_files import ImageFiles
from noisylabels_pl.functional import check_choice, check_range, empirical_transition_matrix

Clothing1MTrainSet = Literal["noisy", "clean"]

CLASS_NAMES = (
    "t-shirt",
    "shirt",
    "knitwear",
    "chiffon",
    "sweater",
    "hoodie",
    "windbreaker",
    "jacket",
    "down coat",
    "suit",
    "shawl",
    "dress",
    "vest",
    "underwear",
)
# Of all training images, as in the public code of ELR+ and DivideMix.
_MEAN = (0.6959, 0.6537, 0.6371)
_STD = (0.3113, 0.3192, 0.3214)


class Clothing1M(NoisyDataModule):
    """Serve Clothing1M: a million images of clothes in 14 classes, with labels from the texts around them.

    The labels of 47,570 further training, 14,313 validation and 10,526 test images were corrected by hand. Validation
    and test use these, so there is no split of the training set. Many of the corrected training images have both
    labels; these pairs determine the transition matrix that ``method.T=known`` uses, as in section 5.3 of `Making Deep
    Neural Networks Robust to Label Noise <https://arxiv.org/abs/1609.03683>`_.

    Paper: `Learning from Massive Noisy Labeled Data for Image Classification
    <https://openaccess.thecvf.com/content_cvpr_2015/papers/Xiao_Learning_From_Massive_2015_CVPR_paper.pdf>`_.

    Args:
        root: the folder with ``images/`` and the lists ``noisy_train_key_list.txt``, ``clean_train_key_list.txt``,
            ``clean_val_key_list.txt``, ``clean_test_key_list.txt``, ``noisy_label_kv.txt`` and ``clean_label_kv.txt``,
            or with the lists in ``annotations/``.
        train_set: ``"noisy"`` for the million images, ``"clean"`` for the training images with corrected labels.
        image_size: height and width in pixels; images are resized by their shorter side and cut out of the middle.
        max_per_class: each epoch is a random subset with at most this many images of each observed class; ``None`` for
            all images in each epoch.
        val_fraction: 0, because the dataset has a validation set of its own.
        **common: see :class:`~noisylabels_pl.data.NoisyDataModule`.

    Raises:
        FileNotFoundError: in ``setup``, if a list or the first image of a list is missing.
        ValueError: in ``setup``, if a list is damaged, or an image of it has no label.

    Example:
        >>> data = Clothing1M("data/clothing1m", crop_size=224, flip=True, max_per_class=18_571)
        >>> data.setup()  # doctest: +SKIP
    """

    def __init__(
        self,
        root: str = "data/clothing1m",
        *,
        train_set: Clothing1MTrainSet = "noisy",
        image_size: int = 256,
        max_per_class: int | None = None,
        val_fraction: float = 0.0,
        **common: Any,
    ) -> None:
        super().__init__(val_fraction=val_fraction, **common)
        check_choice("train_set", train_set, Clothing1MTrainSet)
        check_range("image_size", image_size, "[1, inf)", integer=True)
        if max_per_class is not None:
            check_range("max_per_class", max_per_class, "[1, inf)", integer=True)
            self.max_per_class = int(max_per_class)
        self.root = Path(root).expanduser()
        self.train_set = train_set
        self.image_size = int(image_size)

    def load(self) -> Arrays:
        clean_labels = self._read_labels("clean_label_kv.txt")
        noisy_labels = self._read_labels("noisy_label_kv.txt")
        T = None
        if self.train_set == "noisy":
            x_train, y_train = self._read_images("noisy_train_key_list.txt", noisy_labels)
            T = self._transition_matrix(clean_labels, noisy_labels)
        else:
            x_train, y_train = self._read_images("clean_train_key_list.txt", clean_labels)
        x_test, y_test = self._read_images("clean_test_key_list.txt", clean_labels)
        return Arrays(
            x_train=x_train,
            y_train=y_train,
            x_test=x_test,
            y_test=y_test,
            class_names=CLASS_NAMES,
            mean=255 * torch.tensor(_MEAN).view(3, 1, 1),
            std=255 * torch.tensor(_STD).view(3, 1, 1),
            origin=f"clothing1m {self.root}, {self.train_set} labels",
            y_train_clean=y_train if self.train_set == "clean" else None,
            # No train_ids, which would put a list of a million names, 80 MB, into the folder of every run.
            T=T,
            validation=self._read_images("clean_val_key_list.txt", clean_labels),
        )

    def _list(self, name: str) -> Path:
        """Return the path of a list, which may lie in ``annotations/``."""
        path = self.root / "annotations" / name
        return path if path.is_file() else require_file("Clothing1M", "root", self.root, name)

    def _read_labels(self, name: str) -> dict[str, int]:
        """Return the label of each image in a list."""
        return dict(zip(*read_labeled_names(self._list(name), len(CLASS_NAMES)), strict=True))

    def _read_images(self, name: str, label_of: dict[str, int]) -> tuple[ImageFiles, Tensor]:
        """Return the images of a list and their labels."""
        path = self._list(name)
        names = read_names(path)
        try:
            labels = [label_of[image] for image in names]
        except KeyError as error:
            raise ValueError(f"{path}: {error.args[0]} has no label; fetch the lists again") from error
        return listed_images("Clothing1M", "root", self.root, names, labels, self.image_size)

    def _transition_matrix(self, clean_labels: dict[str, int], noisy_labels: dict[str, int]) -> Tensor | None:
        """Return the transition matrix of the training images with both labels; ``None`` if a class has none."""
        paired = [name for name in read_names(self._list("clean_train_key_list.txt")) if name in noisy_labels]
        clean = torch.tensor([clean_labels[name] for name in paired], dtype=torch.int64)
        noisy = torch.tensor([noisy_labels[name] for name in paired], dtype=torch.int64)
        if not torch.bincount(clean, minlength=len(CLASS_NAMES)).all():
            return None
        return empirical_transition_matrix(clean, noisy, len(CLASS_NAMES))
