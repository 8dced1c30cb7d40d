"""The tables of many runs, from small result files made by hand."""

from __future__ import annotations

import csv
import io
import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from scipy import stats

from noisylabels_pl.cli.table import main, make_table, read_rows
from noisylabels_pl.report.tables.grid import make_grid
from noisylabels_pl.report.tables.quantities import NAMES
from noisylabels_pl.report.tables.rows import save_rows
from noisylabels_pl.report.tables.statistics import summarize, welch_p_value

SaveRun = Callable[..., Path]


def cells(markdown: str) -> list[list[str]]:
    """Return the lines of a Markdown table, its header first."""
    lines = [line for line in markdown.splitlines() if line.startswith("|") and "---" not in line]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def table_of(runs: Path, *numbers: str, **options: Any) -> list[list[str]]:
    return cells(str(make_table(read_rows([runs]), numbers or ["last"], **options)))


@pytest.fixture
def runs(save_run: SaveRun) -> Path:
    """Two methods, two rates, three seeds."""
    for rate in (0.2, 0.4):
        for seed, noise in enumerate((-0.01, 0.0, 0.01)):
            save_run("ce", seed, 0.6 - rate / 2 + noise, rate=rate)
            folder = save_run("elr", seed, 0.8 - rate / 2 + noise, rate=rate, options={"lam": 3.0})
    return folder.parent


def test_welch_agrees_with_scipy() -> None:
    first, second = [0.91, 0.92, 0.95], [0.80, 0.85, 0.82, 0.86]
    expected = stats.ttest_ind(first, second, equal_var=False).pvalue
    assert welch_p_value(summarize(first), summarize(second)) == pytest.approx(expected, rel=1e-12)  # type: ignore[arg-type]
    assert welch_p_value(summarize([0.9]), summarize(second)) is None  # type: ignore[arg-type]


def test_a_line_for_each_method_and_a_column_for_each_noise(runs: Path) -> None:
    assert table_of(runs) == [
        ["method", "digits, sym 0.2", "digits, sym 0.4"],
        ["ce", "50.0 ± 1.0", "40.0 ± 1.0"],
        ["elr", "**70.0 ± 1.0**", "**60.0 ± 1.0**"],
        ["Welch p", "< 0.001", "< 0.001"],
    ]


def test_several_numbers_and_what_else_can_be_shown(runs: Path) -> None:
    table = table_of(runs, *NAMES)
    assert len(table[0]) == 1 + 2 * len(NAMES)
    values = dict(zip(table[0], table[1], strict=True))
    assert values["digits, sym 0.2: oracle (%)"] == "60.0 ± 1.0"
    assert values["digits, sym 0.2: best val. (%)"] == "n/a"
    assert values["digits, sym 0.2: wrong labels memorized (%)"] == "20.0 ± 0.0"
    assert values["digits, sym 0.2: seconds per epoch"] == "1.500 ± 0.000"
    assert values["digits, sym 0.2: peak memory (MiB)"] == "200 ± 0"


def test_methods_can_be_columns(runs: Path) -> None:
    assert table_of(runs, transpose=True)[0] == ["method", "ce", "elr", "Welch p"]


def test_options_that_differ_make_lines_of_their_own(save_run: SaveRun, runs: Path) -> None:
    for seed in range(3):
        save_run("elr", seed, 0.55, options={"lam": 7.0})
    assert [line[0] for line in table_of(runs)] == ["method", "ce", "elr lam=3.0", "elr lam=7.0", table_of(runs)[-1][0]]
    assert table_of(runs)[3][1] == "missing"


def test_an_option_that_follows_from_the_noise_does_not(save_run: SaveRun) -> None:
    for rate in (0.2, 0.4):
        folder = save_run("prl_l", rate=rate, options={"forget_rate": rate})
    assert [line[0] for line in table_of(folder.parent)] == ["method", "prl_l"]


def test_a_noise_of_another_definition_is_another_column(save_run: SaveRun) -> None:
    save_run("ce", changes={"noise.count": "exact"})
    folder = save_run("ce", changes={"noise.count": "bernoulli"})
    header = table_of(folder.parent)[0]
    assert header == ["method", "digits, sym 0.4 noise.count=exact", "digits, sym 0.4 noise.count=bernoulli"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"trainer.max_epochs": 3},
            r"differ in trainer\.max_epochs: 2, 3; show them apart by --by trainer\.max_epochs",
        ),
        ({"optim.betas": [0.5, 0.99]}, r"differ in optim\.betas: \[0\.5, 0\.99\], \[0\.9, 0\.99\]"),
        ({"trainer.max_epochs": 3, "optim.lr": 1.0}, r"differ in optim\.lr: 0\.1, 1\.0, and in trainer\.max_epochs"),
    ],
)
def test_runs_that_measure_other_things_are_not_averaged(
    save_run: SaveRun, changes: dict[str, Any], message: str
) -> None:
    folder = save_run("ce", 0)
    save_run("ce", 1, changes=changes)
    with pytest.raises(ValueError, match=f"runs of ce on digits, sym 0.4 {message}"):
        table_of(folder.parent)
    assert len(table_of(folder.parent, by=["trainer", "optim"])) == 3


def test_keys_that_change_nothing_do_not_matter(save_run: SaveRun) -> None:
    folder = save_run("ce", 0)
    save_run("ce", 1, changes={"trainer.accelerator": "gpu", "data.root": "/elsewhere", "logger.csv": None})
    assert make_grid(read_rows([folder.parent])).methods == ["ce"]


def test_other_data_of_the_same_name_are_refused(save_run: SaveRun) -> None:
    folder = save_run("ce", 0)
    save_run("ce", 1)
    save_run("elr", 0, data_hash="f" * 64)
    with pytest.raises(ValueError, match=r"runs on digits, sym 0.4 have different data: SHA-256 0+, f+; leave"):
        table_of(folder.parent)


def test_data_that_a_seed_generates_may_differ_by_seed(save_run: SaveRun) -> None:
    for seed in range(3):
        for method in ("ce", "elr"):
            folder = save_run(method, seed, data_hash=str(seed) * 64)
    assert len(table_of(folder.parent)) == 3


def test_two_runs_of_one_seed_are_refused(save_run: SaveRun) -> None:
    folder = save_run("ce", 0)
    save_run("ce", 0)
    with pytest.raises(ValueError, match=r"two runs of ce .* have seed 0: .*001 and .*002; leave one of them out"):
        table_of(folder.parent)


def save_unfinished(folder: Path, method: str, seed: int) -> None:
    """Write the files that a run has before it trains."""
    result = json.loads((folder.parent / "001" / "result.json").read_text())
    config = result["config"] | {"seed": seed}
    folder.mkdir()
    (folder / "config.yaml").write_text(json.dumps(config))
    (folder / "run.json").write_text(json.dumps({"names": {"method": method, "data": "digits", "noise": "sym"}}))


def test_unfinished_runs_are_seen_until_they_are_repeated(save_run: SaveRun, runs: Path) -> None:
    save_unfinished(runs / "crashed", "ce", seed=5)
    save_unfinished(runs / "repeated", "ce", seed=0)
    save_unfinished(runs / "alone", "gce", seed=0)
    table = table_of(runs)
    assert table[1][:3] == ["ce", "50.0 ± 1.0 (1 unfinished)", "40.0 ± 1.0"]
    assert ["gce", "1 unfinished", "missing"] in table


def test_a_cell_says_that_it_has_fewer_runs_or_diverged_ones(save_run: SaveRun, runs: Path) -> None:
    save_run("gce", 0, 0.9)
    save_run("gce", 1, float("nan"), diverged=True)
    (line,) = [line for line in table_of(runs) if line[0] == "gce"]
    assert line == ["gce", "missing", "**90.0 (n=1, 1 diverged)**"]


def test_a_single_run_has_no_deviation_and_no_test(save_run: SaveRun) -> None:
    save_run("ce", 0, 0.5)
    folder = save_run("elr", 0, 0.6)
    assert table_of(folder.parent) == [["method", "last (%)"], ["ce", "50.0"], ["elr", "**60.0**"]]


def test_r2_is_not_in_per_cent(save_run: SaveRun) -> None:
    folder = save_run("mse", 0, 0.4321, metric="r2")
    assert table_of(folder.parent) == [["method", "last (R²)"], ["mse", "0.432"]]


def test_saved_rows_make_the_same_table(runs: Path, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    save_rows(read_rows([runs]), path)
    assert make_table(read_rows([path]), NAMES) == make_table(read_rows([runs]), NAMES)
    text = path.read_text()
    assert "/somewhere" not in text
    assert str(runs) not in text
    assert "history" not in text
    save_rows(read_rows([path]), path)
    assert path.read_text() == text


def test_the_numbers_of_a_paper_beside(runs: Path, tmp_path: Path) -> None:
    paper = tmp_path / "paper.csv"
    paper.write_text(
        'table,method,problem,number,mean,std\n1,elr,"digits, sym 0.2",last,69,0.5\n1,elr,"digits, sym 0.4",last,61,\n'
        '1,gce,"digits, sym 0.2",last,44.4,1\n'
    )
    table = table_of(runs, paper=paper)
    assert table[2][1] == "**70.0 ± 1.0 (paper 69 ± 0.5: +1.0, +2.0 std)**"
    assert table[2][2] == "**60.0 ± 1.0 (paper 61: -1.0)**"
    assert table[3] == ["gce", "missing (paper 44.4 ± 1)", "missing"]
    paper.write_text("method,problem\n")
    with pytest.raises(ValueError, match="has no column 'number'; it needs method, problem"):
        table_of(runs, paper=paper)


def test_every_format(runs: Path) -> None:
    rows = read_rows([runs])
    latex = str(make_table(rows, ["last"], form="tex"))
    assert r"elr & \textbf{70.0 $\pm$ 1.0} & \textbf{60.0 $\pm$ 1.0} \\" in latex
    assert r"Welch p & $<$ 0.001" in latex
    assert "% last (%)" in latex
    records = list(csv.DictReader(io.StringIO(str(make_table(rows, ["last", "best_val"], form="csv")))))
    assert len(records) == 2 * 2 * 2
    assert float(records[0]["mean"]) == pytest.approx(0.5)
    assert (records[1]["number"], records[1]["mean"], records[1]["n"]) == ("best_val", "", "0")
    console = Console(width=200, file=io.StringIO(), force_terminal=True)
    console.print(make_table(rows, ["last"], form="rich"))
    assert re.search(r"\x1b\[1m *70.0 ± 1.0\x1b\[0m", console.file.getvalue())  # type: ignore[attr-defined]


def test_the_origin_of_the_numbers_is_below(save_run: SaveRun, runs: Path) -> None:
    save_run("gce", 0, commit="b" * 40 + "-dirty")
    text = str(make_table(read_rows([runs]), ["last"]))
    assert "Seeds 0, 1, 2." in text
    assert "Commits: aaaaaaaaaaaa (12 runs); bbbbbbbbbbbb-dirty (1 run)." in text
    assert "torch 2.0, lightning 2.1, python 3.11" in text
    assert "digits (SHA-256 000000000000)" in text


def test_the_command(runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main([str(runs), "--format=md", "--number=last", "--methods=elr,ce", f"--save={tmp_path / 'rows.jsonl'}"])
    assert [line[0] for line in cells(capsys.readouterr().out)][1:3] == ["elr", "ce"]
    main(["--number=last", str(tmp_path / "rows.jsonl"), "--format=md"])
    assert "digits, sym 0.2" in capsys.readouterr().out


def test_datasets_are_chosen(save_run: SaveRun, runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_run("huber", metric="r2", data={"name": "diabetes", "origin": "diabetes", "sha256": "2" * 64})
    main([str(runs), "--format=md", "--number=last", "--data=diabetes"])
    assert cells(capsys.readouterr().out) == [["method", "last (R²)"], ["huber", "0.500"]]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["gone"], "there is no file or folder gone"),
        (["."], "there is no result.json in"),
        (["broken.json"], "broken.json holds no result of a run"),
        (["runs", "--methods=crust"], "--methods: there are no runs of crust, but of ce, elr"),
        (["runs", "--data=mnist"], "--data: there are no runs of mnist, but of digits"),
        (["runs", "--paper=gone.csv"], "--paper: there is no file gone.csv"),
        (["runs", "--number=best"], "'best' is none of last, last_10"),
    ],
)
def test_wrong_arguments(
    arguments: list[str],
    message: str,
    runs: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "empty").mkdir()
    (runs.parent / "broken.json").write_text("{}")
    monkeypatch.chdir(tmp_path / "empty" if arguments == ["."] else runs.parent)
    with pytest.raises(SystemExit) as error:
        main(arguments)
    assert message in f"{error.value} {capsys.readouterr().err}"


def test_a_thousand_runs_are_read_in_seconds(save_run: SaveRun) -> None:
    history = {f"metric{number}": [0.123456789] * 100 for number in range(20)}
    for seed in range(1000):
        folder = save_run("ce", seed, history=history)
    start = time.perf_counter()
    table_of(folder.parent)
    assert time.perf_counter() - start < 4  # about 1 s on two quiet cores


@pytest.mark.parametrize("width", [50, 80, 300])
def test_a_terminal_cuts_no_number_off(runs: Path, width: int) -> None:
    numbers = ("last", "last_10", "best_val", "best_oracle", "seconds")
    console = Console(width=width, file=io.StringIO())
    console.print(make_table(read_rows([runs]), numbers, form="rich"))
    printed = console.file.getvalue()  # type: ignore[attr-defined]
    assert max(map(len, printed.splitlines())) <= width
    for line in table_of(runs, *numbers)[1:]:
        assert all(text.strip("*") in printed for text in line[1:])
    assert (printed.count("┏") == 1) == (width == 300)
