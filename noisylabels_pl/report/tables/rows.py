"""The rows of a table: one for each run, read from result files, and saved compactly."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

Row = dict[str, Any]
"""A ``result.json`` without its history, see :func:`compact`."""

_LEFT_OUT = ("history", "seconds_per_epoch")


def rows_of_file(path: Path) -> list[Row]:
    """Return the rows of a ``result.json``, or of a file that :func:`save_rows` wrote.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file holds no rows; the message names it.
    """
    try:
        text = path.read_text()
    except FileNotFoundError:
        raise FileNotFoundError(f"there is no file or folder {path}") from None
    try:
        if path.suffix == ".jsonl":
            return [json.loads(line) for line in text.splitlines()]
        return [compact(json.loads(text)) | {"folder": str(path.parent)}]
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise ValueError(f"{path} holds no result of a run ({error}); leave it out") from error


def save_rows(rows: Sequence[Row], path: Path) -> None:
    """Write one line for each run, in their order, so that the file of the same runs is the same.

    Args:
        rows: of any runs; those without a result are left out.
        path: the file to write.
    """
    lines = [json.dumps(portable(row), sort_keys=True) for row in rows if row["finished"]]
    path.write_text("".join(f"{line}\n" for line in lines))


def compact(result: Mapping[str, Any]) -> Row:
    """Return a row: a result without its history, but with the last value of each metric.

    Args:
        result: see :func:`noisylabels_pl.report.result.make_result`.

    Returns:
        The result without ``history``, with ``final``, the last value of each metric, with the median of
        ``seconds_per_epoch`` as ``epoch_seconds``, and with ``finished``, which is true.

    Example:
        >>> compact({"history": {"train/loss": [2.0, 1.0]}, "seconds_per_epoch": [3.0, 1.0, 1.5]})
        {'finished': True, 'final': {'train/loss': 1.0}, 'epoch_seconds': 1.5}
    """
    row: Row = {"finished": True} | {key: value for key, value in result.items() if key not in _LEFT_OUT}
    row["final"] = {name: values[-1] for name, values in result["history"].items() if values}
    seconds = result["seconds_per_epoch"]
    row["epoch_seconds"] = statistics.median(seconds) if seconds else None
    return row


def portable(row: Row) -> Row:
    """Return a row without the paths of one machine: those of its folder and of its data."""
    data = row["data"] | {"origin": Path(row["data"]["origin"]).name}
    config = {key: value for key, value in row["config"].items() if key not in ("resume", "logger")}
    config["data"] = {key: value for key, value in config["data"].items() if key not in ("root", "path")}
    noise = {key: value for key, value in row["noise"].items() if key != "realized_T"}
    rest = {key: value for key, value in row.items() if key != "folder"}
    return rest | {"data": data, "config": config, "noise": noise}
