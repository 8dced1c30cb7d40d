"""The numbers of a paper, to print beside one's own."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

_COLUMNS = ("method", "problem", "number", "mean", "std")


@dataclass(frozen=True)
class PaperNumber:
    """A number that a paper prints.

    Attributes:
        mean: in the unit of the table.
        std: its standard deviation, if the paper gives one.
    """

    mean: float
    std: float | None

    def compare(self, mean: float) -> str:
        """Return the paper's value, and how far another one is from it.

        Args:
            mean: in the unit of the table.

        Example:
            >>> PaperNumber(89.5, 0.5).compare(90.0)
            'paper 89.5 ± 0.5: +0.5, +1.0 std'
            >>> PaperNumber(89.5, None).compare(90.0)
            'paper 89.5: +0.5'
        """
        distance = mean - self.mean
        text = f"{self}: {distance:+.1f}"
        return f"{text}, {distance / self.std:+.1f} std" if self.std else text

    def __str__(self) -> str:
        return f"paper {self.mean:g}" if self.std is None else f"paper {self.mean:g} ± {self.std:g}"


PaperNumbers = dict[tuple[str, str, str], PaperNumber]
"""By method, problem and number, as they are named in the table."""


def read_paper(path: Path) -> PaperNumbers:
    """Return the numbers of a CSV file.

    Args:
        path: a file with the columns ``method``, ``problem`` (such as ``cifar10, sym 0.4``), ``number`` (such as
            ``last_10``), ``mean`` and ``std``, which may be empty; other columns are ignored.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a column is missing, or a number is none.
    """
    if not path.is_file():
        raise FileNotFoundError(f"--paper: there is no file {path}")
    with path.open(newline="") as file:
        reader = csv.DictReader(file)
        missing = [name for name in _COLUMNS if name not in (reader.fieldnames or ())]
        if missing:
            raise ValueError(f"--paper: {path} has no column {missing[0]!r}; it needs {', '.join(_COLUMNS)}")
        numbers = {}
        for line, record in enumerate(reader, 2):
            try:
                number = PaperNumber(float(record["mean"]), float(record["std"]) if record["std"] else None)
            except ValueError as error:
                raise ValueError(f"--paper: {path}, line {line}: {error}") from error
            numbers[record["method"], record["problem"], record["number"]] = number
    return numbers
