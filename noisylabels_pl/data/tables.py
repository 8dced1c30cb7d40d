"""Tables from CSV and Parquet files."""

from __future__ import annotations

import csv
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
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
# Labels that are read as numbers: no two of them that differ as text become one label, except for 1 and 1.0. Real
# numbers are read so that they can be refused.
_NUMBER = re.compile(r"(0|-?[1-9][0-9]{0,14}|-?[0-9]{1,15}\.[0-9]+)(e-[0-9]+)?", re.IGNORECASE)
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

    def read_feature(self, name: str) -> Array:
        """Return a column whose text may stand for numbers."""
        return self.read(name)

    def read_labels(self, argument: str, name: str) -> Array:
        """Return a column of labels; see :meth:`column`."""
        return self.column(argument, name)

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
        values = self.columns[name]
        for row, value in enumerate(values):
            if value is None or not str(value).strip():
                raise ValueError(
                    f"{name} of {self.ids[row]} is missing; fill in the path of the image, or remove the row"
                )
        paths = [self.path.parent / str(value) for value in values]
        for row, path in enumerate(paths):
            if not path.is_file() or not path.stat().st_size:
                raise ValueError(f"{name} of {self.ids[row]}: there is no file {path}, or it is empty")
        return ImageFiles(paths, image_size, mode)


class CsvTable(FileTable):
    """A table whose columns are text, because a file of text does not say which of them are numbers."""

    def read_feature(self, name: str) -> Array:
        values = self.read(name)
        numbers = numbers_of(values)
        return values if numbers is None or np.isnan(numbers).all() else numbers

    def read_labels(self, argument: str, name: str) -> Array:
        values = self.column(argument, name)
        present = [value for value in values if not _is_missing(value)]
        if not present or not all(_NUMBER.fullmatch(value) for value in present):
            return values
        numbers = numbers_of(values)
        return values if numbers is None else numbers


def read_table(path: Path) -> FileTable:
    """Read a table.

    Args:
        path: a ``.csv``, ``.tsv`` or ``.txt`` file with a header and fields separated by commas, semicolons or
            tabulators; or a ``.parquet`` file.

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
        table: FileTable = _read_csv(path)
    elif path.suffix.lower() in (".parquet", ".pq"):
        table = _read_parquet(path)
    else:
        raise ValueError(f"path must end in .csv, .tsv or .parquet, got {path.name}")
    if not table.ids:
        raise ValueError(f"path: {path} has no rows below its header")
    return table


def numbers_of(values: Iterable[str | None]) -> Array | None:
    """Return the fields of a column as numbers, NaN where they are missing; ``None`` if a field is text.

    Example:
        >>> numbers_of(["1", "2.5", "NA"])
        array([1. , 2.5, nan])
        >>> numbers_of(["1", "cat"]) is None, numbers_of(["1_1"]) is None
        (True, True)
    """
    try:
        return np.array([float("nan") if _is_missing(value) else _number(str(value)) for value in values])
    except ValueError:
        return None


def _number(text: str) -> float:
    if "_" in text:  # Python reads 1_1 as 11
        raise ValueError(text)
    return float(text)


def _is_missing(value: str | None) -> bool:
    return value is None or value.strip().lower() in _MISSING_NUMBERS


def _read_csv(path: Path) -> CsvTable:
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
    # Objects, because in an array of text each value would take the memory of the longest.
    columns = {
        name: _objects([value.strip() or None for value in values])
        for name, values in zip(header, zip(*rows, strict=True), strict=False)
    }
    return CsvTable(path, columns, ids)


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
