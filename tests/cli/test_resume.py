"""Going on with a run by its folder, and what is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from experiments.reliability.compare import differences
from noisylabels_pl.cli.resume import main, resume_command

Cli = Callable[..., Path]
SMALL = ("method=ce", "trainer=cpu", "threads=1", "data.train_size=100", "data.val_fraction=0.2")


def epochs(folder: Path) -> int:
    return json.loads((folder / "result.json").read_text())["epochs"]


@pytest.fixture
def resume(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., None]:
    """Calls the command, in a process whose folder and arguments are restored."""

    def call(folder: Path, *changes: str) -> None:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr("sys.argv", ["resume", str(folder), *changes])
        main()

    return call


def error_of(call: Callable[..., Any], *arguments: Any) -> str:
    with pytest.raises(SystemExit) as error:
        call(*arguments)
    message = str(error.value).splitlines()[0]
    assert message.startswith("error: ")
    return message


def test_a_longer_budget_in_a_moved_folder_equals_a_whole_run(cli: Cli, resume: Cli, tmp_path: Path) -> None:
    """The best checkpoint, too: its score must not be forgotten with the folder's path."""
    whole = cli(*SMALL, "trainer.max_epochs=6", folder="whole")
    moved = tmp_path / "müller's project (1)"
    shutil.move(cli(*SMALL, "trainer.max_epochs=3"), moved)
    resume(moved, "trainer.max_epochs=6")
    assert differences(whole, moved) == []


def test_a_finished_run_is_left_alone(cli: Cli, resume: Cli, capsys: pytest.CaptureFixture[str]) -> None:
    folder = cli(*SMALL, "trainer.max_epochs=2")
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    capsys.readouterr()
    resume(folder)
    assert f"Finished before: {folder}" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


def test_a_new_run_overwrites_no_other_one(cli: Cli) -> None:
    folder = cli(*SMALL, "trainer.max_epochs=2")
    before = (folder / "result.json").stat().st_mtime_ns
    message = error_of(lambda: cli(*SMALL, "trainer.max_epochs=2", "seed=1", replace=False))
    assert "holds a finished run, which a new one would overwrite; delete the folder" in message
    (folder / "result.json").rename(folder / "kept")
    message = error_of(lambda: cli(*SMALL, "trainer.max_epochs=2", replace=False))
    assert "holds an interrupted run" in message
    assert (folder / "kept").stat().st_mtime_ns == before


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("seed=1", "was trained with seed=0, now seed=1"),
        ("noise.rate=0.1", "was trained with noise.rate=0.4, now noise.rate=0.1"),
        ("data.batch_size=16", "data.batch_size=32, now data.batch_size=16"),
        ("optim.lr=0.5", "optim.lr=0.1, now optim.lr=0.5"),
        ("method=elr", "method._target_=torch.nn.CrossEntropyLoss, now method._target_=noisylabels_pl.ELR"),
        ("+trainer.gradient_clip_val=1", "trainer.gradient_clip_val=(not set), now trainer.gradient_clip_val=1"),
    ],
)
def test_another_configuration_is_refused(cli: Cli, override: str, message: str) -> None:
    """By every way to resume: a path of a checkpoint, here or elsewhere, and the folder."""
    folder = cli(*SMALL, "trainer.max_epochs=2")
    last = folder / "checkpoints" / "last.ckpt"
    for how in (f"resume={last}", "resume=auto"):
        error = error_of(lambda how=how: cli(*SMALL, "trainer.max_epochs=4", override, how))
        assert message in error
        assert "leave all as it was but for" in error
    assert message in error_of(lambda: cli(*SMALL, "trainer.max_epochs=4", override, f"resume={last}", folder="new"))
    assert epochs(folder) == 2


def test_what_changes_no_number_may_change(cli: Cli) -> None:
    folder = cli(*SMALL, "trainer.max_epochs=2")
    cli(
        *SMALL, "trainer.max_epochs=3", "resume=auto", "progress=false", "logger=none", "data.num_workers=1", "name=new"
    )
    assert epochs(folder) == 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("optim.lr=1", "optim.lr=1: only values of resume, name, threads"),
        ("trainer", "trainer: only values of"),
        ("logger=csv", "logger is a group; change a value in it, such as logger.csv="),
    ],
)
def test_a_change_that_is_not_possible(cli: Cli, resume: Cli, change: str, message: str) -> None:
    folder = cli(*SMALL, "trainer.max_epochs=1")
    assert message in error_of(resume, folder, change)


def test_folders_of_no_run(resume: Cli, tmp_path: Path) -> None:
    assert "there is no folder" in error_of(resume, tmp_path / "gone")
    assert "is not the folder of a run: it has no config.yaml" in error_of(resume, tmp_path)


def test_damaged_files(cli: Cli, resume: Cli, recwarn: pytest.WarningsRecorder) -> None:
    folder = cli(*SMALL, "trainer.max_epochs=3")
    whole = folder.rename(folder.parent / "whole")
    folder = cli(*SMALL, "trainer.max_epochs=2")
    last = folder / "checkpoints" / "last.ckpt"
    shutil.copy(last, last.with_name("previous.ckpt"))
    last.write_bytes(b"")
    resume(folder, "trainer.max_epochs=3")
    assert any("last.ckpt is empty; going on from" in str(warning.message) for warning in recwarn)
    assert differences(whole, folder) == []
    last.write_bytes(b"")
    assert "there is no other checkpoint in" in error_of(resume, folder, "trainer.max_epochs=4")
    (folder / "config.yaml").write_text("seed: [0")
    assert "config.yaml is damaged" in error_of(resume, folder)


@pytest.mark.parametrize(
    ("saving", "files"),
    [("true", ["best.ckpt", "last.ckpt"]), ("weights", ["weights.ckpt"]), ("false", [])],
)
def test_checkpoints_can_be_few_or_none(cli: Cli, saving: str, files: list[str]) -> None:
    folder = cli(*SMALL, "trainer.max_epochs=2", f"checkpoint={saving}")
    assert sorted(path.name for path in folder.rglob("*.ckpt")) == files
    assert epochs(folder) == 2


def test_the_origin_of_a_run_is_kept(cli: Cli) -> None:
    folder = cli(*SMALL, "trainer.max_epochs=1")
    origin = OmegaConf.load(folder / "run.yaml")
    assert origin.names.method == "ce"
    assert origin.folder == str(folder)


def test_the_printed_command_is_for_a_shell() -> None:
    assert resume_command(Path("/a/müller's (1)")) == """python -m noisylabels_pl.resume '/a/müller'"'"'s (1)'"""
