"""Your own embeddings, in an npz or Parquet file."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from noisylabels_pl.data.arrays import Array, Arrays, check_features
from noisylabels_pl.data.datamodule import NoisyDataModule
from noisylabels_pl.data.files import NO_FILES_NEEDED, load_npz
from noisylabels_pl.data.own_data import OwnSamples, classification_arrays
from noisylabels_pl.data.tables import Table, read_table
from noisylabels_pl.functional import check_range

FEATURE_NAMES = ("x", "X", "features", "embeddings", "embedding")
LABEL_NAMES = ("y", "labels", "label", "targets")
CLEAN_NAMES = ("y_clean", "clean_labels", "clean_label")

# How the arrays of the training and the test set are named.
_PATTERNS = (("{}_train", "{}_test"), ("train_{}", "test_{}"))


class FeatureData(NoisyDataModule):
    """Serve embeddings, as a foundation model computes them once for all samples.

    The file is an npz file with arrays such as ``x`` ``(n, d)`` and ``y`` ``(n,)``, split into ``x_train``, ``x_test``
    and so on if you like, or a Parquet file with a column of lists. Labels are numbers or text. Half-precision
    embeddings stay so in memory: a million of 768 numbers take 1.5 GB, and as much again while they are split.

    Args:
        path: the npz or Parquet file.
        features: the array or column with the embeddings, without ``_train``; ``None`` for the one of ``x``, ``X``,
            ``features``, ``embeddings``, ``embedding`` that there is.
        label: the same of the labels; ``None`` for the one of ``y``, ``labels``, ``label``, ``targets``.
        clean_label: the same of the true labels; ``None`` for ``y_clean``, ``clean_labels`` or ``clean_label``, if
            there is one.
        test_fraction: the fraction of the samples to split off as the test set, if the file has none.
        split_seed: of that split; runs with other seeds share the test set.
        class_names: the classes in the order of their numbers; ``None`` for the sorted labels.
        asymmetric_map: ``{class: class it is mistaken for}`` by name, for asymmetric noise.
        **common: see :class:`~noisylabels_pl.data.NoisyDataModule`.

    Raises:
        FileNotFoundError: in ``setup``, if there is no such file.
        ValueError: in ``setup``, if an array is missing or wrong; the message names it and the row.

    Example:
        >>> import numpy as np
        >>> embeddings, labels = np.random.rand(100, 768), np.array(["cat", "dog"] * 50)  # doctest: +SKIP
        >>> np.savez("mine.npz", x=embeddings.astype("float16"), y=labels)  # doctest: +SKIP
        >>> data = FeatureData("mine.npz")
        >>> data.setup()  # doctest: +SKIP
    """

    def __init__(
        self,
        path: str,
        *,
        features: str | None = None,
        label: str | None = None,
        clean_label: str | None = None,
        test_fraction: float = 0.2,
        split_seed: int = 0,
        class_names: Sequence[str] | None = None,
        asymmetric_map: dict[str, str] | None = None,
        **common: Any,
    ) -> None:
        super().__init__(**common)
        check_range("test_fraction", test_fraction, "(0, 1)")
        check_range("split_seed", split_seed, "[0, inf)", integer=True)
        self.path = Path(path).expanduser()
        self.features = features
        self.label = label
        self.clean_label = clean_label
        self.test_fraction = test_fraction
        self.split_seed = split_seed
        self.class_names = class_names
        self.asymmetric_map = asymmetric_map

    def load(self) -> Arrays:
        if self.path.suffix.lower() in (".parquet", ".pq"):
            train, test = self._read_parquet(read_table(self.path)), None
        else:
            train, test = self._read_npz(load_npz(self.path, "path", hint=NO_FILES_NEEDED))
        return classification_arrays(
            train,
            test,
            origin=f"features {self.path}",
            label_name="the label",
            test_fraction=self.test_fraction,
            split_seed=self.split_seed,
            class_names=self.class_names,
            asymmetric_map=self.asymmetric_map,
        )

    def _read_parquet(self, table: Table) -> OwnSamples:
        names = table.column_names
        features = self.features or _choose("features", FEATURE_NAMES, names, self.path)
        label = self.label or _choose("label", LABEL_NAMES, names, self.path)
        clean = self.clean_label or _choose_any("clean_label", CLEAN_NAMES, names, self.path)
        return OwnSamples(
            _check_embeddings(features, table.column("features", features)),
            table.column("label", label),
            table.ids,
            None if clean is None else table.column("clean_label", clean),
        )

    def _read_npz(self, stored: dict[str, Array]) -> tuple[OwnSamples, OwnSamples | None]:
        """Return the training samples, and the test samples if the file has them apart."""
        wanted = FEATURE_NAMES if self.features is None else (self.features,)
        test = None
        train_pattern = "{}"
        for first, second in _PATTERNS:
            if any(first.format(name) in stored for name in wanted):
                train_pattern = first
                test = self._samples(stored, second)
        train = self._samples(stored, train_pattern)
        if self.clean_label is not None and train.clean_labels is None:
            name = train_pattern.format(self.clean_label)
            raise ValueError(f"clean_label: {self.path} has no {name}; it has {', '.join(stored)}")
        if test is not None and train.x.shape[1] != test.x.shape[1]:
            raise ValueError(
                f"path: {self.path} has {train.x.shape[1]} numbers for each training sample, but {test.x.shape[1]} for "
                "each test sample; they must be equal"
            )
        return train, test

    def _samples(self, stored: dict[str, Array], pattern: str) -> OwnSamples:
        """Return the samples of the arrays whose names have a pattern such as ``{}_train``."""

        def names_of(given: str | None, usual: Sequence[str]) -> list[str]:
            return [pattern.format(name) for name in (usual if given is None else [given])]

        features = _choose("features", names_of(self.features, FEATURE_NAMES), stored, self.path)
        label = _choose("label", names_of(self.label, LABEL_NAMES), stored, self.path)
        # y_clean_train, or y_train_clean as in the files of data=npz.
        clean_names = [*names_of(self.clean_label, CLEAN_NAMES), f"{label}_clean"]
        clean = _choose_any("clean_label", clean_names, stored, self.path)
        x = _check_embeddings(features, stored[features])
        for name in (label, clean):
            if name is not None and stored[name].shape[:1] != (len(x),):
                raise ValueError(f"{name} has shape {stored[name].shape}, but {features} has {len(x)} rows")
        ids = [f"row {row}" for row in range(len(x))]
        return OwnSamples(x, stored[label], ids, None if clean is None else stored[clean])


def _choose(argument: str, names: Sequence[str], there: Collection[str], path: Path) -> str:
    """Return the one of these names that is there, or raise a ``ValueError`` that lists what is."""
    name = _choose_any(argument, names, there, path)
    if name is None:
        raise ValueError(f"{argument}: {path} has no {' or '.join(names)}; it has {', '.join(there) or 'nothing'}")
    return name


def _choose_any(argument: str, names: Sequence[str], there: Collection[str], path: Path) -> str | None:
    """Return the one of these names that is there, ``None`` if there is none."""
    found = [name for name in dict.fromkeys(names) if name in there]
    if len(found) > 1:
        raise ValueError(f"{argument}: {path} has {' and '.join(found)}; set {argument} to the one to use")
    return found[0] if found else None


def _check_embeddings(name: str, x: Array) -> Tensor:
    """Return embeddings ``(n, d)`` as a tensor; float16 stays as it is."""
    if x.ndim != 2:
        raise ValueError(
            f"{name} has shape {x.shape}; embeddings are one row of numbers for each sample: (n, d); other shapes: "
            "data=npz"
        )
    if x.dtype != np.float16:
        return check_features(name, x)
    wrong = np.flatnonzero(~np.isfinite(x).all(1))
    if len(wrong):
        raise ValueError(f"{name}[{wrong[0]}] holds a value that is not finite; remove the row, or store float32")
    return torch.from_numpy(x)
