"""Checkpoints: how they are written, and what a damaged or foreign file says."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch

from noisylabels_pl.cli.checkpoints import (
    AtomicCheckpointIO,
    Checkpoints,
    newest_checkpoint,
    read_checkpoint,
    read_run,
)

RUN = {"noisylabels_pl": {"config": {"seed": 0}, "stage": "fit"}, "state_dict": {}, "optimizer_states": []}


class Malicious:
    def __reduce__(self) -> Any:
        return os.system, ("touch harmed",)


def write_nothing(path: Path) -> None:
    path.write_bytes(b"")


def write_half(path: Path) -> None:
    torch.save(RUN | {"weights": torch.zeros(1000)}, path)
    path.write_bytes(path.read_bytes()[:2000])


def write_text(path: Path) -> None:
    path.write_text('{"name": "a result"}')


def write_objects(path: Path) -> None:
    torch.save({"state_dict": {}, "extra": Malicious()}, path)


def write_tensor(path: Path) -> None:
    torch.save(torch.zeros(3), path)


def write_foreign(path: Path) -> None:
    torch.save({"state_dict": {}, "optimizer_states": [], "epoch": 3}, path)


def write_weights(path: Path) -> None:
    torch.save({"state_dict": {}, "epoch": 3}, path)


@pytest.mark.parametrize(
    ("write", "reason"),
    [
        (write_nothing, "is empty"),
        (write_half, "is no checkpoint, or is damaged"),
        (write_text, "is no checkpoint, or is damaged"),
        (write_objects, "holds Python objects, which are never loaded"),
        (write_tensor, "is no checkpoint: it holds a Tensor"),
        (write_foreign, "does not say of which run it is; resume from a last.ckpt that"),
        (write_weights, "holds weights only; resume from last.ckpt"),
    ],
)
def test_a_file_that_cannot_be_resumed(
    write: Any, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The line names the file and the reason, and never torch's advice to switch off weights_only."""
    monkeypatch.chdir(tmp_path)
    last = tmp_path / "last.ckpt"
    write(last)
    with pytest.raises(ValueError, match=reason) as error:
        read_run(last)
    assert str(error.value).startswith(str(last))
    assert "\n" not in str(error.value)
    assert "weights_only" not in str(error.value)
    assert not (tmp_path / "harmed").exists()
    # The checkpoint of the epoch before is the next best.
    assert newest_checkpoint(tmp_path)[0] is None
    torch.save(RUN, tmp_path / "previous.ckpt")
    assert newest_checkpoint(tmp_path) == (tmp_path / "previous.ckpt", [str(error.value)])
    torch.save(RUN, last)
    assert newest_checkpoint(tmp_path) == (last, [])


def test_a_write_that_fails_leaves_the_old_checkpoint_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint(RUN, path)

    def full(*args: Any) -> None:
        args[1].write(b"half of it")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError, match=r"last\.ckpt: No space left on device; the one of an earlier epoch is still"):
        AtomicCheckpointIO().save_checkpoint({"state_dict": {1: 2}}, path)
    with pytest.raises(OSError, match=r"No space left on device; nothing was written"):
        AtomicCheckpointIO().save_checkpoint({}, tmp_path / "other.ckpt")
    assert read_checkpoint(path) == RUN
    assert [file.name for file in tmp_path.iterdir()] == ["last.ckpt"]


def test_ctrl_c_during_a_write_is_ctrl_c(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Torch cannot end the file then, and raises an error of its own."""

    def interrupted(*args: Any) -> None:
        try:
            raise KeyboardInterrupt
        finally:
            raise RuntimeError("unexpected pos 138944 vs 138896")

    monkeypatch.setattr(torch, "save", interrupted)
    with pytest.raises(KeyboardInterrupt):
        AtomicCheckpointIO().save_checkpoint(RUN, tmp_path / "last.ckpt")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("monitor", "scores", "best"),
    [("val/acc", [0.5, float("nan"), 0.7, 0.7, 0.6], 0.7), ("val/loss", [0.5, 0.4, float("nan"), 0.4], 0.4)],
)
def test_the_first_of_the_best_epochs_counts(monitor: str, scores: list[float], best: float, tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, monitor=monitor)
    improvements = []
    for epoch, score in enumerate(scores):
        if checkpoints._is_best(score):
            checkpoints.best_score = score
            improvements.append(epoch)
    assert checkpoints.best_score == best
    assert improvements[-1] == scores.index(best)
    other = Checkpoints(tmp_path / "moved", monitor=monitor)
    other.load_state_dict(checkpoints.state_dict())
    assert other.best_score == best
    assert str(tmp_path) not in str(checkpoints.state_dict())
