"""What the datasets of tables share."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from noisylabels_pl.data.arrays import Array, Arrays
from noisylabels_pl.data.columns import check_text, read_features
from noisylabels_pl.data.datamodule import NoisyDataModule
from noisylabels_pl.data.image_files import ImageMode
from noisylabels_pl.data.own_data import OwnSamples, classification_arrays
from noisylabels_pl.data.samples import Samples, read_all
from noisylabels_pl.data.tables import Table
from noisylabels_pl.data.texts import encode_texts, make_vocabulary
from noisylabels_pl.functional import check_choice, check_range

PARTS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "dev": "val", "test": "test"}
"""The parts of a dataset by the names that people give them."""


class ColumnData(NoisyDataModule):
    """Serve samples from the columns of a table; a subclass reads the table in :meth:`read_table`.

    Args:
        label: the column with the labels: numbers or text.
        features: the columns with the features; ``None`` for all columns of numbers that serve no other purpose.
            Columns of text become a feature of 0 and 1 for each of their values.
        image: the column with the images, instead of features.
        text: the column with the texts, instead of features.
        clean_label: the column with the true labels, for the comparisons with them and for the test; ``None`` if they
            are unknown.
        test_fraction: the fraction of the rows to split off as the test set, if the table does not say which.
        split_seed: of that split; runs with other seeds share the test set.
        image_size: height and width in pixels; images are resized by their shorter side and cut out of the middle.
        mode: of images: ``"RGB"``, or ``"L"`` for one channel of gray.
        vocabulary: of texts: the number of different numbers: 0 for padding, 1 for a word that the vocabulary lacks,
            and the most frequent words of the training set.
        length: of texts: they are cut after this many words, or filled up by padding.
        class_names: the classes in the order of their numbers; ``None`` for the order that the table
            knows, or the sorted labels.
        asymmetric_map: ``{class: class it is mistaken for}`` by name, for asymmetric noise.
        **common: see :class:`~noisylabels_pl.data.NoisyDataModule`.

    Attributes:
        word_numbers: of texts: the number of each word, after ``setup``; for
            :func:`~noisylabels_pl.data.texts.encode_texts`.
    """

    def __init__(
        self,
        *,
        label: str,
        features: Sequence[str] | None = None,
        image: str | None = None,
        text: str | None = None,
        clean_label: str | None = None,
        test_fraction: float = 0.2,
        split_seed: int = 0,
        image_size: int = 64,
        mode: ImageMode = "RGB",
        vocabulary: int = 5000,
        length: int = 200,
        class_names: Sequence[str] | None = None,
        asymmetric_map: dict[str, str] | None = None,
        **common: Any,
    ) -> None:
        super().__init__(**common)
        named = [name for name, value in (("features", features), ("image", image), ("text", text)) if value]
        if len(named) > 1:
            raise ValueError(f"{' and '.join(named)} cannot be set together; samples are one of features, image, text")
        if isinstance(features, str):
            raise ValueError(f"features must be a list of columns, got {features!r}; write [{features}]")
        check_range("test_fraction", test_fraction, "(0, 1)")
        check_range("split_seed", split_seed, "[0, inf)", integer=True)
        check_range("image_size", image_size, "[1, inf)", integer=True)
        check_choice("mode", mode, ImageMode)
        check_range("vocabulary", vocabulary, "[3, inf)", integer=True)
        check_range("length", length, "[1, inf)", integer=True)
        self.label = label
        self.features = features
        self.image = image
        self.text = text
        self.clean_label = clean_label
        self.test_fraction = test_fraction
        self.split_seed = split_seed
        self.image_size = int(image_size)
        self.mode = mode
        self.vocabulary = int(vocabulary)
        self.length = int(length)
        self.class_names = class_names
        self.asymmetric_map = asymmetric_map
        self.word_numbers: dict[str, int] = {}

    @abstractmethod
    def read_table(self) -> tuple[Table, Array | None]:
        """Return the table, and the part of each row: ``train``, ``val`` or ``test``; ``None`` to split it."""

    def purposes(self) -> dict[str, str]:
        """Return the arguments by the columns that they name: these are no samples."""
        named = {"clean_label": self.clean_label, "label": self.label}
        return {name: argument for argument, name in named.items() if name is not None}

    def load(self) -> Arrays:
        table, parts = self.read_table()
        self._check_purposes()
        notes: list[str] = []
        labels = table.read_labels("label", self.label)
        clean = None if self.clean_label is None else table.read_labels("clean_label", self.clean_label)
        train = OwnSamples(self._read_samples(table, notes), labels, table.ids, clean)
        test = None
        if parts is not None:
            train_rows = np.flatnonzero(parts != "test")
            test = train.rows(torch.from_numpy(np.flatnonzero(parts == "test")))
            train = replace(train, is_val=parts == "val").rows(torch.from_numpy(train_rows))
        arrays = classification_arrays(
            train,
            test,
            origin=f"table {table.origin}",
            label_name=self.label,
            test_fraction=self.test_fraction,
            split_seed=self.split_seed,
            class_names=table.class_names(self.label) if self.class_names is None else self.class_names,
            asymmetric_map=self.asymmetric_map,
            warnings=notes,
        )
        if self.class_names is None and 2 * arrays.num_outputs > len(table.ids) and len(table.ids) > 20:
            raise ValueError(
                f"label: {self.label} has {arrays.num_outputs} different values in {len(table.ids)} rows; name a "
                "column of classes; real numbers are targets of regression: data=npz_regression"
            )
        return arrays if self.text is None else self._encode_texts(arrays, table, self.text)

    def _check_purposes(self) -> None:
        """Refuse samples that would tell the label, or the part of the dataset."""
        purposes = self.purposes()
        for argument, names in (("features", self.features or ()), ("image", [self.image]), ("text", [self.text])):
            for name in names:
                purpose = None if name is None else purposes.get(name)
                if purpose == "row_id" and argument != "features":  # such as the path of an image
                    continue
                if purpose is not None:
                    raise ValueError(
                        f"{argument} names {name!r}, which is the column of {purpose}; samples would tell it to "
                        "the network; name another column"
                    )

    def _read_samples(self, table: Table, notes: list[str]) -> Samples:
        if self.image is not None:
            table.check_name("image", self.image)
            return table.read_images(self.image, self.image_size, self.mode)
        if self.text is not None:
            table.check_name("text", self.text)
            # The numbers of the rows stand for the texts until the test set is split off, which must not have a say in
            # the vocabulary.
            return torch.arange(len(table.ids))[:, None]
        return read_features(table, self.features, self.purposes(), notes)

    def _encode_texts(self, arrays: Arrays, table: Table, name: str) -> Arrays:
        """Return the dataset with words in place of the numbers of rows."""
        texts = check_text(table, name, table.read(name))
        train = [texts[row] for row in read_all(arrays.x_train).flatten().tolist()]
        test = [texts[row] for row in read_all(arrays.x_test).flatten().tolist()]
        self.word_numbers = make_vocabulary(train, self.vocabulary)
        x_train = encode_texts(train, self.word_numbers, self.length)
        return replace(arrays, x_train=x_train, x_test=encode_texts(test, self.word_numbers, self.length))
