"""The command line as people start it: in processes, where the process matters."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch

from experiments.reliability.compare import differences
from tests.helpers import options, wait_for_lines

Cli = Callable[..., Path]
COMMAND = [sys.executable, "-m", "noisylabels_pl"]
SMALL = ["trainer=cpu", "data.train_size=400", "data.val_fraction=0.2"]


def interrupt(process: subprocess.Popen[str]) -> str:
    """Press Ctrl-C; return the command that the process prints."""
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "Traceback" not in errors
    command = errors.strip().splitlines()[-1].strip()
    assert command.startswith("python -m noisylabels_pl.resume ")
    return command.replace("python", sys.executable, 1)


def start(*command: str, cwd: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*COMMAND, *command],
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),  # ignored where the tests run in background
    )


@pytest.mark.processes
def test_ctrl_c_prints_the_command_that_resumes(cli: Cli, tmp_path: Path) -> None:
    """In a folder whose name means something to shells and to Hydra."""
    project = tmp_path / "müller's {project} (1), $x=[0] #2; \\"
    project.mkdir()
    process = start(*SMALL, "trainer.max_epochs=300", "hydra.run.dir=run", cwd=project)
    run = project / "run"
    wait_for_lines(process, run / "metrics.csv", 9)  # past the first selections
    command = interrupt(process)
    epochs = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["epoch"] + 3
    # From anywhere, as the printed command is run by people.
    subprocess.run(f"{command} trainer.max_epochs={epochs}", shell=True, cwd=tmp_path, check=True, timeout=120)
    whole = cli(*SMALL, f"trainer.max_epochs={epochs}", folder="whole")
    assert differences(whole, run) == []


@pytest.mark.processes
def test_ctrl_c_in_a_sweep_prints_the_command_that_goes_on_with_it(cli: Cli, tmp_path: Path) -> None:
    project = tmp_path / "project (1)"
    project.mkdir()
    sweep = ("-m", *SMALL, "method=ce", "trainer.max_epochs=6,200,5", "hydra.sweep.dir=sweep")
    process = start(*sweep, cwd=project)
    wait_for_lines(process, project / "sweep" / "1" / "metrics.csv", 4)
    command = interrupt(process)
    first = (project / "sweep" / "0" / "result.json").stat().st_mtime_ns
    assert not (project / "sweep" / "2").exists()
    subprocess.run(command, shell=True, cwd=tmp_path, check=True, timeout=120)
    assert (project / "sweep" / "0" / "result.json").stat().st_mtime_ns == first
    for job, epochs in (("1", 200), ("2", 5)):
        whole = cli(*SMALL, "method=ce", f"trainer.max_epochs={epochs}", folder=f"whole-{job}")
        assert differences(whole, project / "sweep" / job) == []


def test_a_sweep(cli: Cli, tmp_path: Path) -> None:
    cli("-m", *SMALL, "method=ce,crust_paper", "noise.rate=0.2,0.6", "trainer.max_epochs=1", "hydra.sweep.dir=sweep")
    rows = [json.loads(path.read_text()) for path in sorted((tmp_path / "sweep").glob("*/result.json"))]
    assert [row["name"] for row in rows] == [
        f"{method} on digits, sym {rate}, train_size=400, val_fraction=0.2, seed 0"
        for method in ("ce", "crust_paper")
        for rate in (0.2, 0.6)
    ]
    # The methods of a sweep see the same labels.
    assert rows[0]["noise"] == rows[2]["noise"] != rows[1]["noise"]


def test_a_sweep_over_subprocess_ddp_is_refused(cli: Cli, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_with:
        cli("-m", *SMALL, "trainer=ddp_cpu", "seed=0,1")
    assert exit_with.value.code not in (0, None)
    assert "start the runs one by one from a shell" in capfd.readouterr().err


@pytest.mark.processes
def test_two_runs_at_the_same_time_do_not_share_a_folder(tmp_path: Path) -> None:
    command = [*COMMAND, *SMALL, "method=ce", "trainer.max_epochs=1"]
    runs = [subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL) for _ in range(2)]
    assert [process.wait(120) for process in runs] == [0, 0]
    assert len(list(tmp_path.glob("outputs/*/*/result.json"))) == 2


@pytest.mark.processes
def test_help_is_quick_and_lists_the_groups(tmp_path: Path) -> None:
    done = subprocess.run([*COMMAND, "--help"], cwd=tmp_path, capture_output=True, text=True, check=True)
    for group in ("data", "method"):
        assert f"{group}: {', '.join(options(group))}" in done.stdout


@pytest.mark.processes
def test_a_killed_rank_is_named_as_the_cause(tmp_path: Path) -> None:
    command = [*COMMAND, *SMALL, "trainer=ddp_cpu", "method=ce", "trainer.max_epochs=3000", "hydra.run.dir=run"]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    wait_for_lines(process, tmp_path / "run" / "metrics.csv", 3)
    (child,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    os.kill(int(child), signal.SIGKILL)
    _, errors = process.communicate(timeout=60)
    assert process.returncode != 0
    assert f"error: rank 1 (process {child}) was killed by SIGKILL" in errors
    assert "Traceback" not in errors
