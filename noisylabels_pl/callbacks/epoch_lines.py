"""One line of text an epoch, where a progress bar cannot be shown."""

from __future__ import annotations

import time

import lightning as L
from rich.console import Console

# Metrics of a line, in this order; a run has some of them. The numbers of an accuracy are fractions.
_METRICS = ("train/loss", "val/acc", "test/acc", "val/r2", "test/r2")


class EpochLines(L.Callback):
    """Prints a line after each epoch: its metrics, and the time that is left.

    The time left is the mean time of the epochs so far, times the epochs that remain.

    Args:
        stage: a name in front of each line, for a method of several fits.

    Example:
        >>> trainer = L.Trainer(callbacks=[EpochLines()], logger=False, enable_checkpointing=False)
    """

    def __init__(self, stage: str | None = None) -> None:
        self.stage = stage
        self._start = 0.0
        self._first_epoch = 0

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._start = time.monotonic()
        self._first_epoch = trainer.current_epoch

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        num_finished = trainer.current_epoch + 1
        metrics = trainer.callback_metrics
        parts = [f"{name} {metrics[name]:.4f}" for name in _METRICS if name in metrics]
        seconds = (time.monotonic() - self._start) / (num_finished - self._first_epoch)
        of_all = ""
        if trainer.max_epochs is not None and trainer.max_epochs > 0:
            of_all = f"/{trainer.max_epochs}"
            parts.append(f"{duration(seconds * (trainer.max_epochs - num_finished))} left")
        prefix = "" if self.stage is None else f"{self.stage}, "
        line = f"{prefix}epoch {num_finished}{of_all}: {', '.join(parts)}"
        Console().print(line, soft_wrap=True, highlight=False, markup=False)


def duration(seconds: float) -> str:
    """Return a duration for people.

    Example:
        >>> [duration(seconds) for seconds in (4.4, 70, 7300)]
        ['4 s', '1 min 10 s', '2 h 1 min']
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
