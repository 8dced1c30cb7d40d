"""Features from the columns of a table."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
import torch
from torch import Tensor

from noisylabels_pl.data.arrays import Array
from noisylabels_pl.data.tables import Table

_MAX_CATEGORIES = 100


def read_features(
    table: Table, names: Sequence[str] | None, other_columns: Collection[str], notes: list[str]
) -> Tensor:
    """Return columns side by side.

    Args:
        table: to read from.
        names: the columns. One of text becomes a column for each of its values: 1 in the rows that have it, 0 in the
            others. ``None`` for all columns of numbers.
        other_columns: those that serve another purpose, such as the label.
        notes: gets what the user should know of the choice.

    Returns:
        ``(n, d)`` float32.

    Raises:
        ValueError: a value is missing or infinite, or a column has too many values, or there are no columns.
    """
    if names is None:
        candidates = [name for name in table.column_names if name not in other_columns]
        columns = {name: table.read_feature(name) for name in candidates}
        names = [name for name in candidates if _is_numeric(columns[name])]
        left_out = [name for name in candidates if name not in names]
        if not names:
            raise ValueError(
                f"features: {table.origin} has no columns of numbers besides {', '.join(other_columns)}; name columns "
                "of text in features to use their values as categories, or set text or image"
            )
        if left_out:
            notes.append(f"columns of text are no features unless features names them; left out: {', '.join(left_out)}")
    else:
        for name in names:
            table.check_name("features", name)
        columns = {name: table.read_feature(name) for name in names}
    blocks = []
    for name in names:
        values = columns[name]
        if _is_numeric(values):
            blocks.append(_numbers(table, name, values))
        else:
            blocks.append(_one_hot(table, name, values, notes))
    return torch.from_numpy(np.concatenate(blocks, axis=1))


def check_text(table: Table, name: str, values: Array) -> list[str]:
    """Return a column as texts, or raise a ``ValueError`` that names the first row without one."""
    missing = np.array([value is None or value != value or not str(value).strip() for value in values], dtype=bool)
    _refuse(table, name, missing, values, "is missing")
    return [str(value) for value in values]


def _is_numeric(values: Array) -> bool:
    return values.dtype.kind in "buif"


def _numbers(table: Table, name: str, values: Array) -> Array:
    """Return numbers as ``(n, k)`` float32, or raise a ``ValueError`` that names the first row without a finite one."""
    with np.errstate(over="ignore"):
        numbers: Array = values.astype(np.float32).reshape(len(values), -1)
    is_missing: Array = np.array(np.isnan(numbers).any(axis=1))
    is_finite: Array = np.array(np.isfinite(numbers).all(axis=1))
    _refuse(table, name, is_missing, values, "is missing")
    _refuse(table, name, ~is_finite, values, "is no finite float32")
    return numbers


def _one_hot(table: Table, name: str, values: Array, notes: list[str]) -> Array:
    """Return a column for each value of a column of text."""
    texts = np.array(check_text(table, name, values))
    categories, codes = np.unique(texts, return_inverse=True)
    if len(categories) > _MAX_CATEGORIES:
        raise ValueError(
            f"features: {name} is text with {len(categories)} different values; a column of categories may have "
            f"{_MAX_CATEGORIES}; leave it out, or group its values"
        )
    shown = ", ".join(categories[:5]) + (", ..." if len(categories) > 5 else "")
    notes.append(f"{name} is text: a feature of 0 and 1 for each of its {len(categories)} values ({shown})")
    one_hot: Array = np.eye(len(categories), dtype=np.float32)[codes]
    return one_hot


def _refuse(table: Table, name: str, wrong: Array, values: Array, fault: str) -> None:
    if wrong.any():
        rows = np.flatnonzero(wrong)
        where = f"{name} of {table.ids[rows[0]]}"
        more = f", and in {len(rows) - 1} more rows" if len(rows) > 1 else ""
        value = f" ({values[rows[0]]})" if fault != "is missing" and values.ndim == 1 else ""
        raise ValueError(f"{where}{value} {fault}{more}; fill it in, remove the rows, or leave the column out")
