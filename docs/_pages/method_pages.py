"""A page for each method, and the page that lists them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import lightning as L

from docs._pages.examples import example
from docs._pages.methods import ROOT, Method, python_default, yes_or_no
from noisylabels_pl.cli.table import table_of
from noisylabels_pl.core import StagedMethod, TwinModule
from noisylabels_pl.report.tables.rows import rows_of_file

HEADER = "<!-- Written by python -m docs.generate. Edit docs/methods.yaml, the docstring or conf/method instead. -->"
# The benchmarks' tables, by what they compare with; the second one has one method only.
COST_COLUMNS = {
    "against CE": "ResNet-32",
    "against CE, GroupNorm": "ResNet-32 with group normalization, against the same network",
    "against CE again": "small CNN",
}
_NOTES = (
    "Plain training is there to compare with: `method=ce` (cross-entropy), and in regression `method=mse` (squared "
    "error) and `method=huber` (Huber's loss). The last column has the variants that take the noise rate that was "
    "configured, as their papers do; with real data it is unknown.",
    "",
    "[How to choose](../how_to_choose.md) helps to find a method.",
)


# Runs of one method that differ in these are of other experiments.
_BY = "--by=trainer.max_epochs,optim.momentum,net.dropout"


def method_page(method: Method) -> str:
    """Return the page of a method."""
    return "\n".join([HEADER, "", f"# {method.words['title']}", "", *_sections(method)])


def _sections(method: Method) -> Iterator[str]:
    title, link = method.paper
    yield f"{method.words['idea']} Paper: [{title}]({link})."
    yield ""
    yield from _facts(method)
    yield "\n## Use\n"
    yield from _use(method)
    yield "\n## Definition\n"
    yield "```{eval-rst}"
    yield ".. currentmodule:: noisylabels_pl"
    yield ""
    yield re.split(r"^(?:Args|Attributes|Raises|Example):$", method.docstring, flags=re.MULTILINE)[0].strip()
    yield "```\n"
    yield "## Options\n"
    yield from _option_table(method)
    if method.variants:
        yield "\n## Variants\n"
        yield from _variants(method)
    yield "\n## What the authors' public code does differently\n"
    yield method.words["public_code"]
    yield "\n## Cost\n"
    yield from _cost(method)
    if results := list(_results(method)):
        yield "\n## Results\n"
        yield from results
    yield ""


def _facts(method: Method) -> Iterator[str]:
    yield "| | |"
    yield "| --- | --- |"
    yield f"| class | {{py:obj}}`noisylabels_pl.{method.cls.__name__}` |"
    yield f"| command line | `python -m noisylabels_pl method={method.name}` |"
    yield f"| for | {' and '.join(method.tasks)} |"
    yield f"| drops into a module of your own | {_drop_in(method)} |"
    yield f"| needs the samples' positions | {method.positions} |"
    yield f"| networks | {2 if issubclass(method.cls, TwinModule) else 1} |"
    told = ", ".join(f"`{name}`" for name in method.told)
    yield f"| is told the noise rate | {'only as ' + told if told else 'no'} |"


def _drop_in(method: Method) -> str:
    if issubclass(method.cls, StagedMethod):
        return f"the loss of the last stage does: {{py:obj}}`noisylabels_pl.{method.cls.__name__}Loss`"
    if issubclass(method.cls, TwinModule):
        return "no, it is a module of its own"
    return "yes" if issubclass(method.cls, L.Callback) else "yes, as a criterion or by `RobustLoss`"


def _use(method: Method) -> Iterator[str]:
    regression = " data=diabetes" if method.tasks == ("regression",) else ""
    yield "```bash"
    yield f"python -m noisylabels_pl method={method.name}{regression}"
    yield "```\n"
    yield "```python"
    yield example(method.cls, method.words["example"])
    yield "```"


def _option_table(method: Method) -> Iterator[str]:
    if not method.options:
        yield "It has none."
        return
    defaults = {option.name: python_default(method.cls, option) for option in method.options}
    differ = [name for name, default in defaults.items() if default is not None]
    yield "| option | default | meaning |" if not differ else "| option | command line | class | meaning |"
    yield "| --- | --- | --- |" if not differ else "| --- | --- | --- | --- |"
    for option in method.options:
        default = _shown(option.default)
        cells = [f"`{option.name}`", default]
        if differ:
            cells.append(defaults[option.name] or default)
        yield f"| {' | '.join([*cells, _escaped(option.meaning)])} |"
    yield "\nOn the command line an option is `method.NAME=VALUE`; the class takes it by its name."


def _shown(value: str) -> str:
    return f"`{value}`" if not value.startswith("${") else f"`{value[2:-1].removeprefix('oc.select:')}` of the run"


def _escaped(text: str) -> str:
    return text.replace("|", "\\|")


def _variants(method: Method) -> Iterator[str]:
    yield "| `method=` | | changes |"
    yield "| --- | --- | --- |"
    for name, (comment, changes) in method.variants.items():
        changed = ", ".join(f"`{option.name}={option.default}`" for option in changes)
        yield f"| `{name}` | {comment} | {changed} |"


def _cost(method: Method) -> Iterator[str]:
    """Yield the seconds of an epoch, divided by those of plain training with cross-entropy."""
    measured = benchmarks()
    labels = method.words["cost"]
    columns = [name for name in COST_COLUMNS.values() if any(name in measured[label] for label in labels)]
    if labels:
        yield "Time of an epoch against plain training with cross-entropy, on two CPU threads:"
        yield ""
        yield f"| | {' | '.join(columns)} |"
        yield f"| --- |{' --- |' * len(columns)}"
        for label in labels:
            yield f"| {label} | {' | '.join(measured[label].get(name, '') for name in columns)} |"
        yield ""
    sentences = [method.words["cost_note"]] if "cost_note" in method.words else []
    yield " ".join([*sentences, "The [benchmarks](../benchmarks.md) have the conditions and more."])


def benchmarks() -> dict[str, dict[str, str]]:
    """Return the ratios in the benchmarks' tables of training: ``{row: {network: ratio}}``."""
    ratios: dict[str, dict[str, str]] = {}
    column = None
    for line in (ROOT / "experiments" / "benchmarks" / "README.md").read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if not line.startswith("|"):
            column = None
        elif cells[-1] in COST_COLUMNS:
            column = COST_COLUMNS[cells[-1]]
        elif column is not None:
            ratios.setdefault(cells[0], {})[column] = cells[-1]
    return ratios


def _results(method: Method) -> Iterator[str]:
    """Yield a link to each page of measurements, and the tables of the rows that are kept there."""
    for folder in method.words["results"]:
        heading = (ROOT / "experiments" / folder / "README.md").read_text().splitlines()[0].removeprefix("# ")
        yield f"[{heading}](../results/{folder}.md)"
        path = ROOT / "experiments" / folder / "rows.jsonl"
        if path.is_file():
            yield from _result_tables(method, path)
        yield ""


def _result_tables(method: Method, path: Path) -> Iterator[str]:
    """Yield a table of the method's variants and plain training, for each dataset that has rows of both."""
    rows = rows_of_file(path)
    for data in dict.fromkeys(row["data"]["name"] for row in rows):
        own_rows = [row for row in rows if row["data"]["name"] == data]
        measured = {row["method"] for row in own_rows}
        names = [name for name in (method.name, *method.variants) if name in measured]
        plain = [name for name in ("ce", "mse") if name in measured]
        if not names or not plain:
            continue
        arguments = [f"--data={data}", f"--methods={','.join([*names, *plain])}", _BY, "--format=md"]
        if len({(row["noise"]["name"], row["config"]["noise"]["rate"]) for row in own_rows}) > 1:
            arguments.append("--number=last_10")
        yield f"\n{table_of([str(path), *arguments])}"


def readme_table(every: list[Method]) -> str:
    """Return the table of methods in the README, with links into the repository."""
    return _table(every, folder="docs/methods/", class_format="`{}`")


def _table(every: list[Method], *, folder: str, class_format: str) -> str:
    """Return a table of methods.

    Args:
        every: the methods.
        folder: of their pages, as the document links to it.
        class_format: of the name of a class.
    """
    lines = ["| method | paper | class | `method=` | drop-in | regression | networks | told the noise rate |"]
    lines.append("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for method in every:
        title, link = method.paper
        cells = [
            f"[{method.words['title']}]({folder}{method.name}.md)",
            f'[paper]({link} "{title}")',
            class_format.format(method.cls.__name__),
            ", ".join(f"`{name}`" for name in (method.name, *method.variants)),
            yes_or_no(method.is_drop_in),
            yes_or_no("regression" in method.tasks),
            "2" if issubclass(method.cls, TwinModule) else "1",
            ", ".join(f"`{name}`" for name in method.told) or "no",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def index_page(every: list[Method]) -> str:
    """Return the page that lists all methods."""
    table = _table(every, folder="", class_format="{{py:obj}}`~noisylabels_pl.{}`")
    lines = [HEADER, "", "# Methods", "", table]
    lines += ["", *_NOTES, ""]
    lines += [
        "```{toctree}",
        ":hidden:",
        "",
        *(method.name for method in every),
        "```",
        "",
    ]
    return "\n".join(lines)
