"""The command ``python -m noisylabels_pl.table``: put runs into a table."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from omegaconf import OmegaConf
from rich.console import Console

from noisylabels_pl.cli.run_files import CONFIG, ORIGIN, RESULT
from noisylabels_pl.report.tables.formats import to_csv, to_latex, to_markdown, to_rich
from noisylabels_pl.report.tables.grid import Grid, make_grid
from noisylabels_pl.report.tables.layout import lay_out
from noisylabels_pl.report.tables.paper import read_paper
from noisylabels_pl.report.tables.quantities import NAMES
from noisylabels_pl.report.tables.rows import Row, rows_of_file, save_rows

_DESCRIPTION = """
Put runs into a table: a line for each method, and for the options in which its runs differ; a column for each dataset
and noise. Means and standard deviations are over seeds. The best method of a column is bold, and the last line has the
p-value of Welch's t-test against the runner-up.
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Print a table of the runs that the command line names.

    Args:
        arguments: of the command line; ``sys.argv`` if not given.
    """
    try:
        table = table_of(arguments)
    except (OSError, ValueError) as error:
        sys.exit(f"error: {error}")
    if isinstance(table, str):
        sys.stdout.write(f"{table}\n")
    else:
        Console().print(table)


def table_of(arguments: Sequence[str] | None = None) -> object:
    """Return the table that a command line asks for: a text, or for ``rich`` what a console prints.

    Args:
        arguments: of the command line; ``sys.argv`` if not given.

    Raises:
        OSError: a file cannot be read or written.
        ValueError: the runs of a cell must not be averaged, or an argument is wrong; the message says why.
    """
    options = _parser().parse_intermixed_args(arguments)
    rows = _chosen_rows(options)
    if options.save is not None:
        save_rows(rows, options.save)
    return make_table(
        rows, options.number, by=options.by, form=options.format, paper=options.paper, transpose=options.transpose
    )


def read_rows(paths: Sequence[Path]) -> list[Row]:
    """Return the rows of all runs in some files and folders.

    Args:
        paths: ``result.json`` files, ``.jsonl`` files, and folders of runs, at any depth.

    Returns:
        A row for each finished run, then one for each run in a folder that was started and has no result: its
        ``"finished"`` is false, and it has no numbers.

    Raises:
        FileNotFoundError: a path does not exist, or there are no runs.
        ValueError: a file holds no rows.
    """
    finished: list[Row] = []
    unfinished: list[Row] = []
    for path in paths:
        if not path.is_dir():
            finished += rows_of_file(path)
            continue
        for result in sorted(path.rglob(RESULT)):
            finished += rows_of_file(result)
        for origin in sorted(path.rglob(ORIGIN)):
            if not (origin.parent / RESULT).exists():
                unfinished.append(_unfinished_row(origin.parent))
    if not finished and not unfinished:
        raise FileNotFoundError(f"there is no result.json in {', '.join(map(str, paths))}; run something first")
    return [*finished, *unfinished]


def _unfinished_row(folder: Path) -> Row:
    """Return the row of a run without a result, from the files that it wrote when it started."""
    names = json.loads((folder / ORIGIN).read_text())["names"]
    return {
        "finished": False,
        "folder": str(folder),
        "method": names["method"],
        "data": {"name": names["data"]},
        "noise": {"name": names["noise"]},
        "config": OmegaConf.to_container(OmegaConf.load(folder / CONFIG)),
    }


def make_table(
    rows: Sequence[Row],
    numbers: Sequence[str],
    *,
    by: Sequence[str] = (),
    form: str = "md",
    paper: Path | None = None,
    transpose: bool = False,
) -> object:
    """Return a table in one of the formats.

    Args:
        rows: of :func:`read_rows`.
        numbers: names of quantities, see :data:`~noisylabels_pl.report.tables.quantities.NAMES`.
        by: keys of the configuration that tell runs apart, besides the method's options.
        form: ``md``, ``tex`` or ``csv``, each a text, or ``rich`` for a terminal.
        paper: a CSV file of numbers to print beside the scores.
        transpose: exchange lines and columns.

    Raises:
        ValueError: the runs of a cell must not be averaged; the message says why.
    """
    grid: Grid = make_grid(rows, by)
    if form == "csv":
        return to_csv(grid, numbers)
    sheet = lay_out(grid, numbers, None if paper is None else read_paper(paper))
    if transpose:
        sheet = sheet.transposed()
    return {"md": to_markdown, "tex": to_latex, "rich": to_rich}[form](sheet)


def _chosen_rows(options: argparse.Namespace) -> list[Row]:
    """Return the rows of the chosen datasets and methods, in the order in which the methods were named."""
    rows = read_rows(options.runs)
    if options.data is not None:
        rows = _rows_by_name("--data", options.data, rows, lambda row: row["data"]["name"])
    if options.methods is not None:
        rows = _rows_by_name("--methods", options.methods, rows, lambda row: row["method"])
    return rows


def _rows_by_name(option: str, wanted: Sequence[str], rows: Sequence[Row], name_of: Callable[[Row], str]) -> list[Row]:
    """Return the rows that have one of some names, in the order of these names."""
    names = [name_of(row) for row in rows]
    for name in wanted:
        if name not in names:
            raise ValueError(f"{option}: there are no runs of {name}, but of {', '.join(dict.fromkeys(names))}")
    return [row for name in wanted for row, other in zip(rows, names, strict=True) if other == name]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m noisylabels_pl.table", description=_DESCRIPTION)
    parser.add_argument(
        "runs", nargs="+", type=Path, help="folders of runs or sweeps, result.json files, rows.jsonl files"
    )
    parser.add_argument(
        "--number",
        type=number_list,
        default=["last", "best_val"],
        metavar="NAME,...",
        help=f"what to show, several separated by commas: {', '.join(NAMES)} (default: last,best_val)",
    )
    parser.add_argument(
        "--by",
        type=_split,
        default=[],
        metavar="KEY,...",
        help="show runs apart that differ in these keys of the configuration, such as trainer.max_epochs",
    )
    parser.add_argument("--methods", type=_split, metavar="NAME,...", help="show these methods only, in this order")
    parser.add_argument("--data", type=_split, metavar="NAME,...", help="show these datasets only, in this order")
    parser.add_argument("--format", choices=("rich", "md", "csv", "tex"), default="rich", help="default: rich")
    parser.add_argument(
        "--paper",
        type=Path,
        metavar="CSV",
        help="print a paper's numbers beside: a file with the columns method, problem, number, mean, std",
    )
    parser.add_argument("--transpose", action="store_true", help="a line for each dataset and noise")
    parser.add_argument("--save", type=Path, metavar="ROWS.jsonl", help="keep the rows, which this command reads, too")
    return parser


def number_list(text: str) -> list[str]:
    """Return the names of quantities that a command line has, separated by commas."""
    names = _split(text)
    for name in names:
        if name not in NAMES:
            raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(NAMES)}")
    return names


def _split(text: str) -> list[str]:
    return [name for name in text.split(",") if name]
