"""Tables from CSV and Parquet files."""

from __future__ import annotations

import csv
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any

import numpy as np

from noisylabels_pl.data.arrays import Array
from noisylabels_pl.data.files import NO_FILES_NEEDED
from noisylabels_pl.data.image_files import ImageFiles, ImageMode
from noisylabels_pl.data.samples import StoredSamples

# How a missing number is written. In a column of text only an empty field is missing, because "none" may be a class.
_MISSING_NUMBERS = frozenset({"", "na", "n/a", "nan", "null", "none", "?"})
_DELIMITERS = (",", ";", "\t")


class Table(ABC):
    """Rows with named columns.

    Args:
        origin: where the table came from, for messages and the result.
        column_names: in order.
        ids: what each row is called.
    """

    def __init__(self, origin: str, column_names: Sequence[str], ids: Sequence[str]) -> None:
        self.origin = origin
        self.column_names = tuple(column_names)
        self.ids = ids

    @abstractmethod
    def read(self, name: str) -> Array:
        """Return a column: ``(n,)`` numbers or objects (text, ``None`` if missing), or ``(n, k)`` lists of numbers."""

    @abstractmethod
    def read_images(self, name: str, image_size: int, mode: ImageMode) -> StoredSamples:
        """Return a column of images."""

    def class_names(self, name: str) -> Sequence[str] | None:
        """Return the classes of a column of labels in the order of their numbers, if the table knows them."""
        return None

    def column(self, argument: str, name: str) -> Array:
        """Return a column that the user names.

        Args:
            argument: the argument with the name, for the message.
            name: of the column.

        Raises:
            ValueError: there is no such column; the message lists those that there are, the most similar first.
        """
        self.check_name(argument, name)
        return self.read(name)

    def check_name(self, argument: str, name: str) -> None:
        """Raise a ``ValueError`` if there is no column ``name``."""
        if name not in self.column_names:
            similar_first = sorted(
                self.column_names, key=lambda column: -SequenceMatcher(None, name.lower(), column.lower()).ratio()
            )
            listed = ", ".join(similar_first[:10]) + (", ..." if len(similar_first) > 10 else "")
            raise ValueError(
                f"{argument}: {self.origin} has no column {name!r}; the columns, the nearest first: {listed}"
            )


class FileTable(Table):
    """A table whose columns are in memory; images are files whose paths are relative to the table's.

    Args:
        path: the file of the table.
        columns: by name.
        ids: what each row is called.

    Example:
        >>> table = FileTable(Path("pets.csv"), {"age": np.array([3.0, 5.0])}, ["line 2", "line 3"])
        >>> table.column("features", "age")
        array([3., 5.])
        >>> table.column("label", "kind")
        Traceback (most recent call last):
        ...
        ValueError: label: pets.csv has no column 'kind'; the columns, the nearest first: age
    """

    def __init__(self, path: Path, columns: Mapping[str, Array], ids: Sequence[str]) -> None:
        super().__init__(str(path), list(columns), ids)
        self.path = path
        self.columns = columns

    def read(self, name: str) -> Array:
        return self.columns[name]

    def read_images(self, name: str, image_size: int, mode: ImageMode) -> StoredSamples:
        paths = [self.path.parent / str(value) for value in self.columns[name]]
        for row, path in enumerate(paths):
            if not path.is_file() or not path.stat().st_size:
                raise ValueError(f"{name} of {self.ids[row]}: there is no file {path}, or it is empty")
        return ImageFiles(paths, image_size, mode)


def read_table(path: Path) -> FileTable:
    """Read a table.

    Args:
        path: a ``.csv``, ``.tsv`` or ``.txt`` file with a header and fields separated by commas, semicolons or
            tabulators; or a ``.parquet`` file. A column of a text file is numeric if all of its values are.

    Raises:
        FileNotFoundError: there is no such file.
        ModuleNotFoundError: pyarrow, which reads Parquet, is not installed.
        ValueError: the file is no table, or has no rows.

    Example:
        >>> read_table(Path("no/such.csv"))  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ...
        FileNotFoundError: path: there is no file ...no/such.csv; ...
    """
    if not path.is_file():
        raise FileNotFoundError(f"path: there is no file {path.resolve()}; {NO_FILES_NEEDED}")
    if path.suffix.lower() in (".csv", ".tsv", ".txt"):
        table = _read_csv(path)
    elif path.suffix.lower() in (".parquet", ".pq"):
        table = _read_parquet(path)
    else:
        raise ValueError(f"path must end in .csv, .tsv or .parquet, got {path.name}")
    if not table.ids:
        raise ValueError(f"path: {path} has no rows below its header")
    return table


def numbers_of(values: Sequence[str]) -> Array | None:
    """Return the fields of a column as numbers, NaN where they are missing; ``None`` if a field is text.

    Example:
        >>> numbers_of(["1", "2.5", "NA"])
        array([1. , 2.5, nan])
        >>> numbers_of(["1", "cat"]) is None
        True
    """
    try:
        numbers = [float("nan") if value.strip().lower() in _MISSING_NUMBERS else float(value) for value in values]
    except ValueError:
        return None
    return np.array(numbers)


def _read_csv(path: Path) -> FileTable:
    ids: list[str] = []
    rows: list[list[str]] = []
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            first_line = file.readline()
            file.seek(0)
            delimiter = max(_DELIMITERS, key=first_line.count)
            reader = csv.reader(file, delimiter=delimiter, strict=True)
            header = [name.strip() for name in next(reader, [])]
            line = reader.line_num + 1
            for row in reader:
                if row:  # not a blank line
                    if len(row) != len(header):
                        raise ValueError(f"path: line {line} of {path} has {len(row)} fields, its header {len(header)}")
                    ids.append(f"line {line}")
                    rows.append(row)
                line = reader.line_num + 1
    except UnicodeDecodeError as error:
        raise ValueError(f"path: {path} is no text in UTF-8; save it in this encoding") from error
    except csv.Error as error:
        raise ValueError(f"path: line {line} of {path} cannot be read ({error})") from error
    if not header:
        raise ValueError(f"path: {path} is empty")
    for position, name in enumerate(header):
        if name in header[:position]:
            raise ValueError(f"path: {path} has two columns {name!r}; rename one")
    columns = dict(zip(header, map(_typed, zip(*rows, strict=True)), strict=False))
    return FileTable(path, columns, ids)


def _typed(values: tuple[str, ...]) -> Array:
    """Return a column as numbers if it has any and nothing else, otherwise as text, ``None`` where it is missing."""
    numbers = numbers_of(values)
    if numbers is not None and not np.isnan(numbers).all():
        return numbers
    # Objects, because in an array of text each value would take the memory of the longest.
    return _objects([value.strip() or None for value in values])


def _objects(values: Sequence[Any]) -> Array:
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array


def _read_parquet(path: Path) -> FileTable:
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "Parquet files need pyarrow: pip install 'noisylabels-pl[tables]'; CSV files need nothing"
        ) from error
    try:
        stored = parquet.read_table(path)
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"path: {path} is no readable Parquet file") from error
    columns = {name: arrow_column(name, stored.column(name)) for name in stored.column_names}
    return FileTable(path, columns, [f"row {row}" for row in range(stored.num_rows)])


def arrow_column(name: str, column: Any) -> Array:
    """Return a column of pyarrow in numpy.

    Args:
        name: of the column, for the message.
        column: a ``pyarrow.ChunkedArray`` of numbers, text, or lists of equally many numbers.

    Returns:
        ``(n,)`` numbers, NaN for a missing one, or objects; ``(n, k)`` numbers for lists.

    Raises:
        ValueError: lists have different lengths.
    """
    import pyarrow as pa

    kind = column.type
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        values = column.combine_chunks()
        lengths = np.array([-1 if length is None else length for length in values.value_lengths().to_pylist()])
        if len(lengths) and (lengths != lengths[0]).any():
            row = int(np.flatnonzero(lengths != lengths[0])[0])
            raise ValueError(
                f"{name} of row {row} has {max(lengths[row], 0)} numbers, that of row 0 {max(lengths[0], 0)}; all rows "
                "need equally many"
            )
        numbers: Array = values.flatten().to_numpy(zero_copy_only=False)
        return numbers.reshape(len(lengths), -1)
    if pa.types.is_dictionary(kind):
        column = column.cast(kind.value_type)
    array: Array = column.to_numpy()
    return array
