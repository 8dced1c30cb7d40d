"""The checkpoints of a run: when they are written, how, and how they are read back."""

from __future__ import annotations

import os
import pickle
import zipfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

import lightning as L
import torch
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.plugins import TorchCheckpointIO

from noisylabels_pl.cli.run_files import BEST, LAST, PREVIOUS, WEIGHTS
from noisylabels_pl.data.files import save_tensors

Saving = Literal[True, False, "weights"]
"""``True``: ``last.ckpt`` and ``best.ckpt``; ``"weights"``: ``weights.ckpt`` at the end; ``False``: none."""

# The entry of a checkpoint that this file adds to Lightning's.
_RUN = "noisylabels_pl"

# Everything that torch raises for a file that is cut off, damaged, of another format, or of pickled objects.
_UNREADABLE = (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, TypeError, KeyError, AttributeError, OSError)


class Checkpoints(Checkpoint):
    """Writes the checkpoints of a fit.

    After every epoch it writes ``best.ckpt``, if the epoch is the best so far, and then ``last.ckpt``. In this order,
    because ``last.ckpt`` holds the best score: a resumed run must know the score of the ``best.ckpt`` that it finds. No
    path is part of the state, so a run's folder can be moved.

    * ``last.ckpt`` has all that a resumed fit needs, the state of torch's random numbers and the run's configuration
      included. During the fit ``previous.ckpt`` holds the epoch before, for the case that ``last.ckpt`` gets damaged.
    * ``best.ckpt`` has the weights of the epoch with the best ``monitor``, of the first one if several are equal.
    * ``weights.ckpt`` has the weights after the last epoch.

    Args:
        folder: for the checkpoints.
        saving: the files to write. ``True``: ``last.ckpt`` and ``best.ckpt``; ``"weights"``: ``weights.ckpt`` at the
            end; ``False``: none of them.
        monitor: the metric that chooses ``best.ckpt``; a name that ends in ``loss`` is minimized, others are maximized.
            ``None``: no ``best.ckpt``.
        always_best: whether to write ``best.ckpt`` whatever ``saving`` is.
        run: the resolved ``config`` of the run and the name of its ``stage``, as JSON types, for ``last.ckpt``.

    Attributes:
        best_score: the best value of ``monitor`` so far; ``None`` before there is one.

    Example:
        >>> checkpoints = Checkpoints(Path("run/checkpoints"), monitor="val/acc")
        >>> trainer = L.Trainer(callbacks=[checkpoints], plugins=[AtomicCheckpointIO()], logger=False)
        >>> checkpoints.best_model_path  # none yet
        ''
    """

    def __init__(
        self,
        folder: Path,
        *,
        saving: Saving = True,
        monitor: str | None = None,
        always_best: bool = False,
        run: Mapping[str, Any] | None = None,
    ) -> None:
        self.folder = folder
        self.saving = saving
        self.monitor = monitor
        self.always_best = always_best
        self.run = dict(run or {})
        self.best_score: float | None = None
        # Of the checkpoint that the fit was resumed from. Lightning does not save metrics, and a checkpoint that was
        # written between validation and the end of its epoch is resumed without another validation.
        self._resumed_score: float | None = None
        self._random_state: dict[str, torch.Tensor] | None = None

    @property
    def best_model_path(self) -> str:
        """The path of ``best.ckpt``; empty if there is none."""
        path = self.folder / BEST
        return str(path) if self.best_score is not None and path.is_file() else ""

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self._random_state is not None:
            _set_random_state(self._random_state, pl_module.device)
            self._random_state = None

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        if self.monitor is not None and (self.saving is True or self.always_best):
            score = trainer.callback_metrics.get(self.monitor, self._resumed_score)
            # All ranks must save, or none: saving waits for all of them.
            if trainer.strategy.reduce_boolean_decision(score is not None and self._is_best(float(score))):
                assert score is not None
                self.best_score = float(score)
                trainer.save_checkpoint(self.folder / BEST, weights_only=True)
        if self.saving is True:
            if trainer.is_global_zero:
                self._keep_previous()
            trainer.save_checkpoint(self.folder / LAST)

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self.saving == "weights" and not trainer.fast_dev_run:  # type: ignore[attr-defined]
            trainer.save_checkpoint(self.folder / WEIGHTS, weights_only=True)
        if trainer.is_global_zero:
            (self.folder / PREVIOUS).unlink(missing_ok=True)

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        score = None if self.monitor is None else trainer.callback_metrics.get(self.monitor)
        checkpoint[_RUN] = {
            **self.run,
            "random_state": _get_random_state(pl_module.device),
            "score": None if score is None else float(score),
        }

    def on_load_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        run = checkpoint.get(_RUN, {})
        self._random_state = run.get("random_state")
        self._resumed_score = run.get("score")

    def state_dict(self) -> dict[str, Any]:
        return {"best_score": self.best_score}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best_score = state_dict["best_score"]

    def _is_best(self, score: float) -> bool:
        """Return whether a score is better than the best one so far. NaN never is."""
        if self.best_score is None:
            return score == score
        assert self.monitor is not None
        return score < self.best_score if self.monitor.endswith("loss") else score > self.best_score

    def _keep_previous(self) -> None:
        """Let ``previous.ckpt`` name the file that ``last.ckpt`` still names, which takes no space of its own."""
        last, previous = self.folder / LAST, self.folder / PREVIOUS
        if not last.exists():
            return
        previous.unlink(missing_ok=True)
        with suppress(OSError):  # a file system without hard links; last.ckpt alone must do there
            os.link(last, previous)


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint beside the file that it replaces, so that a crash or a full disk leaves the old one whole.

    Lightning's own way writes to the folder for temporary files and copies the file from there, if that folder lies on
    another file system; an interruption of the copy destroys the old checkpoint, too.

    Example:
        >>> trainer = L.Trainer(plugins=[AtomicCheckpointIO()], logger=False, enable_checkpointing=False)
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        save_tensors(checkpoint, path)

    def load_checkpoint(
        self,
        path: str | Path,
        map_location: Callable[..., Any] | None = None,
        weights_only: bool | None = None,
    ) -> dict[str, Any]:
        return read_checkpoint(Path(path))


def read_checkpoint(path: Path, *, mmap: bool = False) -> dict[str, Any]:
    """Read a checkpoint to the CPU.

    Args:
        path: the file. Objects in it are never made, so a file from anywhere does no harm.
        mmap: read tensors only where they are used; for a look at the rest.

    Returns:
        The checkpoint.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is no checkpoint, or is damaged.

    Example:
        >>> read_checkpoint(Path("no/such.ckpt"))  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ...
        FileNotFoundError: there is no checkpoint ...no/such.ckpt
    """
    if not path.is_file():
        raise FileNotFoundError(f"there is no checkpoint {path.absolute()}")
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
    except _UNREADABLE as error:
        if path.stat().st_size == 0:
            reason = "is empty"
        elif isinstance(error, pickle.UnpicklingError) and zipfile.is_zipfile(path):
            reason = "holds Python objects, which are never loaded, because loading them can run any program"
        else:
            reason = "is no checkpoint, or is damaged"
        raise ValueError(f"{path} {reason}") from error
    if not isinstance(checkpoint, dict):
        raise ValueError(f"{path} is no checkpoint: it holds a {type(checkpoint).__name__}")
    return checkpoint


def read_run(path: Path) -> dict[str, Any]:
    """Return the configuration and the stage that a checkpoint keeps.

    Args:
        path: a ``last.ckpt``.

    Returns:
        The resolved ``config`` of the run, and the name of its ``stage``.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: no fit can be resumed from the file.
    """
    checkpoint = read_checkpoint(path, mmap=True)
    if "state_dict" in checkpoint and "optimizer_states" not in checkpoint:
        raise ValueError(f"{path} holds weights only; resume from {LAST}")
    run: dict[str, Any] = checkpoint.get(_RUN, {})
    if not {"config", "stage"} <= run.keys():
        raise ValueError(
            f"{path} does not say of which run it is; resume from a {LAST} that python -m noisylabels_pl wrote"
        )
    return run


def newest_checkpoint(folder: Path) -> tuple[Path | None, list[str]]:
    """Find the newest checkpoint that a fit can be resumed from.

    Args:
        folder: of the checkpoints.

    Returns:
        ``last.ckpt``, or ``previous.ckpt`` if that is damaged, or ``None`` if there is neither; and why others are not
        used.

    Example:
        >>> newest_checkpoint(Path("no/such/folder"))
        (None, [])
    """
    problems = []
    for path in (folder / LAST, folder / PREVIOUS):
        if not path.is_file():
            continue
        try:
            read_run(path)
        except ValueError as error:
            problems.append(str(error))
        else:
            return path, problems
    return None, problems


def remove_checkpoints(folder: Path) -> None:
    """Remove all checkpoints of a fit, and the folder if nothing else is in it.

    Args:
        folder: of the checkpoints.

    Example:
        >>> remove_checkpoints(Path("no/such/folder"))
    """
    for name in (LAST, PREVIOUS, BEST, WEIGHTS):
        (folder / name).unlink(missing_ok=True)
    with suppress(OSError):
        folder.rmdir()


def _get_random_state(device: torch.device) -> dict[str, torch.Tensor]:
    """Return the state of the random numbers that layers such as dropout draw."""
    state = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    return state


def _set_random_state(state: Mapping[str, torch.Tensor], device: torch.device) -> None:
    torch.set_rng_state(state["cpu"])
    if device.type == "cuda" and "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"], device)
