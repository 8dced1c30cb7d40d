"""A table as Markdown, LaTeX, CSV, or for the terminal."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from rich.console import RenderableType

from noisylabels_pl.report.tables.grid import Grid
from noisylabels_pl.report.tables.layout import Entry, Sheet
from noisylabels_pl.report.tables.quantities import finite_values, quantity
from noisylabels_pl.report.tables.statistics import summarize

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
    """Return the table for the terminal; the best entries are bold, the notes dim."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(sheet.title) if sheet.title else None)
    for number, label in enumerate(sheet.header):
        table.add_column(Text(label.replace(": ", "\n", 1)), justify="right" if number else "left")
    for line in sheet.body:
        table.add_row(*(Text(entry.text, style="bold" if entry.is_best else "") for entry in line))
    return Group(table, *(Text(note, style="dim") for note in sheet.notes))


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
