"""The mistakes of docs/errors.md, and the line that each gives."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from noisylabels_pl.cli.main import main
from tests.helpers import ROOT

Cli = Callable[..., Path]
BLOCK = re.compile(r"^\$ python -m noisylabels_pl (.+)\n((?:(?!\$|```).+\n)+)", re.MULTILINE)
MISTAKES = BLOCK.findall((ROOT / "docs" / "errors.md").read_text())
SHORT = ("trainer=cpu", "trainer.max_epochs=7", "data.train_size=300")


@pytest.fixture
def files(tmp_path: Path) -> None:
    """The files that the page names."""
    x = np.random.default_rng(0).normal(size=(60, 5))
    y = np.arange(60) % 3
    two_hot = np.eye(3)[y]
    two_hot[5] = [1, 1, 0]
    lacks_a_class = np.where(y == 1, 0, y)
    for name, train, test in (
        ("two_hot", two_hot, y),
        ("from_1", y + 1, y + 1),
        ("real_targets", x[:, 0], x[:, 0]),
        ("no_fox", lacks_a_class, y),
    ):
        np.savez(tmp_path / f"{name}.npz", x_train=x, y_train=train, x_test=x, y_test=test)
    np.savez(tmp_path / "one_set.npz", x=x, kind=y[1:])
    (tmp_path / "pets.csv").write_text("name,species,weight\nRex,dog,20.5\nTom,cat,4\nKit,cat,\n")
    (tmp_path / "notes.txt").write_text("not a folder")
    (tmp_path / "labels.csv").write_text("true_label,label\n" + "0,1\n" * 60)


def run(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> str:
    """Run a command that must fail, and return the line that it ends with."""
    monkeypatch.setattr("sys.argv", ["noisylabels_pl", *arguments])
    with pytest.raises(SystemExit) as exit_with:
        main()
    assert isinstance(exit_with.value.code, str)  # which Python prints, with exit code 1
    line, _, hint = exit_with.value.code.partition("\n")
    assert hint in ("", "(HYDRA_FULL_ERROR=1 shows where)")
    return line


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize(("arguments", "expected"), MISTAKES, ids=[arguments for arguments, _ in MISTAKES])
def test_the_page_has_the_line_of_each_mistake(
    arguments: str,
    expected: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if arguments == "trainer=gpu" and torch.cuda.is_available():
        pytest.skip("there is a GPU")
    monkeypatch.chdir(tmp_path)
    line = run(shlex.split(arguments), monkeypatch)
    printed = capsys.readouterr()
    if arguments.startswith("-m"):  # the line of the job stands before that of the whole sweep
        line = f"{printed.err}{line}"
    expected, ellipsis, _ = expected.strip().partition(", ...")
    line = line.replace(str(tmp_path), "/home/you")
    assert line.startswith(expected) if ellipsis else line == expected


def test_a_key_of_ones_own_may_serve_an_interpolation(cli: Cli) -> None:
    folder = cli(*SHORT, "method=ce", "trainer.max_epochs=1", "+rate=0.25", "noise.rate=${rate}")
    assert json.loads((folder / "result.json").read_text())["config"]["noise"]["rate"] == 0.25


def test_a_constructors_argument_may_be_added(cli: Cli) -> None:
    folder = cli(*SHORT, "method=ce", "trainer.max_epochs=1", "+trainer.gradient_clip_val=1", "+net.hidden=[32]")
    config = json.loads((folder / "result.json").read_text())["config"]
    assert (config["trainer"]["gradient_clip_val"], config["net"]["hidden"]) == (1, [32])


def test_a_file_of_options_must_reach_the_keys_that_it_is_meant_for(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine" / "experiment").mkdir(parents=True)
    file = tmp_path / "mine" / "experiment" / "quick.yaml"
    file.write_text("trainer:\n  max_epochs: 1\n")
    arguments = ["--config-dir=mine", "experiment=quick", "method=ce", "hydra.run.dir=run"]
    monkeypatch.chdir(tmp_path)
    line = run(arguments, monkeypatch)
    assert line.startswith("error: nothing reads experiment; ")
    assert line.endswith("begins with the line # @package _global_")
    file.write_text("# @package _global_\ntrainer:\n  max_epochs: 1\n")
    folder = cli(*arguments)
    assert json.loads((folder / "result.json").read_text())["epochs"] == 1


def test_a_failed_job_leaves_the_others(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = ["-m", *SHORT, "method=ce", "trainer.max_epochs=1", "noise.rate=1.5,0.2", "hydra.sweep.dir=sweep"]
    assert run(arguments, monkeypatch) == "error: noise: rate must lie in [0, 1], got 1.5"
    assert "Traceback" not in capsys.readouterr().err
    assert [path.parent.name for path in (tmp_path / "sweep").glob("*/result.json")] == ["1"]


def test_developers_get_the_traceback(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    monkeypatch.setattr("sys.argv", ["noisylabels_pl", "seed=-1", "hydra.run.dir=run"])
    with pytest.raises(ValueError, match="seed must lie in"):
        main()


def test_ctrl_c_before_the_first_epoch(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("noisylabels_pl.cli.report_run.train", interrupted)
    with pytest.raises(SystemExit) as exit_with:
        cli(*SHORT)
    assert exit_with.value.code == 130


def test_version(cli: Cli, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.argv", ["noisylabels_pl", "--version"])
    main()
    assert re.fullmatch(r"noisylabels_pl \S+, torch \S+, lightning \S+\n", capsys.readouterr().out)
