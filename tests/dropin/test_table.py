"""The table in the documents is that of the tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.dropin import table
from tests.dropin.patterns import METHODS, PATTERNS
from tests.dropin.table import PAGE, make_table, updated


def test_the_committed_table_is_up_to_date() -> None:
    assert PAGE.read_text() == updated(PAGE.read_text()), "run python -m tests.dropin.table"


def test_check_leaves_the_page_alone_and_fails_if_it_is_old(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("sys.argv", ["table", "--check"])
    table.main()
    old = tmp_path / "drop_in.md"
    old.write_text(PAGE.read_text().replace("| works |", "| fails |", 1))
    content = old.read_text()
    monkeypatch.setattr(table, "PAGE", old)
    with pytest.raises(SystemExit, match=r"run python -m tests\.dropin\.table"):
        table.main()
    assert old.read_text() == content
    monkeypatch.setattr("sys.argv", ["table"])
    table.main()
    assert old.read_text() == PAGE.read_text()


def test_the_table_has_every_cell() -> None:
    rows = [line for line in make_table().splitlines() if line.startswith("|")]
    assert len(rows) == 2 + len(PATTERNS)
    assert {row.count(" | ") for row in rows[:1] + rows[2:]} == {len(METHODS)}
    num_refused = sum(len(pattern.refusals) for pattern in PATTERNS)
    assert make_table().count("refused (") == num_refused
