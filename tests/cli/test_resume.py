"""Going on with a run by its folder: what is read, refused, skipped and left behind."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from experiments.reliability.compare import differences
from noisylabels_pl.cli import report_run
from noisylabels_pl.cli.resume import main, resume_command, resume_run

Cli = Callable[..., Path]
SHORT = ("trainer=cpu", "trainer.max_epochs=4", "data.train_size=300", "net.dropout=0.2")


@pytest.fixture
def interrupted(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Makes a run and takes back what it did after it had saved so many epochs, as if it had been killed then."""

    def make(*overrides: str, epochs: int = 2, folder: str = "run") -> Path:
        run = cli(*SHORT, *overrides, f"trainer.max_epochs={epochs}", folder=folder)
        for name in ("result.json", "curves.png", "transition.png"):
            (run / name).unlink(missing_ok=True)
        config = run / "config.yaml"
        config.write_text(config.read_text().replace(f"max_epochs: {epochs}", "max_epochs: 4"))
        return run

    return make


@pytest.fixture(autouse=True)
def arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["noisylabels_pl.resume"])
    monkeypatch.setattr("sys.path", [*sys.path])


def error_of(*arguments: str | Path) -> str:
    with pytest.raises(SystemExit) as exit_with:
        main([str(argument) for argument in arguments])
    message = str(exit_with.value)
    assert message.startswith("error: ")
    assert len(message.removesuffix("\n(HYDRA_FULL_ERROR=1 shows where)").splitlines()) == 1
    return message


@pytest.mark.parametrize(
    "method", [("method=elr",), ("method=crust", "method.warmup_epochs=1", "method.loss=gce", "method.loss.q=0.5")]
)
def test_resumed_equals_uninterrupted_in_every_file(
    cli: Cli, interrupted: Callable[..., Path], method: tuple[str, ...]
) -> None:
    whole = cli(*SHORT, *method, folder="whole")
    run = interrupted(*method)
    (run / "checkpoints" / ".last.ckpt.123.partial").touch()
    moved = run.rename(run.with_name("müller's [${project}] (1)"))
    resume_run(moved)
    assert differences(whole, moved) == []
    resume_run(moved)  # finished; and the folder's name is read again


def test_a_damaged_checkpoint_is_named_and_the_one_before_is_used(cli: Cli, interrupted: Callable[..., Path]) -> None:
    whole = cli(*SHORT, "method=ce", folder="whole")
    run = interrupted("method=ce", epochs=1)
    last, previous = run / "checkpoints" / "last.ckpt", run / "checkpoints" / "previous.ckpt"
    last.rename(previous)
    last.write_bytes(b"")
    with pytest.warns(match=r"last.ckpt is empty; going on from .*previous.ckpt"):
        resume_run(run)
    assert differences(whole, run) == []
    (run / "result.json").unlink()
    last.write_bytes(b"")
    assert "last.ckpt is empty; there is no other checkpoint in" in error_of(run)


def test_a_budget_of_steps_is_told_to_be_inexact(interrupted: Callable[..., Path]) -> None:
    run = interrupted("method=ce", "trainer.max_steps=1000", epochs=1)
    with pytest.warns(match="trainer.max_steps=1000: the resumed run will not equal an uninterrupted one"):
        resume_run(run)


def test_a_run_that_saved_nothing_starts_again(cli: Cli, interrupted: Callable[..., Path]) -> None:
    whole = cli(*SHORT, "method=ce", folder="whole")
    run = interrupted("method=ce")
    shutil.rmtree(run / "checkpoints")
    resume_run(run)
    assert differences(whole, run) == []


def test_a_run_that_was_killed_before_it_had_its_data_starts_again(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    whole = cli(*SHORT, "method=ce", folder="whole")

    def killed(*_: Any, **__: Any) -> None:
        raise SystemExit

    with monkeypatch.context() as patch:
        patch.setattr(report_run, "train", killed)
        with pytest.raises(SystemExit):
            cli(*SHORT, "method=ce")
    run = tmp_path / "run"
    assert {path.name for path in run.iterdir()} == {".hydra", "config.yaml", "run.json"}
    resume_run(run)
    assert differences(whole, run) == []


def test_the_result_comes_last_and_marks_a_finished_run(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """But its numbers are not lost if a figure fails."""

    def fails(*_: Any) -> None:
        assert not (tmp_path / "run" / "result.json").exists()
        raise ValueError("no font")

    monkeypatch.setattr(report_run, "draw_curves", fails)
    with pytest.raises(ValueError, match="no font"):
        cli(*SHORT, "method=ce")
    assert (tmp_path / "run" / "result.json").exists()


def test_a_run_that_was_killed_after_its_last_epoch(cli: Cli) -> None:
    whole = cli(*SHORT, "method=crust", "method.warmup_epochs=2", folder="whole")
    run = shutil.copytree(whole, whole.with_name("run"))
    for name in ("result.json", "curves.png"):
        (run / name).unlink()
    resume_run(run)
    assert differences(whole, run) == []


def test_a_stage_that_was_killed_after_its_last_epoch(cli: Cli) -> None:
    """T is then estimated by a fit that has nothing to do any more, from the same samples."""
    whole = cli(*SHORT, "method=forward", folder="whole")
    run = shutil.copytree(whole, whole.with_name("run"))
    for name in ("result.json", "curves.png", "transition.png", "cross_entropy.pt", "corrected.pt", "metrics.csv"):
        (run / name).unlink()
    shutil.rmtree(run / "checkpoints")
    resume_run(run)
    assert differences(whole, run) == []


def test_a_finished_run_is_left_alone(cli: Cli, capsys: pytest.CaptureFixture[str]) -> None:
    run = cli(*SHORT, "method=ce")
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    best = resume_run(run)
    assert best == max(json.loads((run / "result.json").read_text())["history"]["val/acc"])
    assert f"Finished before: {run}" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before


def test_a_longer_budget_equals_a_longer_run(cli: Cli) -> None:
    whole = cli(*SHORT, "method=crust", "method.warmup_epochs=2", "trainer.max_epochs=6", folder="whole")
    run = cli(*SHORT, "method=crust", "method.warmup_epochs=2")
    resume_run(run, ["trainer.max_epochs=6"])
    assert differences(whole, run) == []


def test_a_longer_budget_is_refused_after_a_finished_stage(cli: Cli) -> None:
    run = cli(*SHORT, "method=forward")
    message = error_of(run, "trainer.max_epochs=9")
    assert "trainer.max_epochs cannot change, because stage cross_entropy has finished with the old value" in message
    assert (run / "result.json").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("optim.lr=0.5", "optim.lr=0.5: only values of resume, name, threads"),
        ("trainer.max_epochs", "trainer.max_epochs: only values of"),
        ("logger=wandb", "logger=wandb: logger is a group; change a value in it, such as logger.csv="),
    ],
)
def test_other_changes_are_refused(change: str, message: str, interrupted: Callable[..., Path]) -> None:
    assert message in error_of(interrupted("method=ce"), change)


def test_folders_that_are_no_runs(tmp_path: Path) -> None:
    assert "there is no folder" in error_of(tmp_path / "gone")
    assert "is not the folder of a run: it has no config.yaml" in error_of(tmp_path)


def test_other_labels_are_refused(interrupted: Callable[..., Path]) -> None:
    run = interrupted("method=ce")
    with np.load(run / "noise.npz") as file:
        arrays = dict(file)
    arrays["observed"] = arrays["clean"]
    np.savez(run / "noise.npz", **arrays)
    assert "the training labels are not those of the run" in error_of(run)


# --- resume= on the command line --------------------------------------------------------------------------------------


def refused(cli: Cli, *overrides: str, **options: Any) -> str:
    with pytest.raises(SystemExit) as exit_with:
        cli(*SHORT, *overrides, **options)
    return str(exit_with.value)


def test_another_configuration_is_refused(cli: Cli, interrupted: Callable[..., Path]) -> None:
    run = interrupted("method=elr")
    last = run / "checkpoints" / "last.ckpt"
    for folder in ("run", "elsewhere"):
        for resume in ("auto", last) if folder == "run" else (last,):
            message = refused(cli, "method=elr", f"resume={resume}", "optim.lr=0.3", folder=folder)
            assert "was trained with optim.lr=0.1, now optim.lr=0.3" in message
            assert "method._target_=noisylabels_pl.ELR, now" in refused(
                cli, "method=ce", f"resume={resume}", folder=folder
            )
    assert not (run / "result.json").exists()


def test_what_changes_no_number_may_change(cli: Cli) -> None:
    cli(*SHORT, "method=ce", "trainer.max_epochs=2")
    changes = ("progress=false", "logger=none", "data.num_workers=1", "name=new", "trainer.max_epochs=3")
    run = cli(*SHORT, "method=ce", *changes, "resume=auto")
    assert json.loads((run / "result.json").read_text())["epochs"] == 3


def test_a_checkpoint_may_go_on_elsewhere(cli: Cli, interrupted: Callable[..., Path]) -> None:
    whole = cli(*SHORT, "method=ce", "optim.lr=0", folder="whole")  # so that the first epoch stays the best
    run = interrupted("method=ce", "optim.lr=0")
    resumed = cli(*SHORT, "method=ce", "optim.lr=0", f"resume={run / 'checkpoints' / 'last.ckpt'}", folder="elsewhere")
    assert differences(whole, resumed) == []


def test_unusable_checkpoints_are_named_with_the_next_best(cli: Cli, interrupted: Callable[..., Path]) -> None:
    run = interrupted("method=ce")
    checkpoints = run / "checkpoints"
    message = refused(cli, "method=ce", f"resume={checkpoints / 'best.ckpt'}")
    assert "best.ckpt holds weights only; resume from last.ckpt" in message
    message = refused(cli, "method=ce", f"resume={run / 'config.yaml'}")
    assert "config.yaml is no checkpoint, or is damaged" in message
    shutil.copy(checkpoints / "last.ckpt", checkpoints / "previous.ckpt")
    (checkpoints / "last.ckpt").write_bytes(b"PK")
    message = refused(cli, "method=ce", f"resume={checkpoints / 'last.ckpt'}")
    assert "last.ckpt is no checkpoint, or is damaged; " in message
    assert f"{checkpoints / 'previous.ckpt'} can be resumed from" in message


def test_a_new_run_does_not_overwrite_another(cli: Cli, interrupted: Callable[..., Path]) -> None:
    run = cli(*SHORT, "method=ce", "trainer.max_epochs=1")
    before = (run / "result.json").read_bytes()
    for override in ("method=ce", "method=crust"):
        assert "holds a finished run, which a new one would overwrite" in refused(cli, override, replace=False)
    assert (run / "result.json").read_bytes() == before
    interrupted("method=ce")
    assert "holds an interrupted run, which a new one would overwrite" in refused(cli, "method=ce", replace=False)


def test_auto_starts_goes_on_and_skips(cli: Cli, capsys: pytest.CaptureFixture[str]) -> None:
    run = cli(*SHORT, "method=ce", "resume=auto")
    assert "Finished before" not in capsys.readouterr().out
    cli(*SHORT, "method=ce", "resume=auto")
    assert f"Finished before: {run}" in capsys.readouterr().out
    assert "was trained with seed=0, now seed=1" in refused(cli, "method=ce", "resume=auto", "seed=1")


def test_a_sweep_goes_on(cli: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """With folders that are named after the overrides of their runs."""
    named = "hydra.sweep.subdir='${hydra.job.override_dirname}'"
    sweep = ("-m", *SHORT, "method=ce", "trainer.max_epochs=1", "seed=0,1,2", "hydra.sweep.dir=sweep", named)
    cli(*sweep)
    folders = sorted(path.parent for path in tmp_path.glob("sweep/*/result.json"))
    assert len(folders) == 3
    before = [(folder / "result.json").stat().st_mtime_ns for folder in folders]
    (folders[1] / "result.json").unlink()
    shutil.rmtree(folders[2])
    moved = (tmp_path / "sweep").rename(tmp_path / "müller (2)")
    run = report_run.run
    jobs = []
    monkeypatch.setattr(report_run, "run", lambda config: jobs.append(config.seed) or run(config))
    main([str(moved)])
    assert jobs == [0, 1, 2]
    after = sorted(moved.glob("*/result.json"))
    assert [path.parent.name for path in after] == [folder.name for folder in folders]
    assert after[0].stat().st_mtime_ns == before[0]


@pytest.mark.parametrize(("checkpoint", "files"), [("weights", ["weights.ckpt"]), ("false", [])])
def test_checkpoints_can_be_weights_or_none(cli: Cli, checkpoint: str, files: list[str]) -> None:
    """The estimate of T still comes from the best epoch of the first stage."""
    whole = cli(*SHORT, "method=forward", folder="whole")
    run = cli(*SHORT, "method=forward", f"checkpoint={checkpoint}")
    assert sorted(path.name for path in run.rglob("*.ckpt")) == files
    stages = [torch.load(folder / "cross_entropy.pt", weights_only=True)["T"] for folder in (whole, run)]
    assert torch.equal(*stages)
    assert "checkpoint must be one of" in refused(cli, "checkpoint=never", folder="other")


def test_the_printed_command_is_for_a_shell() -> None:
    assert resume_command(Path("/a/müller's (1)")) == """python -m noisylabels_pl.resume '/a/müller'"'"'s (1)'"""


def test_the_help_is_quick() -> None:
    code = "import sys, noisylabels_pl.resume; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "False"
