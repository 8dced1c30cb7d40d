"""Files of labels, in the formats that people publish."""

from __future__ import annotations

import csv
import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from noisylabels_pl.data.arrays import Array
from noisylabels_pl.data.files import UNREADABLE, load_npz, read_numpy

LABEL_FILES = (".npz", ".npy", ".csv", ".pt", ".pth")
"""The endings of files of labels."""

_TORCH_FILES = (".pt", ".pth")


def read_label_file(path: Path, argument: str) -> dict[str, Array]:
    """Read all labels of a file.

    Args:
        path: one of

            - an ``.npz`` file: its arrays;
            - a ``.npy`` file: its array, by the name ``labels``;
            - a ``.csv`` file: its columns by the names of the first line; a single column without a name is ``labels``;
            - a ``.pt`` or ``.pth`` file: a dictionary of arrays, tensors or lists that ``torch.save`` wrote, such as
              CIFAR-10N's ``CIFAR-10_human.pt``. It is loaded with ``weights_only=True``, so it cannot run code.
        argument: the argument that names the file, for the messages.

    Returns:
        The arrays by name; columns of text are arrays of strings.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file cannot be read, or is of another format.

    Example:
        >>> read_label_file(Path("no/such.npy"), "path")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ...
        FileNotFoundError: path: there is no file ...no/such.npy
    """
    suffix = path.suffix.lower()
    if suffix not in LABEL_FILES:
        raise ValueError(f"{argument} must be a file with the ending {', '.join(LABEL_FILES)}, got {path}")
    if not path.is_file():
        raise FileNotFoundError(f"{argument}: there is no file {path.resolve()}")
    if suffix == ".npz":
        return load_npz(path, argument)
    if suffix == ".npy":
        return read_numpy(path, argument, "labels")
    if suffix == ".csv":
        return _read_csv(path, argument)
    return _read_torch(path, argument)


def _read_csv(path: Path, argument: str) -> dict[str, Array]:
    """Return the columns of a CSV file by name."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            lines = [line for line in csv.reader(file) if line]
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{argument}: {path} is not a readable .csv file") from error
    if not lines:
        raise ValueError(f"{argument}: {path} is empty")
    width = len(lines[0])
    for number, line in enumerate(lines, start=1):
        if len(line) != width:
            raise ValueError(f"{argument}: {path}: line {number} has {len(line)} values, but the first one has {width}")
    if _is_number(lines[0][0]):
        if width > 1:
            raise ValueError(
                f"{argument}: {path} has {width} columns without names; write their names in the first line"
            )
        lines.insert(0, ["labels"])
    names, *rows = lines
    return {name.strip(): _column([row[index] for row in rows]) for index, name in enumerate(names)}


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _column(values: Sequence[str]) -> Array:
    """Return a column as numbers, NaN for empty cells, or as text if it is none."""
    stripped = [value.strip() for value in values]
    try:
        return np.array([float(value or "nan") for value in stripped], dtype=np.float64)
    except ValueError:
        return np.array(stripped)


def _read_torch(path: Path, argument: str) -> dict[str, Array]:
    """Return the arrays of a dictionary that ``torch.save`` wrote."""
    try:
        with torch.serialization.safe_globals(_numpy_names()):
            stored = torch.load(path, map_location="cpu", weights_only=True)
    except (*UNREADABLE, pickle.UnpicklingError, RuntimeError, LookupError, AttributeError) as error:
        raise ValueError(
            f"{argument}: {path} is not a readable file of torch.save with numbers alone; other objects are refused, "
            "because loading them could run any code"
        ) from error
    if not isinstance(stored, Mapping):
        stored = {"labels": stored}
    arrays = {}
    for name, value in stored.items():
        array = value.numpy() if isinstance(value, torch.Tensor) else np.asarray(value)
        if array.dtype.kind in "iufb":  # other entries, such as a description, are no labels
            arrays[str(name)] = array
    return arrays


def _numpy_names() -> list[Any]:
    """Return what a pickled array refers to: functions and types of numpy that hold numbers and run no code."""
    reconstruct: Any = np.empty(0).__reduce__()[0]
    scalar: Any = np.int64(0).__reduce__()[0]
    names: list[Any] = [np.ndarray, np.dtype]
    for module in ("numpy.core.multiarray", "numpy._core.multiarray"):  # before numpy 2, and since
        names += [(reconstruct, f"{module}._reconstruct"), (scalar, f"{module}.scalar")]
    return names + [
        type(np.dtype(code)) for code in ("b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8")
    ]
