"""From a grid of runs to the texts of a table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from noisylabels_pl.report.tables.grid import Cell, Grid
from noisylabels_pl.report.tables.paper import PaperNumber, PaperNumbers
from noisylabels_pl.report.tables.quantities import MEANINGS, Quantity, finite_values, meaning, quantity
from noisylabels_pl.report.tables.statistics import Summary, summarize, welch_p_value


@dataclass(frozen=True)
class Entry:
    """A cell's text.

    Attributes:
        text: without markup.
        is_best: whether it is the best of its column.
    """

    text: str
    is_best: bool = False


@dataclass
class Sheet:
    """A table of texts.

    Attributes:
        title: the part that the labels of all columns share, or empty.
        header: labels of the columns.
        body: the lines; the first entry of each is its label.
        notes: sentences below the table.
    """

    title: str
    header: list[str]
    body: list[list[Entry]]
    notes: list[str] = field(default_factory=list)

    def transposed(self) -> Sheet:
        """Return the same table with lines and columns exchanged."""
        columns = [[Entry(label)] for label in self.header[1:]]
        for number, column in enumerate(columns, 1):
            column += [line[number] for line in self.body]
        return Sheet(self.title, [self.header[0], *(line[0].text for line in self.body)], columns, self.notes)


def lay_out(grid: Grid, numbers: Sequence[str], paper: PaperNumbers | None = None) -> Sheet:
    """Return the texts of a grid: a line for each method, a column for each problem and number.

    The best score of each column is marked, and the last line has the p-value of Welch's t-test of the best against
    the runner-up. A cell without runs is missing; unfinished and diverged runs are counted in the cell.

    Args:
        grid: of :func:`~noisylabels_pl.report.tables.grid.make_grid`.
        numbers: names of quantities.
        paper: numbers to print beside the scores.
    """
    paper = paper or {}
    methods = list(dict.fromkeys([*grid.methods, *(method for method, _, _ in paper)]))
    usual_n = _usual_number_of_runs(grid)
    body = [[Entry(method)] for method in (*methods, "Welch p")]
    labels = []
    for problem in grid.problems:
        for number in numbers:
            shown = quantity(number, grid.metrics[problem])
            printed = {method: paper.get((method, problem, number)) for method in methods}
            cells = {method: grid.cells.get((method, problem)) for method in methods}
            for line, entry in zip(body, _column(cells, shown, printed, usual_n), strict=True):
                line.append(entry)
            labels.append((problem, shown.label))
    notes = [meaning(number) for number in numbers if number in MEANINGS]
    if any(entry.text for entry in body[-1][1:]):
        notes.append("Welch p: two-sided p-value of the best against the runner-up.")
    else:
        body.pop()
    if usual_n > 1:
        notes.append(f"Mean and standard deviation (n - 1) of {usual_n} runs, unless a cell says otherwise.")
    title, header = _column_labels(labels)
    return Sheet(title, ["method", *header], body, [*notes, *provenance(grid)])


def _column(
    cells: Mapping[str, Cell | None], shown: Quantity, printed: Mapping[str, PaperNumber | None], usual_n: int
) -> list[Entry]:
    """Return the entries of a column: one for each method, and the p-value."""
    summaries = {}
    for method, cell in cells.items():
        summary = None if cell is None else summarize(finite_values(shown, cell.finished))
        if summary is not None:
            summaries[method] = summary
    best, p_value = _best_of(summaries) if shown.is_score else (None, "")
    entries = []
    for method, cell in cells.items():
        summary = summaries.get(method)
        text = _text(cell, shown, summary, usual_n)
        in_paper = printed[method]
        if in_paper is not None:
            text += f" ({in_paper if summary is None else in_paper.compare(shown.factor * summary.mean)})"
        entries.append(Entry(text, method == best))
    return [*entries, Entry(p_value)]


def provenance(grid: Grid) -> list[str]:
    """Return sentences on the origin of all finished runs: seeds, commits, versions and data."""
    rows = [row for cell in grid.cells.values() for row in cell.finished]
    if not rows:
        return []
    seeds = sorted({row["config"]["seed"] for row in rows})
    commits = Counter(_short_commit(row["commit"]) for row in rows)
    packages = ("torch", "lightning", "python")
    versions = Counter(", ".join(f"{name} {row['versions'][name]}" for name in packages) for row in rows)
    data = {f"{row['data']['name']} (SHA-256 {row['data']['sha256'][:12]})": None for row in rows}
    return [
        f"Seeds {', '.join(map(str, seeds))}.",
        f"Commits: {_counted(commits)}.",
        f"Versions: {_counted(versions)}.",
        f"Data: {', '.join(list(data)[:4])}{', ...' if len(data) > 4 else ''}.",
    ]


def _counted(counts: Counter[str]) -> str:
    """Return the names, with the number of runs of each if there are several."""
    if len(counts) == 1:
        return next(iter(counts))
    return "; ".join(f"{name} ({count} run{'s' * (count > 1)})" for name, count in counts.most_common())


def _short_commit(commit: str | None) -> str:
    """Return the first digits of a commit, with the mark ``-dirty`` if it has one; ``unknown`` for ``None``."""
    return "unknown" if commit is None else commit[:12] + commit[40:]


def _usual_number_of_runs(grid: Grid) -> int:
    counts = Counter(len(cell.finished) for cell in grid.cells.values() if cell.finished)
    return counts.most_common(1)[0][0] if counts else 0


def _text(cell: Cell | None, shown: Quantity, summary: Summary | None, usual_n: int) -> str:
    """Return the text of a cell; it says how many runs there are if that is not the usual number, and which failed."""
    if cell is None:
        return "missing"
    remarks = []
    num_diverged = sum(bool(row.get("diverged")) for row in cell.finished)
    if summary is not None and summary.n != usual_n:
        remarks.append(f"n={summary.n}")
    if cell.unfinished:
        remarks.append(f"{len(cell.unfinished)} unfinished")
    if num_diverged:
        remarks.append(f"{num_diverged} diverged")
    if summary is not None:
        text = shown.format(summary)
    elif cell.finished:
        text = "n/a"
    else:
        return ", ".join(remarks)
    return f"{text} ({', '.join(remarks)})" if remarks else text


def _best_of(summaries: dict[str, Summary]) -> tuple[str | None, str]:
    """Return the method of the largest mean, and the p-value of its test against the runner-up."""
    ranked = sorted(summaries, key=lambda method: -summaries[method].mean)
    if len(ranked) < 2:
        return None, ""
    p_value = welch_p_value(summaries[ranked[0]], summaries[ranked[1]])
    if p_value is None:
        return ranked[0], ""
    return ranked[0], "< 0.001" if p_value < 0.001 else f"{p_value:.3f}"


def _column_labels(columns: Sequence[tuple[str, str]]) -> tuple[str, list[str]]:
    """Return the part that the labels of all columns share, and the rest of each label."""
    problems = {problem for problem, _ in columns}
    labels = {label for _, label in columns}
    if len(problems) == 1:
        return next(iter(problems)), [label for _, label in columns]
    if len(labels) == 1:
        return next(iter(labels)), [problem for problem, _ in columns]
    return "", [f"{problem}: {label}" for problem, label in columns]
