"""Your own images, in a folder for each class."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from noisylabels_pl.data.arrays import Arrays
from noisylabels_pl.data.datamodule import NoisyDataModule
from noisylabels_pl.data.files import NO_FILES_NEEDED
from noisylabels_pl.data.image_files import SUFFIXES, ImageFiles, ImageMode, find_unreadable
from noisylabels_pl.data.labels import class_names_of, some_names
from noisylabels_pl.data.own_data import OwnSamples, classification_arrays
from noisylabels_pl.functional import check_choice, check_range

BadFiles = Literal["refuse", "skip"]
_NAMES_OF_SPLITS = ("train", "training", "val", "valid", "validation", "test", "testing", "eval")


class ImageFolder(NoisyDataModule):
    """Serve your own images from a folder for each class: ``PATH/train/cat/1.jpg`` and ``PATH/test/cat/2.jpg``.

    Images of a folder ``val`` beside them are held out for validation, with their labels as they are. Without a folder
    ``train``, the classes lie in ``PATH`` itself, and a part is split off as the test set. The test labels count as
    correct. Images have any size and any format that Pillow reads. They are decoded when a batch needs them, or once,
    if all of them fit on the training device (``resident``).

    Args:
        path: the folder.
        image_size: height and width in pixels; images are resized by their shorter side and cut out of the middle.
        mode: ``"RGB"``, or ``"L"`` for one channel of gray.
        test_folder: the folder beside ``train`` with the test images.
        test_fraction: the fraction of the images to split off as the test set, if there is no folder ``train``.
        split_seed: of that split; runs with other seeds share the test set.
        bad_files: ``"refuse"`` raises an error that names the first file that cannot be read, once it is needed;
            ``"skip"`` reads all files before the fit, and leaves those out.
        class_names: the classes in the order of their numbers; ``None`` for the folders, sorted by name.
        asymmetric_map: ``{class: class it is mistaken for}`` by name, for asymmetric noise.
        **common: see :class:`~noisylabels_pl.data.NoisyDataModule`.

    Raises:
        FileNotFoundError: in ``setup``, if there is no such folder, or no image in it.
        ValueError: in ``setup``, if there are fewer than two classes, or a file is bad.

    Example:
        >>> data = ImageFolder("pets", image_size=224, normalization="imagenet", batch_size=32)
        >>> data.setup()  # doctest: +SKIP
    """

    def __init__(
        self,
        path: str,
        *,
        image_size: int = 224,
        mode: ImageMode = "RGB",
        test_folder: str = "test",
        test_fraction: float = 0.2,
        split_seed: int = 0,
        bad_files: BadFiles = "refuse",
        class_names: Sequence[str] | None = None,
        asymmetric_map: dict[str, str] | None = None,
        **common: Any,
    ) -> None:
        super().__init__(**common)
        check_range("image_size", image_size, "[1, inf)", integer=True)
        check_choice("mode", mode, ImageMode)
        check_choice("bad_files", bad_files, BadFiles)
        check_range("test_fraction", test_fraction, "(0, 1)")
        check_range("split_seed", split_seed, "[0, inf)", integer=True)
        self.path = Path(path).expanduser()
        self.image_size = int(image_size)
        self.mode = mode
        self.test_folder = test_folder
        self.test_fraction = test_fraction
        self.split_seed = split_seed
        self.bad_files = bad_files
        self.class_names = class_names
        self.asymmetric_map = asymmetric_map

    def load(self) -> Arrays:
        if not self.path.is_dir():
            remedy = "a table of paths is data=csv" if self.path.is_file() else NO_FILES_NEEDED
            raise FileNotFoundError(f"path: there is no folder {self.path.resolve()}; {remedy}")
        skipped: list[str] = []
        train_folder = self.path / "train"
        if train_folder.is_dir():
            test_folder = self.path / self.test_folder
            if not test_folder.is_dir():
                raise FileNotFoundError(
                    f"path: there is {train_folder} but no {test_folder}; set test_folder to the name of the folder "
                    "with the test images, or path to the folder train, to split them"
                )
            images = self._list(train_folder, skipped)
            val_images = []
            if self.test_folder != "val" and (self.path / "val").is_dir():
                val_images = self._list(self.path / "val", skipped)
            train = self._samples(images, val_images)
            test = self._samples(self._list(test_folder, skipped))
        else:
            train = self._samples(self._list(self.path, skipped))
            test = None
        class_names = self.class_names
        if class_names is None and test is not None:  # a folder names its class, even if only the test set has it
            class_names = class_names_of("the folder", np.concatenate([train.labels, test.labels]))
        warnings = []
        if skipped:
            warnings.append(f"left out, because they are no readable images of a class: {some_names(skipped)}")
        return classification_arrays(
            train,
            test,
            origin=f"images {self.path}",
            label_name="the folder",
            test_fraction=self.test_fraction,
            split_seed=self.split_seed,
            class_names=class_names,
            asymmetric_map=self.asymmetric_map,
            warnings=warnings,
        )

    def _list(self, folder: Path, skipped: list[str]) -> list[tuple[str, str]]:
        """Return the path and the label of each image of a folder of classes.

        The paths are relative to ``path``. Files that are left out are appended to ``skipped``.
        """
        paths: list[str] = []  # strings, because a million Path objects take half a GiB
        labels: list[str] = []
        for class_folder in sorted(entry for entry in folder.iterdir() if not entry.name.startswith(".")):
            if not class_folder.is_dir():  # an image of no class, or another file
                skipped.append(os.path.relpath(class_folder, self.path))
                continue
            if folder == self.path and class_folder.name.lower() in _NAMES_OF_SPLITS:
                raise ValueError(
                    f"path: {class_folder} looks like a part of the dataset, not like a class; name the folders of the "
                    "parts train and test, or set path to the folder that holds the classes"
                )
            for path in _files_below(class_folder):
                name = os.path.relpath(path, self.path)
                if os.path.splitext(name)[1].lower() not in SUFFIXES:
                    skipped.append(name)
                    continue
                paths.append(name)
                labels.append(class_folder.name)
        if not paths:
            raise FileNotFoundError(
                f"path: there is no image in {folder.resolve()}; it needs a folder for each class, such as "
                f"{folder.name}/cat/1.jpg"
            )
        bad = [position for position, path in enumerate(paths) if not _has_bytes(self.path / path)]
        if self.bad_files == "skip":
            bad = find_unreadable([self.path / path for path in paths])
        elif bad:
            raise ValueError(
                f"{self.path / paths[bad[0]]} is empty or a broken link; remove it, or set bad_files to skip"
            )
        skipped += [paths[position] for position in bad]
        left_out = set(bad)
        images = zip(paths, labels, strict=True)
        return [image for position, image in enumerate(images) if position not in left_out]

    def _samples(self, images: Sequence[tuple[str, str]], val_images: Sequence[tuple[str, str]] = ()) -> OwnSamples:
        """Return images that are decoded later, those held out for validation after the others."""
        paths, labels = zip(*images, *val_images, strict=True)
        files = ImageFiles(paths, self.image_size, self.mode, root=self.path)
        is_val = np.repeat([False, True], [len(images), len(val_images)])
        return OwnSamples(files, np.array(labels), files.names, is_val=is_val)


def _files_below(folder: Path) -> Iterator[str]:
    """Yield the files below a folder in order, without hidden ones; links to folders are followed once."""
    visited = set()
    for current, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(current)
        if real in visited:
            folders.clear()
            continue
        visited.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (os.path.join(current, name) for name in sorted(files) if not name.startswith("."))


def _has_bytes(path: Path) -> bool:
    return path.exists() and path.stat().st_size > 0
