"""The picture of digits, and what the scripts of several experiments share, from small rows made by hand."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from experiments._report.markdown import markdown_table, replace_section
from experiments._report.rows import group_by, read_rows
from experiments.digits import picture

DOCUMENT = "# Title\n\n<!-- results -->\nold numbers\n<!-- end of results -->\n\nThe end.\n"


def make_row(method: str = "ce", seed: int = 0, *, epochs: int = 2) -> dict[str, Any]:
    """Return what the picture needs of a result row."""
    return {
        "method": method,
        "epochs": epochs,
        "history": {"test/acc": [0.25, 0.5], "train/memorized": [0.25, 0.5]},
        "config": {"seed": seed, "optim": {"momentum": 0.0}},
    }


def save(folder: Path, rows: Sequence[dict[str, Any]]) -> None:
    for number, row in enumerate(rows):
        (folder / str(number)).mkdir(parents=True)
        (folder / str(number) / "result.json").write_text(json.dumps(row))


def test_rows_are_read_from_all_folders_below(tmp_path: Path) -> None:
    save(tmp_path / "runs" / "sweep", [make_row(seed=seed) for seed in (0, 1)])
    assert [row["config"]["seed"] for row in read_rows(tmp_path / "runs")] == [0, 1]
    with pytest.raises(SystemExit, match=r"there is no result.json below .*; run the experiment first"):
        read_rows(tmp_path / "nothing")


def test_groups_keep_the_order_of_the_rows() -> None:
    rows = [make_row(method, seed) for method in ("gce", "ce") for seed in (0, 1)]
    groups = group_by(rows, lambda row: row["method"])
    assert list(groups) == ["gce", "ce"]
    assert [row["config"]["seed"] for row in groups["ce"]] == [0, 1]


def test_markdown(tmp_path: Path) -> None:
    assert markdown_table(["a", "b"], [["1", "2"]]) == "| a | b |\n| --- | --- |\n| 1 | 2 |"
    document = tmp_path / "README.md"
    document.write_text(DOCUMENT)
    replace_section(document, "new numbers")
    assert document.read_text() == DOCUMENT.replace("old numbers", "new numbers")


def test_the_picture_of_digits(tmp_path: Path) -> None:
    rows = [make_row(method, seed) for method in ("crust", "ce", "gce") for seed in (0, 1)]
    rows.append(make_row("ce", 0, epochs=1))
    path = tmp_path / "digits.png"
    picture.draw(rows, path)
    with Image.open(path) as image:
        assert image.width > 2 * image.height


def test_an_optimizer_without_momentum() -> None:
    row = make_row()
    row["config"]["optim"] = {"lr": 0.001}
    assert picture.momentum(row) == 0
