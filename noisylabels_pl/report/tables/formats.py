"""A table as Markdown, LaTeX, CSV, or for the terminal."""

from __future__ import annotations

import csv
import io
import textwrap
from collections.abc import Iterator, Sequence

from rich.console import Console, ConsoleOptions, RenderableType

from noisylabels_pl.report.tables.grid import Grid
from noisylabels_pl.report.tables.layout import Entry, Sheet
from noisylabels_pl.report.tables.quantities import finite_values, quantity
from noisylabels_pl.report.tables.statistics import summarize

_LABEL_WIDTH = 14  # to which labels of columns in a terminal are broken, unless the numbers are wider
_LATEX_SPECIAL = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
_LATEX_SPECIAL |= {character: f"\\{character}" for character in "&%$#_{}"}
_LATEX_SPECIAL |= {"±": r"$\pm$", "²": "$^2$", "<": "$<$"}


def to_markdown(sheet: Sheet) -> str:
    """Return the table in Markdown; the best entries are bold."""
    lines = [_markdown_line(sheet.header), _markdown_line(["---"] * len(sheet.header))]
    for line in sheet.body:
        lines.append(_markdown_line([f"**{entry.text}**" if entry.is_best else entry.text for entry in line]))
    title = [sheet.title, ""] if sheet.title else []
    return "\n".join([*title, *lines, "", " ".join(sheet.notes)])


def _markdown_line(texts: Sequence[str]) -> str:
    return "| " + " | ".join(text.replace("|", "\\|") for text in texts) + " |"


def to_latex(sheet: Sheet) -> str:
    """Return a ``tabular`` in the style of the package ``booktabs``; the best entries are bold."""
    lines = [f"% {note}" for note in (sheet.title, *sheet.notes) if note]
    lines += [rf"\begin{{tabular}}{{l{'c' * (len(sheet.header) - 1)}}}", r"\toprule"]
    lines += [_latex_line([Entry(label) for label in sheet.header]), r"\midrule"]
    lines += [_latex_line(line) for line in sheet.body]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"])


def _latex_line(line: Sequence[Entry]) -> str:
    texts = []
    for entry in line:
        text = "".join(_LATEX_SPECIAL.get(character, character) for character in entry.text)
        texts.append(rf"\textbf{{{text}}}" if entry.is_best else text)
    return " & ".join(texts) + r" \\"


def to_rich(sheet: Sheet) -> RenderableType:
    """Return the table for the terminal; the best entries are bold, the notes dim.

    Columns that do not fit beside each other follow in a further table, because no number may be cut off.
    """
    from rich.console import Group
    from rich.text import Text

    return Group(_Columns(sheet), *(Text(note, style="dim") for note in sheet.notes))


class _Columns:
    """The columns of a table, in as many tables as the width of the terminal needs."""

    def __init__(self, sheet: Sheet) -> None:
        self.sheet = sheet
        self.labels = [self._wrapped(column) for column in range(len(sheet.header))]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        for columns in self._groups(options.max_width):
            yield self._table(columns)

    def _groups(self, max_width: int) -> list[list[int]]:
        """Return the columns of each table; the first column, which names the lines, is in all of them."""
        groups = [[0]]
        for column in range(1, len(self.labels)):
            if len(groups[-1]) > 1 and self._width([*groups[-1], column]) > max_width:
                groups.append([0])
            groups[-1].append(column)
        return groups

    def _width(self, columns: Sequence[int]) -> int:
        """Return the characters that some columns take, with their borders."""
        return 1 + sum(
            3 + max(len(text) for text in [*self.labels[column].split("\n"), *self._texts(column)])
            for column in columns
        )

    def _wrapped(self, column: int) -> str:
        """Return the label of a column, broken into lines that make the column no wider than need be."""
        width = max([_LABEL_WIDTH, *map(len, self._texts(column))])
        lines = self.sheet.header[column].replace(": ", "\n", 1).split("\n")
        return "\n".join(textwrap.fill(line, width, break_long_words=False) for line in lines)

    def _texts(self, column: int) -> list[str]:
        return [line[column].text for line in self.sheet.body]

    def _table(self, columns: Sequence[int]) -> RenderableType:
        from rich.table import Table
        from rich.text import Text

        table = Table(title=Text(self.sheet.title) if self.sheet.title else None)
        for column in columns:
            is_name = column == 0  # which may be long, and wraps
            table.add_column(Text(self.labels[column]), justify="left" if is_name else "right", no_wrap=not is_name)
        for line in self.sheet.body:
            entries = [line[column] for column in columns]
            table.add_row(*(Text(entry.text, style="bold" if entry.is_best else "") for entry in entries))
        return table


def to_csv(grid: Grid, numbers: Sequence[str]) -> str:
    """Return one line for each method, problem and number, unrounded, for further computation."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["method", "problem", "number", "mean", "std", "n", "unfinished"])
    for (method, problem), cell in grid.cells.items():
        for number in numbers:
            summary = summarize(finite_values(quantity(number, grid.metrics[problem]), cell.finished))
            values = ["", "", 0] if summary is None else [summary.mean, summary.std, summary.n]
            writer.writerow([method, problem, number, *values, len(cell.unfinished)])
    return text.getvalue().rstrip("\n")
