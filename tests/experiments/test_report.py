"""The tables of the experiments, from small rows made by hand and from real runs."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from experiments._report import crust, prl
from experiments._report.markdown import markdown_table, replace_section
from experiments._report.rows import (
    group_by,
    mean_std,
    provenance,
    read_rows,
    short_commit,
)
from experiments.digits import picture
from tests.helpers import ROOT

Cli = Callable[..., Path]
DOCUMENT = "# Title\n\n<!-- results -->\nold numbers\n<!-- end of results -->\n\nThe end.\n"


def make_row(method: str = "ce", seed: int = 0, value: float = 0.5, **changes: Any) -> dict[str, Any]:
    """A result row of two epochs; ``value`` is its test metric."""
    numbers = {"last": value, "last_10": value, "best_val": value, "best_oracle": value}
    row = {
        "name": f"a title that says nothing, seed {seed}",
        "method": method,
        "method_options": {},
        "net": "mlp",
        "metric": "acc",
        "test_acc": numbers,
        "test_r2": numbers,
        "selection_precision": None,
        "pool_precision": 0.625,
        "noise": {"name": "sym", "realized_rate": 0.375},
        "data": {"name": "digits", "origin": "somewhere/digits", "sha256": "0123456789abcdef" * 4},
        "epochs": 2,
        "steps": 18,
        "history": {
            "test/acc": [0.25, value],
            "test/r2": [value, value],
            "train/memorized": [0.25, value],
            "selection/precision": [None, value],
        },
        "config": {"seed": seed, "optim": {"momentum": 0.0}, "noise": {"kind": "sym", "rate": 0.4}},
        "versions": {"torch": "2.0", "lightning": "2.1", "python": "3.11"},
        "commit": "a" * 40,
    }
    return row | changes


def noisy(kind: str, rate: float, method: str, seed: int = 0, value: float = 0.5) -> dict[str, Any]:
    row = make_row(method, seed, value)
    row["noise"]["name"] = kind
    row["config"]["noise"] = {"kind": kind, "rate": rate}
    return row


def save(folder: Path, rows: Sequence[dict[str, Any]]) -> Path:
    for number, row in enumerate(rows):
        (folder / str(number)).mkdir(parents=True)
        (folder / str(number) / "result.json").write_text(json.dumps(row))
    return folder


def cells(table: str) -> list[list[str]]:
    """A table's lines below its header."""
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]


@pytest.fixture
def document(tmp_path: Path) -> Path:
    path = tmp_path / "README.md"
    path.write_text(DOCUMENT)
    return path


# --- the shared parts -------------------------------------------------------------------------------------------------


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


@pytest.mark.parametrize(
    ("fractions", "shown"),
    [
        ([0.5, 0.75], "62.5 ± 17.7"),
        ([0.5], "50.0"),
        ([0.5, None], "n/a"),
        ([None], "n/a"),
        ([], "n/a"),
    ],
)
def test_mean_and_deviation(fractions: list[float | None], shown: str) -> None:
    assert mean_std(fractions) == shown


def test_provenance() -> None:
    rows = [make_row(seed=1), make_row(commit="b" * 40 + "-dirty"), make_row(commit=None)]
    assert provenance(rows) == (
        "Seeds 0, 1; each draws its own noise, split and initial weights. torch 2.0, lightning 2.1, Python 3.11; "
        "commit aaaaaaaaaaaa, bbbbbbbbbbbb-dirty, unknown; data digits, SHA-256 0123456789abcdef."
    )
    assert short_commit("c" * 40) == "c" * 12


def test_markdown(document: Path) -> None:
    assert markdown_table(["a", "b"], [["1", "2"]]) == "| a | b |\n| --- | --- |\n| 1 | 2 |"
    replace_section(document, "new numbers")
    assert document.read_text() == DOCUMENT.replace("old numbers", "new numbers")


# --- the reports ------------------------------------------------------------------------------------------------------


def test_crust(document: Path, tmp_path: Path) -> None:
    rows = []
    for variant in ("crust_paper", "crust"):
        for partition in ("observed", "predicted"):
            rows += [make_row(variant, seed, method_options={"partition": partition}) for seed in (0, 1)]
    crust.write(document, save(tmp_path / "runs", rows))
    lines = cells(crust.table(rows))
    assert [line[:2] for line in lines] == [
        ["`crust`", "predicted"],
        ["`crust`", "observed"],
        ["`crust_paper`", "predicted"],
        ["`crust_paper`", "observed"],
    ]
    assert lines[0][2:] == ["50.0 ± 0.0", "50.0 ± 0.0", "62.5 ± 0.0", "50.0 ± 0.0", "50.0 ± 0.0"]
    assert crust.table(rows) in document.read_text()


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


def test_prl(document: Path, tmp_path: Path) -> None:
    regression = []
    for seed in (0, 1):
        regression.append(noisy("signflip", 0.4, "mse", seed, value=0.5))
        regression.append(noisy("linadv", 0.2, "mse", seed, value=-7 - seed))
        regression.append(noisy("linadv", 0.2, "prl_l_paper", seed, value=0.75))
    classification = []
    for seed in (0, 1):
        for method in ("another", "prl_l", "ce"):
            classification.append(noisy("pairflip", 0.45, method, seed))
    for name in prl.REGRESSION_DATA:
        save(tmp_path / "runs" / name, regression)
    for name in prl.CLASSIFICATION_DATA:
        save(tmp_path / "runs" / name, classification)
    prl.write(document, tmp_path / "runs")
    text = document.read_text()
    assert [line for line in text.splitlines() if line.startswith("###")] == [
        *(f"### R²: {title}" for title in prl.REGRESSION_DATA.values()),
        *(f"### Accuracy: {title}" for title in prl.CLASSIFICATION_DATA.values()),
    ]
    table = prl.regression_table(regression)
    assert table in text
    assert table.splitlines()[0] == "| corruption | `mse` | `prl_l` |"
    assert cells(table) == [
        ["linadv 0.2", "-7.5 ± 0.7 (0.6)", "0.750 ± 0.000 (0.000)"],
        ["signflip 0.4", "0.500 ± 0.000 (0.000)", ""],
    ]
    assert [line[:3] for line in cells(prl.classification_table(classification))] == [
        ["pairflip 0.45", "`ce`", "2"],
        ["pairflip 0.45", "`prl_l`", "2"],
        ["pairflip 0.45", "`another`", "2"],
    ]


def test_r2_of_a_single_run() -> None:
    assert prl.mean_r2([make_row(value=0.5)]) == "0.500"
    assert prl.mean_r2([]) == ""


def test_rows_of_real_runs(cli: Cli) -> None:
    short = ("trainer=cpu", "trainer.max_epochs=2", "data.train_size=300", "method.warmup_epochs=0")
    folders = [cli("method=crust", *short, f"seed={seed}", folder=f"runs/{seed}") for seed in (0, 1)]
    rows = read_rows(folders[0].parent)
    assert cells(crust.table(rows))[0][:2] == ["`crust`", "predicted"]
    assert cells(prl.classification_table(rows))[0][:3] == ["sym 0.4", "`crust`", "2"]
    assert "Seeds 0, 1; " in provenance(rows)
    row = json.loads((cli("data=diabetes", "method=mse", *short[:3]) / "result.json").read_text())
    assert cells(prl.regression_table([row]))[0][0] == "signflip 0.4"


@pytest.mark.processes
@pytest.mark.parametrize("arguments", [["crust"], ["prl"]])
def test_the_reports_run_from_the_repository_root(arguments: list[str], tmp_path: Path) -> None:
    module, *others = arguments
    command = [sys.executable, "-m", f"experiments._report.{module}", *others, str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "there is no result.json below" in done.stderr
    assert "Traceback" not in done.stderr
