"""Kills runs at random moments, resumes them by their folder, and compares every file with an uninterrupted run.

usage: python -m experiments.reliability.kill --trials 32 --output experiments/reliability/trials.jsonl

from the repository root; see README.md in this folder.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from experiments.reliability.compare import differences

SMALL = ("trainer=cpu", "threads=1", "data.train_size=400", "trainer.max_epochs=12", "net.dropout=0.1")
# Selections, tables, stages, gradient norms, filters and twins: a method of each mechanism.
METHODS: dict[str, tuple[str, ...]] = {
    "ce": (),
    "crust": ("method.warmup_epochs=3",),
    "elr": (),
    "forward": (),
    "prl_l": (),
    "prl_g": (),
    "co_prl_l": (),
    "elr_plus": (),
}
DISK_MIB = 24  # of the small disk; a run with three checkpoints takes up to 10


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--trials", type=int, default=100)
    parser.add_argument("--scenarios", nargs="+", choices=SCENARIOS, default=list(SCENARIOS))
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--tmpdir", type=Path, help="for temporary files, best on another file system")
    parser.add_argument("--output", type=Path, required=True, help="JSON Lines: a row for each trial is appended")
    options = parser.parse_args()

    rng = random.Random(options.seed)
    work = Path(tempfile.mkdtemp(prefix="kill-"))
    wholes: dict[str, tuple[Path, float]] = {}
    rows = []
    for number in range(options.trials):
        method = options.methods[number % len(options.methods)]
        scenario = options.scenarios[number // len(options.methods) % len(options.scenarios)]
        if method not in wholes:
            wholes[method] = run_whole(work / f"whole-{method}", method)
        whole, seconds = wholes[method]
        trial = Trial(method, work / f"trial-{number}", seconds, rng, options.tmpdir)
        folder = SCENARIOS[scenario](trial)
        trial.resume(folder)
        lost = not (folder / "result.json").exists()
        found = [] if lost else differences(whole, folder)
        commit = json.loads((whole / "result.json").read_text())["commit"]
        row = {
            "commit": commit,
            "method": method,
            "scenario": scenario,
            **trial.seen,
            "equal": not lost and not found,
            "lost": lost,
        }
        row["differences"] = found[:5]
        rows.append(row)
        print(json.dumps(row), flush=True)
        with options.output.open("a") as file:
            file.write(json.dumps(row) + "\n")
        trial.tidy_up()
    shutil.rmtree(work)
    print(f"{len(rows)} trials, {sum(row['equal'] for row in rows)} equal, {sum(row['lost'] for row in rows)} lost")


def run_whole(folder: Path, method: str) -> tuple[Path, float]:
    """Run a method uninterrupted; return its folder, and the seconds from its first file to its last."""
    subprocess.run(command(folder, method), check=True, stdout=subprocess.DEVNULL)
    return folder, (folder / "result.json").stat().st_mtime - (folder / "run.json").stat().st_mtime


def command(folder: Path, method: str) -> list[str]:
    """Return the command of a run in a folder whose path has no special characters."""
    overrides = [*SMALL, *METHODS[method], f"method={method}", f"hydra.run.dir={folder}"]
    return [sys.executable, "-m", "noisylabels_pl", *overrides]


class Trial:
    """One run that is interrupted and resumed.

    Attributes:
        method: to train with.
        folder: of the run.
        seconds: that the whole run takes.
        seen: what the row says of the trial.
    """

    def __init__(self, method: str, folder: Path, seconds: float, rng: random.Random, tmpdir: Path | None) -> None:
        self.method = method
        self.folder = folder
        self.seconds = seconds
        self.rng = rng
        self.environment = os.environ | ({} if tmpdir is None else {"TMPDIR": str(tmpdir)})
        self.seen: dict[str, Any] = {}
        self.disks: list[Path] = []

    def start(self, folder: Path) -> subprocess.Popen[bytes]:
        """Start the run; return when its folder has its first file."""
        process = subprocess.Popen(
            command(folder, self.method), env=self.environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        wait_until((folder / "run.json").exists, process)
        return process

    def kill(self, process: subprocess.Popen[bytes], folder: Path) -> None:
        """Kill the run, and note how far it was."""
        process.send_signal(signal.SIGKILL)
        process.communicate()
        self.seen["killed"] = process.returncode == -signal.SIGKILL
        self.seen["epochs"] = sum(len(path.read_text().splitlines()) - 1 for path in folder.rglob("metrics.csv"))
        self.seen["partial_files"] = len(list(folder.rglob(".*.partial")))

    def resume(self, folder: Path) -> None:
        """Resume the run by its folder."""
        resume = [sys.executable, "-m", "noisylabels_pl.resume", str(folder)]
        done = subprocess.run(resume, env=self.environment, capture_output=True, text=True)
        if done.returncode:
            self.seen["error"] = done.stderr[-300:].replace(str(self.folder), "FOLDER")

    def tidy_up(self) -> None:
        """Remove the run's files."""
        for disk in self.disks:
            subprocess.run(["umount", disk], check=True)
        for folder in self.folder.parent.glob(f"{self.folder.name}*"):
            shutil.rmtree(folder)


def kill_at_random(trial: Trial) -> Path:
    """Kill the run at a moment that is uniform over its duration."""
    process = trial.start(trial.folder)
    seconds = trial.rng.uniform(0, trial.seconds)
    trial.seen["seconds"] = round(seconds, 3)
    time.sleep(seconds)
    trial.kill(process, trial.folder)
    return trial.folder


def kill_while_writing(trial: Trial) -> Path:
    """Kill the run while it writes a file, the first one after a random moment."""
    process = trial.start(trial.folder)
    time.sleep(trial.rng.uniform(0, trial.seconds))
    wait_until(lambda: any(trial.folder.glob("**/.*.partial")), process, pause=0)
    trial.kill(process, trial.folder)
    return trial.folder


def kill_and_move(trial: Trial) -> Path:
    """Kill the run at a random moment, and give its folder a name that shells and Hydra do not like."""
    folder = kill_at_random(trial)
    return folder.rename(folder.with_name(f"{folder.name} müller's [${{x}}] (1)"))


def fill_the_disk(trial: Trial) -> Path:
    """Let the disk be full at a random moment, until the run has ended."""
    disk = trial.folder.with_name(f"{trial.folder.name}-disk")
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_MIB}m", "tmpfs", disk], check=True)
    trial.disks.append(disk)
    folder = disk / "run"
    process = trial.start(folder)
    time.sleep(trial.rng.uniform(0, trial.seconds / 2))  # later, some runs have nothing to write any more
    with filled(disk):
        _, errors = process.communicate()
        trial.seen["exit_code"] = process.returncode
        trial.seen["message"] = errors.decode().strip()[:300].replace(str(disk), "DISK")
    return folder


@contextmanager
def filled(disk: Path) -> Any:
    """Fill a disk to its last byte while the block runs."""
    filler = disk / "filler"
    with suppress(OSError), filler.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(2**12))
    try:
        yield
    finally:
        filler.unlink()


def wait_until(condition: Callable[[], bool], process: subprocess.Popen[bytes], pause: float = 0.002) -> None:
    """Wait for a condition, or for the end of the process."""
    while process.poll() is None and not condition():
        time.sleep(pause)


SCENARIOS: dict[str, Callable[[Trial], Path]] = {
    "random": kill_at_random,
    "writing": kill_while_writing,
    "moved": kill_and_move,
    "full disk": fill_the_disk,
}


if __name__ == "__main__":
    main()
