"""Sweeps whose runs are jobs of Hydra's launchers: a cluster, as far as this machine can be one."""

from __future__ import annotations

import io
import json
import os
import signal
import socket
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch
from hydra.errors import MissingConfigException
from rich.console import Console

from noisylabels_pl.cli.cells import make_cells
from noisylabels_pl.cli.errors import composition_message
from noisylabels_pl.cli.launch_cells import launch_cells
from noisylabels_pl.cli.sweep import main
from tests.cli.test_sweep import FAIL, FINISH, Script
from tests.helpers import wait_for_lines

SMALL = ["data.train_size=300", "data.val_fraction=0.2"]
PLUGINS = {
    "submitit_local": "hydra_plugins.hydra_submitit_launcher",
    "ray": "hydra_plugins.hydra_ray_launcher",
    "joblib": "hydra_plugins.hydra_joblib_launcher",
}


def needs(launcher: str) -> None:
    pytest.importorskip(PLUGINS[launcher], reason=f"needs the plugin of hydra/launcher={launcher}")


def start(module: str, *arguments: str, cwd: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", module, *arguments]
    not_ignored = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # ignored where the tests run in background
    return subprocess.Popen(
        command, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=not_ignored
    )


def output(process: subprocess.Popen[str]) -> str:
    text, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    return text


def test_each_cell_is_a_job_in_its_own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By Hydra's own launcher, which runs one job after the other."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["sweep"])
    root = Path("sweeps of ${x}=1,2")
    cells = [Script((script,), root / str(number)) for number, script in enumerate([FAIL, FINISH, FINISH])]
    console = Console(file=io.StringIO())
    launch_cells(cells, ["hydra/launcher=basic"], root, console)
    assert [cell.is_finished for cell in cells] == [False, True, True]
    assert "error: too bad" in (cells[0].folder / "log.txt").read_text()
    assert sorted(path.name for path in root.iterdir()) == [".launcher", "0", "1", "2"]


def test_mistakes_with_a_launcher(capsys: pytest.CaptureFixture[str]) -> None:
    for options, message in (
        (["hydra/launcher=joblob"], "there is no hydra/launcher=joblob; the options, the nearest first: "),
        (["hydra.launcher.n_jobs=2"], "nothing reads hydra.launcher.n_jobs"),
        (["hydra/launcher=basic", "hydra.launcher.tasks_per_node=2"], "a sweep starts one process for each run"),
        (["hydra/launcher=basic", "--jobs=2"], "--jobs=2 is for runs of this command; a launcher decides"),
    ):
        with pytest.raises(SystemExit) as error:
            main(["method=ce", *options])
        assert message in str(error.value)
        assert "\n" not in str(error.value)


def test_a_plugin_that_is_not_installed() -> None:
    error = MissingConfigException("", missing_cfg_file="hydra/launcher/submitit_slurm", options=["basic"])
    assert composition_message(error).endswith("is not installed; pip install hydra-submitit-launcher")


@pytest.mark.slow
@pytest.mark.processes
@pytest.mark.parametrize("launcher", PLUGINS)
def test_a_sweep(launcher: str, tmp_path: Path) -> None:
    """One run, and then three, two of which are new."""
    needs(launcher)
    fixed = ["trainer=cpu", *SMALL, "trainer.max_epochs=2", f"hydra/launcher={launcher}"]
    text = output(start("noisylabels_pl.sweep", "method=ce", *fixed, cwd=tmp_path))
    assert "1 runs, 0 of them finished before" in text
    (first,) = tmp_path.glob("sweeps/*/ce/*/result.json")
    before = first.stat().st_mtime_ns
    text = output(start("noisylabels_pl.sweep", "method=ce,elr,gce", *fixed, cwd=tmp_path))
    assert "3 runs, 1 of them finished before" in text
    assert len(list(tmp_path.glob("sweeps/*/*/*/result.json"))) == 3
    assert first.stat().st_mtime_ns == before
    table = output(start("noisylabels_pl.table", "sweeps", cwd=tmp_path))
    assert "unfinished" not in table


@pytest.mark.slow
@pytest.mark.processes
@pytest.mark.parametrize("launcher", PLUGINS)
def test_hydras_own_sweep(launcher: str, tmp_path: Path) -> None:
    needs(launcher)
    options = ["trainer=cpu", *SMALL, "trainer.max_epochs=1", "hydra.sweep.dir=sweep", f"hydra/launcher={launcher}"]
    output(start("noisylabels_pl", "-m", "method=ce,elr", *options, cwd=tmp_path))
    names = [json.loads((tmp_path / "sweep" / job / "result.json").read_text())["name"] for job in "01"]
    assert [name.split()[0] for name in names] == ["ce", "elr"]


@pytest.mark.slow
@pytest.mark.processes
def test_a_preempted_job_goes_on_when_the_scheduler_starts_it_again(tmp_path: Path) -> None:
    """Submitit's signal for it is SIGUSR2, on this machine as on a cluster."""
    needs("submitit_local")
    options = ["method=ce", "trainer=cpu", *SMALL, "trainer.max_epochs=60", "hydra/launcher=submitit_local"]
    process = start("noisylabels_pl.sweep", *options, cwd=tmp_path)
    (cell,) = make_cells(options[:-1], tmp_path / "sweeps")
    wait_for_lines(process, cell.folder / "metrics.csv", 10)
    (job,) = tmp_path.glob("sweeps/.launcher/*/.submitit/*/*_submitted.pkl")
    controller = job.name.partition("_")[0]
    (child,) = Path(f"/proc/{controller}/task/{controller}/children").read_text().split()
    os.kill(int(child), signal.SIGUSR2)
    output(process)
    assert len((cell.folder / "metrics.csv").read_text().splitlines()) == 61
    log = (cell.folder / "log.txt").read_text()
    assert "The last finished epoch is saved" in log
    assert log.count("epoch 1/60") == 1


@pytest.mark.slow
@pytest.mark.processes
def test_two_machines_by_torchrun_give_the_weights_of_one_with_two_devices(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = ["method=crust", *SMALL, "trainer=ddp_cpu", "trainer.max_epochs=6"]
    machines = []
    for rank in "01":
        torchrun = ["--nnodes=2", f"--node-rank={rank}", "--nproc-per-node=1", "--master-addr=127.0.0.1"]
        command = [*torchrun, f"--master-port={port}", "-m", "noisylabels_pl", *options]
        command += ["trainer.num_nodes=2", "trainer.devices=1", "hydra.run.dir=two"]
        machines.append(start("torch.distributed.run", *command, cwd=tmp_path))
    texts = [output(machine) for machine in machines]
    assert [text.count("epoch 6/6") for text in texts] == [1, 0]
    output(start("noisylabels_pl", *options, "hydra.run.dir=one", cwd=tmp_path))
    one, two = (torch.load(tmp_path / run / "checkpoints" / "last.ckpt", weights_only=True) for run in ("one", "two"))
    for name, weights in one["state_dict"].items():
        assert torch.equal(weights, two["state_dict"][name])
