"""What every method owes to people with several devices, and to those whose machine is switched off."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.helpers import ROOT, wait_for_lines
from tests.processes import run_on_two_ranks

from .methods import EPOCHS, assert_same, cuts_batches, depends_on_batch, one_of_each_mechanism, record

pytestmark = pytest.mark.processes


@pytest.mark.parametrize("method", one_of_each_mechanism())
def test_two_processes(method: str, plain_record: Callable[[str], dict[str, Any]], tmp_path: Path) -> None:
    one = plain_record(method)
    ranks = run_on_two_ranks(record, method, tmp_path / "run", "trainer=ddp_cpu", folder=tmp_path)

    for key in ("weights", "optimizers", "schedulers", "callbacks", "tables", "steps", "given", "validated"):
        assert_same(ranks[0][key], ranks[1][key], key)
    assert ranks[0]["validated"][-EPOCHS:] == list(range(EPOCHS))
    for epoch, given in ranks[0]["given"].items():
        visited = [rank["visited"][epoch] for rank in ranks]
        if cuts_batches(method):
            assert set(visited[0] + visited[1]) <= set(given)
            continue
        assert len(visited[0]) == len(visited[1]) == -(-len(given) // 2)
        assert sorted(set(visited[0] + visited[1])) == sorted(given)

    if depends_on_batch(method):
        return
    # A sum of two halves rounds differently from a sum. Where samples are chosen that may tip a choice, and an odd
    # number of them makes the ranks repeat one; until then the algorithm is the same.
    everything = list(range(len(one["given"][0])))
    alike = next((epoch for epoch, given in one["given"].items() if given != everything), EPOCHS)
    for name in one["history"].keys() & {"train/loss", "val/acc", "test/acc", "val/r2", "test/r2"}:
        expected = one["history"][name][:alike]
        assert ranks[0]["history"][name][:alike] == pytest.approx(expected, rel=1e-3, abs=0.01)
    if alike == EPOCHS:
        # By lengths, because a unit that is about to rest may do so in one of the two only.
        for name, weight in one["weights"].items():
            assert (ranks[0]["weights"][name] - weight).norm() <= 5e-3 * weight.norm() + 1e-4, name
    else:
        chosen, alone = (set(run["given"][alike]) for run in (ranks[0], one))
        assert len(chosen ^ alone) <= 0.04 * len(alone)


def test_killed_and_resumed_equals_uninterrupted(tmp_path: Path) -> None:
    """A process that is killed writes nothing more; what it wrote before must be enough."""
    folder = tmp_path / "run"
    folder.mkdir()
    command = [sys.executable, str(Path(__file__).with_name("worker.py")), "crust", str(folder)]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    pipes: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen([*command, "trainer.max_epochs=60", "logger=csv"], env=environment, cwd=folder, **pipes)
    metrics = folder / "metrics.csv"
    wait_for_lines(process, metrics, 9)  # past the first selections
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not (folder / "record.pt").exists()
    last = folder / "checkpoints" / "last.ckpt"
    stopped = torch.load(last, weights_only=True)["epoch"]
    assert 5 < stopped < 59
    overrides = (f"trainer.max_epochs={stopped + 4}", "logger=csv")
    resumed = record("crust", folder, *overrides, f"resume={last}")
    whole = record("crust", tmp_path / "whole", *overrides)
    for epoch, visited in resumed.pop("visited").items():
        assert visited == whole["visited"][epoch]
    for key in ("weights", "optimizers", "schedulers", "callbacks", "steps"):
        assert_same(resumed[key], whole[key], key)
    assert len(metrics.read_text().splitlines()) == 1 + stopped + 4
