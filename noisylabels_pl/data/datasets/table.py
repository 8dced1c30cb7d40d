"""Your own table, in a CSV or Parquet file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from noisylabels_pl.data.arrays import Array
from noisylabels_pl.data.datasets.column_data import PARTS, ColumnData
from noisylabels_pl.data.tables import Table, read_table


class TableData(ColumnData):
    """Serve your own table: rows of features, of paths of images, or of texts, with a column of labels.

    Args:
        path: a CSV file with a header, or a Parquet file (with the extra ``tables``), by its suffix.
        split: the column that says ``train``, ``val`` or ``test`` of each row; without ``val``, ``val_fraction`` of the
            training rows are held out. ``None`` to split off a part as the test set.
        row_id: the column with a name for each row, for messages and ``split.csv``; ``None`` for the number of the
            line.
        **columns: see :class:`~noisylabels_pl.data.datasets.column_data.ColumnData`, and
            :class:`~noisylabels_pl.data.NoisyDataModule`. Paths of images are relative to the folder of the table.

    Raises:
        FileNotFoundError: in ``setup``, if there is no such file.
        ValueError: in ``setup``, if a column does not exist, or a value is missing or wrong; the message names the row
            and the column.

    Example:
        >>> data = TableData("pets.csv", label="species", row_id="name")
        >>> data.setup()  # doctest: +SKIP
    """

    def __init__(self, path: str, *, split: str | None = None, row_id: str | None = None, **columns: Any) -> None:
        super().__init__(**columns)
        self.path = Path(path).expanduser()
        self.split = split
        self.row_id = row_id

    def purposes(self) -> dict[str, str]:
        named = {"split": self.split, "row_id": self.row_id}
        return {name: argument for argument, name in named.items() if name is not None} | super().purposes()

    def read_table(self) -> tuple[Table, Array | None]:
        table = read_table(self.path)
        if self.row_id is not None:
            table.ids = [str(value) for value in table.column("row_id", self.row_id)]
        if self.split is None:
            return table, None
        values = [str(value).strip().lower() for value in table.column("split", self.split)]
        for row, value in enumerate(values):
            if value not in PARTS:
                raise ValueError(f"{self.split} of {table.ids[row]} must be one of train, val, test, got {value!r}")
        parts = np.array([PARTS[value] for value in values])
        for part in ("train", "test"):
            if part not in parts:
                raise ValueError(
                    f"split: no row of {self.split} is {part!r}; without split, test_fraction of all rows become the "
                    "test set"
                )
        return table, parts
