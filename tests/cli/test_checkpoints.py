"""Checkpoints: what is in them, when they are written, and what a crash leaves of them."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch

from noisylabels_pl.cli.checkpoints import (
    BEST,
    LAST,
    PREVIOUS,
    WEIGHTS,
    AtomicCheckpointIO,
    Checkpoints,
    newest_checkpoint,
    read_checkpoint,
    read_run,
)

Make = Callable[..., Any]
RUN = {"config": {"seed": 0}, "stage": "fit"}


class Scores(L.Callback):
    """Logs one score for each epoch, and may stop the fit."""

    def __init__(self, *scores: float, stop_after: int = 99) -> None:
        self.scores = scores
        self.stop_after = stop_after

    def on_train_batch_start(self, trainer: L.Trainer, *_: Any) -> None:
        if trainer.current_epoch > self.stop_after:
            raise InterruptedError("stopped")

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        pl_module.log("val/loss", self.scores[trainer.current_epoch])


@pytest.fixture
def fit(digits: Make, classifier: Make, make_trainer: Make) -> Callable[..., Checkpoints]:
    def run(folder: Path, scores: Scores, resume: Path | None = None, **options: Any) -> Checkpoints:
        checkpoints = Checkpoints(folder, **({"monitor": "val/loss", "run": RUN} | options))
        trainer = make_trainer(
            scores,
            checkpoints,
            max_epochs=len(scores.scores),
            enable_checkpointing=True,
            plugins=[AtomicCheckpointIO()],
            limit_val_batches=0,
        )
        trainer.fit(classifier(), datamodule=digits(), ckpt_path=resume)
        return checkpoints

    return run


def epoch(path: Path) -> int:
    return read_checkpoint(path)["epoch"]


def test_a_resumed_fit_knows_the_best_epoch(fit: Callable[..., Checkpoints], tmp_path: Path) -> None:
    """Epoch 1 is the best; the fit is stopped once it is saved. Epoch 2 must not become the best after the resume."""
    scores = (3.0, 1.0, 2.0, 2.5)
    fit(tmp_path / "whole", Scores(*scores))
    with pytest.raises(InterruptedError):
        fit(tmp_path / "run", Scores(*scores, stop_after=1))
    moved = (tmp_path / "run").rename(tmp_path / "moved")
    checkpoints = fit(moved, Scores(*scores), moved / LAST)
    for folder in (tmp_path / "whole", moved):
        assert epoch(folder / BEST) == 1
        assert epoch(folder / LAST) == 3
    assert checkpoints.best_score == 1
    assert checkpoints.best_model_path == str(moved / BEST)


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
    [
        ("val/loss", (float("nan"), 2.0, 2.0, 3.0), 1),
        ("val/acc", (1.0, 2.0, 2.0, float("nan")), 1),
        ("val/loss", (float("nan"), float("nan")), None),
    ],
)
def test_the_best_epoch(
    monitor: str, scores: tuple[float, ...], best: int | None, fit: Callable[..., Checkpoints], tmp_path: Path
) -> None:
    logged = Scores(*scores)
    logged.on_train_epoch_end = lambda trainer, module: module.log(monitor, scores[trainer.current_epoch])  # type: ignore[method-assign]
    checkpoints = fit(tmp_path, logged, monitor=monitor)
    assert (epoch(tmp_path / BEST) if checkpoints.best_model_path else None) == best
    assert (tmp_path / BEST).exists() == (best is not None)


@pytest.mark.parametrize(
    ("options", "files"),
    [
        ({}, {LAST, BEST}),
        ({"saving": "weights"}, {WEIGHTS}),
        ({"saving": False}, set()),
        ({"saving": False, "always_best": True}, {BEST}),
        ({"monitor": None}, {LAST}),
    ],
)
def test_what_is_saved(
    options: dict[str, Any], files: set[str], fit: Callable[..., Checkpoints], tmp_path: Path
) -> None:
    fit(tmp_path / "run", Scores(2.0, 1.0), **options)
    saved = {path.name for path in tmp_path.glob("run/*")}
    assert saved == files
    for name in saved:
        assert ("optimizer_states" in read_checkpoint(tmp_path / "run" / name)) == (name == LAST)


def test_the_epoch_before_is_kept_during_the_fit_alone(fit: Callable[..., Checkpoints], tmp_path: Path) -> None:
    with pytest.raises(InterruptedError):
        fit(tmp_path, Scores(3.0, 2.0, 1.0, stop_after=1))
    assert (epoch(tmp_path / PREVIOUS), epoch(tmp_path / LAST)) == (0, 1)
    fit(tmp_path, Scores(3.0, 2.0, 1.0), tmp_path / LAST)
    assert not (tmp_path / PREVIOUS).exists()


def test_dropout_draws_the_same_after_a_resume(make_trainer: Make, digits: Make, tmp_path: Path) -> None:
    class Draws(L.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(1, 1)
            self.drawn: list[float] = []

        def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
            self.drawn.append(float(torch.rand(())))
            return self.layer(torch.ones(1)).sum()

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), lr=0.1)

    def draws(epochs: int, folder: str, resume: Path | None = None) -> list[float]:
        L.seed_everything(1, verbose=False)
        module = Draws()
        trainer = make_trainer(Checkpoints(tmp_path / folder), max_epochs=epochs, enable_checkpointing=True)
        trainer.fit(module, digits().train_dataloader(), ckpt_path=resume)
        return module.drawn

    whole = draws(3, "whole")
    first = draws(1, "run")
    assert whole == first + draws(3, "run", tmp_path / "run" / LAST)


# --- files ------------------------------------------------------------------------------------------------------------


class Runs:
    """An object that does harm when it is unpickled."""

    def __reduce__(self) -> Any:
        return os.mkdir, ("harm",)


def write(kind: str, path: Path, whole: Path) -> None:
    content = whole.read_bytes()
    if kind == "empty":
        path.write_bytes(b"")
    elif kind == "truncated":
        path.write_bytes(content[: len(content) // 2])
    elif kind == "foreign":
        path.write_text('{"a": 1}')
    elif kind == "malicious":
        torch.save({"state_dict": {}, "x": Runs()}, path)
    elif kind == "an old pickle":
        path.write_bytes(pickle.dumps(Runs()))
    elif kind == "a tensor":
        torch.save(torch.zeros(2), path)


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("empty", "is empty"),
        ("truncated", "is no checkpoint, or is damaged"),
        ("foreign", "is no checkpoint, or is damaged"),
        ("malicious", "holds Python objects, which are never loaded"),
        ("an old pickle", "is no checkpoint, or is damaged"),
        ("a tensor", "is no checkpoint: it holds a Tensor"),
    ],
)
def test_bad_files_are_named_in_one_line_and_passed_over(
    kind: str, reason: str, fit: Callable[..., Checkpoints], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InterruptedError):
        fit(tmp_path, Scores(2.0, 1.0, 0.0, stop_after=1))
    last = tmp_path / LAST
    write(kind, tmp_path / "bad", last)
    (tmp_path / "bad").rename(last)
    for read in (read_run, AtomicCheckpointIO().load_checkpoint):
        with pytest.raises(ValueError, match=reason) as info:
            read(last)
        message = str(info.value)
        assert message.startswith(str(last))
        assert "\n" not in message
        assert "weights_only" not in message
    newest, problems = newest_checkpoint(tmp_path)
    assert newest == tmp_path / PREVIOUS
    assert len(problems) == 1
    assert not (tmp_path / "harm").exists()


def test_checkpoints_that_no_fit_can_be_resumed_from(fit: Callable[..., Checkpoints], tmp_path: Path) -> None:
    fit(tmp_path, Scores(1.0))
    with pytest.raises(ValueError, match=r"best.ckpt holds weights only; resume from last.ckpt"):
        read_run(tmp_path / BEST)
    torch.save({"state_dict": {}, "optimizer_states": []}, tmp_path / "other.ckpt")
    with pytest.raises(ValueError, match=r"other.ckpt does not say of which run it is; resume from a last.ckpt"):
        read_run(tmp_path / "other.ckpt")
    assert read_run(tmp_path / LAST).items() >= RUN.items()


def test_nothing_is_written_to_the_folder_for_temporary_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "gone"))
    AtomicCheckpointIO().save_checkpoint({"epoch": 0}, tmp_path / "new" / LAST)
    assert [path.name for path in (tmp_path / "new").iterdir()] == [LAST]
