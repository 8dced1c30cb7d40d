"""The tables of all documents are made from rows in the tree."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from experiments import tables
from tests.helpers import ROOT


def test_every_table_agrees_with_its_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr("sys.argv", ["tables", "--check"])
    tables.main()


def test_every_experiment_with_runs_has_rows_and_a_table() -> None:
    documents = [ROOT / "README.md", *(ROOT / "experiments").glob("*/README.md")]
    tables_in = "\n".join(path.read_text() for path in documents)
    folders = {path.parent.name for path in (ROOT / "experiments").glob("*/run.sh")}
    assert folders == {"crust", "digits", "elr", "loss_correction", "prl"}
    for name in folders:
        assert f"<!-- table: experiments/{name}/rows.jsonl " in tables_in


def test_a_table_that_differs_from_its_rows_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    row = json.loads((ROOT / "experiments" / "elr" / "rows.jsonl").read_text().splitlines()[0])
    (tmp_path / "rows.jsonl").write_text(json.dumps(row))
    text = "# Title\n\n<!-- table: rows.jsonl --number last -->\nold numbers\n<!-- end of table -->\n\nThe end.\n"
    (tmp_path / "README.md").write_text(text)
    monkeypatch.setattr("sys.argv", ["tables", "--check"])
    with pytest.raises(SystemExit, match=r"README.md: tables differ from their rows; run python -m experiments.tables"):
        tables.main()
    assert (tmp_path / "README.md").read_text() == text
    monkeypatch.setattr("sys.argv", ["tables"])
    tables.main()
    written = (tmp_path / "README.md").read_text()
    assert f"| {row['method']} | {100 * row['test_acc']['last']:.1f} |" in written
    assert written.endswith("<!-- end of table -->\n\nThe end.\n")
    assert "old numbers" not in written
