"""A dataset that the library ``datasets`` of Hugging Face has saved on disk."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from noisylabels_pl.data.arrays import Array
from noisylabels_pl.data.datasets.column_data import PARTS, ColumnData
from noisylabels_pl.data.files import NO_FILES_NEEDED
from noisylabels_pl.data.image_files import UNREADABLE, ImageMode, fit_square, upright
from noisylabels_pl.data.samples import StoredSamples
from noisylabels_pl.data.tables import Table, arrow_column


class HfDisk(ColumnData):
    """Serve a dataset that was saved by ``save_to_disk`` of the library ``datasets``; nothing is downloaded.

    Of a ``DatasetDict``, the parts ``train``, ``validation`` and ``test`` are used. Without ``test``, ``validation``
    is the test set. A single ``Dataset`` is split. The names of a ``ClassLabel`` become the class names.

    Args:
        path: the folder.
        **columns: see :class:`~noisylabels_pl.data.datasets.column_data.ColumnData`, and
            :class:`~noisylabels_pl.data.NoisyDataModule`. The column ``image`` holds images, not paths.

    Raises:
        FileNotFoundError: in ``setup``, if there is no such folder.
        ModuleNotFoundError: in ``setup``, if ``datasets`` is not installed.
        ValueError: in ``setup``, if a column does not exist, or a value is missing or wrong.

    Example:
        >>> data = HfDisk("reviews", text="review", label="stars")
        >>> data.setup()  # doctest: +SKIP
    """

    def __init__(self, path: str, **columns: Any) -> None:
        super().__init__(**columns)
        self.path = Path(path).expanduser()

    def read_table(self) -> tuple[Table, Array | None]:
        if not self.path.is_dir():
            raise FileNotFoundError(f"path: there is no folder {self.path.resolve()}; {NO_FILES_NEEDED}")
        try:
            import datasets
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError("data=hf_disk needs datasets: pip install 'noisylabels-pl[text]'") from error
        try:
            stored = datasets.load_from_disk(str(self.path))
        except (OSError, ValueError) as error:
            raise ValueError(f"path: {self.path} is no folder of datasets' save_to_disk ({error})") from error
        if not isinstance(stored, datasets.DatasetDict):
            return _HfTable(self.path, stored, [f"row {row}" for row in range(len(stored))]), None
        parts = {PARTS[name]: part for name, part in stored.items() if name in PARTS}
        if "test" not in parts and "val" in parts:
            parts["test"] = parts.pop("val")
        if not {"train", "test"} <= parts.keys():
            raise ValueError(f"path: {self.path} needs train, and test or validation; it has {', '.join(stored)}")
        ids = [f"{name} {row}" for name, part in parts.items() for row in range(len(part))]
        part_of_row = np.concatenate([np.full(len(part), name) for name, part in parts.items()])
        return _HfTable(self.path, datasets.concatenate_datasets(list(parts.values())), ids), part_of_row


class _HfTable(Table):
    """A dataset of Hugging Face; columns are read when they are needed."""

    def __init__(self, path: Path, dataset: Any, ids: list[str]) -> None:
        super().__init__(str(path), dataset.column_names, ids)
        self.dataset = dataset

    def read(self, name: str) -> Array:
        column: Array = arrow_column(name, self.dataset.with_format("arrow")[:][name])
        names = self.class_names(name)
        if names is None:
            return column
        if column.dtype.kind == "f" or column.min() < 0:  # as of a test set without labels
            row = int(np.flatnonzero(~(column >= 0))[0])
            raise ValueError(f"{name} of {self.ids[row]} is missing; remove the row, or its part of the dataset")
        labels: Array = np.array(names)[column]
        return labels

    def class_names(self, name: str) -> Sequence[str] | None:
        names: Sequence[str] | None = getattr(self.dataset.features[name], "names", None)
        return names

    def read_images(self, name: str, image_size: int, mode: ImageMode) -> StoredSamples:
        return _HfImages(self.dataset, name, image_size, mode, self.ids)


class _HfImages(StoredSamples):
    """A column of images, decoded when a batch needs them."""

    def __init__(self, dataset: Any, name: str, image_size: int, mode: ImageMode, ids: Sequence[str]) -> None:
        super().__init__((len(dataset), 3 if mode == "RGB" else 1, image_size, image_size), torch.uint8)
        self.images = dataset.select_columns([name])
        self.name = name
        self.image_size = image_size
        self.mode = mode
        self.ids = ids

    def __getitem__(self, indices: Tensor) -> Tensor:
        images = torch.empty((len(indices), *self.shape[1:]), dtype=torch.uint8)
        for row, position in enumerate(indices.tolist()):
            images[row] = self._read(position)
        return images

    def _read(self, position: int) -> Tensor:
        where = f"image: {self.name} of {self.ids[position]}"
        try:
            image = self.images[position][self.name]
            if hasattr(image, "convert"):
                return fit_square(upright(image).convert(self.mode), self.image_size)
        except UNREADABLE as error:
            reason = " ".join(str(error).split())
            raise ValueError(f"{where} is no readable image ({reason}); remove the row from the dataset") from error
        if image is None:
            raise ValueError(f"{where} is missing; remove the row from the dataset")
        raise ValueError(f"{where} is a {type(image).__name__}, not an image")

    def update_digest(self, hasher: Any) -> None:
        hasher.update(f"{len(self)} {self.images.features} {self.images.data.nbytes}".encode())
