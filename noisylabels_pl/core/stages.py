"""Methods that need several fits, each of which builds on the ones before."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import lightning as L
import torch
from lightning.pytorch.callbacks import Checkpoint
from torch import Tensor

from noisylabels_pl.core.task import TaskName
from noisylabels_pl.data.files import save_tensors

Artifacts = dict[str, Tensor]
"""The results that stages hand on, by name: a transition matrix, labels, indices, weights."""

_WEIGHTS_PREFIX = "weights/"  # of the names, among the artifacts, of a network's weights
_log = logging.getLogger(__name__)


def _no_artifacts(trainer: L.Trainer, module: L.LightningModule) -> Artifacts:
    return {}


def _leave_module_as_is(module: L.LightningModule, artifacts: Artifacts) -> None:
    pass


@dataclass(frozen=True)
class Stage:
    """One ordinary fit of a :class:`StagedMethod`.

    Attributes:
        name: of the stage, and of its folder.
        method: takes the artifacts of earlier stages, and returns the method to train with: a criterion, a callback, or
            any other method.
        outputs: takes the fitted ``(trainer, module)``, and returns the artifacts that this stage adds. It runs on all
            ranks; the first rank's artifacts are used.
        initialize: called with the fresh module and the artifacts before the fit, for example to load weights.
        max_epochs: of this stage; the Trainer's if not given.
        monitor: metric that chooses its best checkpoint, ``val/loss`` or ``val/acc``; the run's if not given.
    """

    name: str
    method: Callable[[Artifacts], Any]
    outputs: Callable[[L.Trainer, L.LightningModule], Artifacts] = _no_artifacts
    initialize: Callable[[L.LightningModule, Artifacts], None] = _leave_module_as_is
    max_epochs: int | None = None
    monitor: str | None = None


class StagedMethod(ABC):
    """A method of several stages, each of which trains with a method of its own."""

    tasks: ClassVar[tuple[TaskName, ...]] = ("classification",)
    depends_on_batch: ClassVar[bool] = False  # whether splitting a batch across ranks changes the result

    @property
    def reveals(self) -> tuple[str, ...]:
        """Ground-truth quantities that the user asked to reveal to the method: ``("T",)`` for the configured matrix."""
        return ()

    @abstractmethod
    def stages(self) -> list[Stage]:
        """Return the stages in the order in which they are fitted; a run reports the last one's results."""


def run_stages(
    stages: Sequence[Stage],
    folder: Path,
    fit: Callable[[Stage, Artifacts], tuple[L.Trainer, L.LightningModule]],
    *,
    resume: bool = False,
    given: Artifacts | None = None,
) -> Artifacts:
    """Fit one stage after another, and save the artifacts of each in ``folder/<name>.pt``.

    Args:
        stages: with different names.
        folder: exists, and is the same for all ranks.
        fit: trains one stage. When resuming, it continues from the checkpoint that it finds.
        resume: whether to use the artifacts of an earlier run instead of fitting those stages again. The last stage is
            always fitted, so that there is something to report.
        given: artifacts that the first stage already has.

    Returns:
        The artifacts of all stages.

    Raises:
        ValueError: two stages have the same name, or add an artifact of the same name.
    """
    _check_names(stages)
    files = [folder / f"{stage.name}.pt" for stage in stages]
    if not resume:
        for file in files:  # a later resume would mistake an older run's files for this run's
            file.unlink(missing_ok=True)
    artifacts = dict(given or {})
    for stage, file in zip(stages, files, strict=True):
        if resume and file.is_file() and stage is not stages[-1]:
            added: Artifacts = torch.load(file, weights_only=True)
            _log.info("stage %s was finished before and left %s", stage.name, ", ".join(added) or "nothing")
        else:
            trainer, module = fit(stage, artifacts)
            added = _outputs(stage, trainer, module)
            if repeated := artifacts.keys() & added.keys():
                raise ValueError(f"stage {stage.name} adds {', '.join(sorted(repeated))}, as an earlier stage does")
            if trainer.is_global_zero and len(stages) > 1:
                # All-or-nothing: a half-written file would pass for a finished stage.
                save_tensors(added, file)
        artifacts |= added
    return artifacts


def load_best_weights(trainer: L.Trainer, module: L.LightningModule) -> bool:
    """Load the weights of the epoch with the lowest noisy-validation loss into a fitted module.

    Args:
        trainer: of a stage with ``monitor="val/loss"``.
        module: that it fitted.

    Returns:
        Whether that epoch was saved; if not, the module keeps its last weights.
    """
    callbacks: list[L.Callback] = trainer.callbacks  # type: ignore[attr-defined]
    for callback in callbacks:
        if isinstance(callback, Checkpoint) and getattr(callback, "monitor", None) == "val/loss":
            path: str = callback.best_model_path  # type: ignore[attr-defined]
            if path:
                state = torch.load(path, map_location="cpu", weights_only=True)
                module.load_state_dict(state["state_dict"])
                return True
    return False


def saved_weights(module: L.LightningModule) -> Artifacts:
    """Return a module's weights as artifacts, for :func:`load_weights` in a later stage."""
    return {f"{_WEIGHTS_PREFIX}{name}": value for name, value in module.state_dict().items()}


def load_weights(module: L.LightningModule, artifacts: Artifacts) -> None:
    """Load the weights that an earlier stage left by :func:`saved_weights`.

    Args:
        module: fresh, of the same shape.
        artifacts: of the earlier stages.

    Raises:
        ValueError: there are none.
    """
    weights = {}
    for name, value in artifacts.items():
        if name.startswith(_WEIGHTS_PREFIX):
            weights[name.removeprefix(_WEIGHTS_PREFIX)] = value
    if not weights:
        raise ValueError("the finished stage left no weights to start from; resume with the options it had")
    module.load_state_dict(weights)


def _check_names(stages: Sequence[Stage]) -> None:
    names = [stage.name for stage in stages]
    if not names or len(set(names)) < len(names):
        raise ValueError(f"a staged method needs stages of different names, got {', '.join(names) or 'none'}")


def _outputs(stage: Stage, trainer: L.Trainer, module: L.LightningModule) -> Artifacts:
    """Return the artifacts that a fitted stage adds: the first rank's, on the CPU, in all ranks."""
    added = stage.outputs(trainer, module)
    if not isinstance(added, dict) or not all(isinstance(value, Tensor) for value in added.values()):
        raise TypeError(f"outputs of stage {stage.name} must return {{name: tensor}}, got {type(added).__name__}")
    on_cpu = {name: value.cpu() for name, value in added.items()}
    artifacts: Artifacts = trainer.strategy.broadcast(on_cpu)
    return artifacts
