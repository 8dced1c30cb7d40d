"""CIFAR-100."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from noisylabels_pl.data.arrays import Array, Arrays
from noisylabels_pl.data.datamodule import NoisyDataModule
from noisylabels_pl.data.datasets.torchvision_files import read_torchvision
from noisylabels_pl.functional import check_choice

CIFAR100Labels = Literal["fine", "coarse"]

FOLDER = "cifar-100-python"
FILES = [f"{FOLDER}/train", f"{FOLDER}/test", f"{FOLDER}/meta"]


class CIFAR100(NoisyDataModule):
    """Serve CIFAR-100: 50,000 + 10,000 color images of 32x32 pixels in 100 classes, or in 20 superclasses.

    For asymmetric noise, each of the 100 classes is mistaken for the next one of its superclass, in alphabetical order
    and in a circle, as the text of `Making Deep Neural Networks Robust to Label Noise
    <https://arxiv.org/abs/1609.03683>`_ has it.

    Args:
        root: the folder that holds ``cifar-100-python/``, torchvision's files.
        labels: ``"fine"`` for the 100 classes, ``"coarse"`` for the 20 superclasses.
        download: whether to download the files if they are not there.
        **common: see :class:`~noisylabels_pl.data.NoisyDataModule`.

    Raises:
        FileNotFoundError: in ``setup``, if a file is missing or damaged.
        ValueError: ``labels`` is not allowed.

    Example:
        >>> data = CIFAR100("data", download=True, crop_padding=4, flip=True)
        >>> data.setup()  # doctest: +SKIP
    """

    def __init__(
        self, root: str = "data", *, labels: CIFAR100Labels = "fine", download: bool = False, **common: Any
    ) -> None:
        super().__init__(**common)
        check_choice("labels", labels, CIFAR100Labels)
        self.root = Path(root).expanduser()
        self.label_set = labels
        self.download = download

    def load(self) -> Arrays:
        train, test = read_torchvision("CIFAR100", self.root, FILES, download=self.download)
        # torchvision has read and checked the files, but keeps the fine labels alone.
        train_file, test_file, meta = (_read_pickle(self.root / name) for name in FILES)
        fine = np.asarray(train_file["fine_labels"])
        coarse = np.asarray(train_file["coarse_labels"])
        key = f"{self.label_set}_labels"
        class_names = tuple(meta[f"{self.label_set}_label_names"])
        superclasses = None
        asymmetric_map = {}
        if self.label_set == "fine":
            superclasses = superclass_of_each(fine, coarse, len(class_names))
            following = next_in_superclass(superclasses)
            asymmetric_map = {name: class_names[other] for name, other in zip(class_names, following, strict=True)}
        y_train = torch.tensor(train_file[key])
        return Arrays(
            x_train=_channels_first(train.data),
            y_train=y_train,
            x_test=_channels_first(test.data),
            y_test=torch.tensor(test_file[key]),
            class_names=class_names,
            mean=255 * torch.tensor([0.5071, 0.4865, 0.4409]).view(3, 1, 1),
            std=255 * torch.tensor([0.2673, 0.2564, 0.2762]).view(3, 1, 1),
            origin=f"torchvision {self.root / FOLDER}",
            asymmetric_map=asymmetric_map,
            y_train_clean=y_train,
            superclasses=superclasses,
        )


def superclass_of_each(fine: Array, coarse: Array, num_classes: int) -> tuple[int, ...]:
    """Return the superclass of each class, from the two labels of all images.

    Args:
        fine: ``(n,)`` the class of each image.
        coarse: ``(n,)`` the superclass of each image.
        num_classes: the number of classes.

    Raises:
        ValueError: a class has no image, or images of several superclasses.

    Example:
        >>> superclass_of_each(np.array([0, 1, 2, 0]), np.array([7, 4, 7, 7]), num_classes=3)
        (7, 4, 7)
    """
    superclasses = []
    for number in range(num_classes):
        values = np.unique(coarse[fine == number])
        if len(values) != 1:
            raise ValueError(f"{FOLDER}/train: class {number} has {len(values)} superclasses; fetch the file again")
        superclasses.append(int(values[0]))
    return tuple(superclasses)


def next_in_superclass(superclasses: tuple[int, ...]) -> list[int]:
    """Return for each class the next one of its superclass, in a circle.

    Example:
        >>> next_in_superclass((7, 4, 7, 4, 7))
        [2, 3, 4, 1, 0]
    """
    following = []
    for number, superclass in enumerate(superclasses):
        members = [other for other, of_other in enumerate(superclasses) if of_other == superclass]
        following.append(members[(members.index(number) + 1) % len(members)])
    return following


def _read_pickle(path: Path) -> dict[str, Any]:
    """Return the contents of a published file, whose checksum torchvision has compared."""
    with path.open("rb") as file:
        content: dict[str, Any] = pickle.load(file, encoding="latin1")
    return content


def _channels_first(images: Array) -> Tensor:
    """Return images ``(n, H, W, C)`` as ``(n, C, H, W)``."""
    return torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()
