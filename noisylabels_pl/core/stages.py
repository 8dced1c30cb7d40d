"""Methods that need several fits, each building on what the ones before found out."""

from __future__ import annotations

import logging
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import lightning as L
import torch
from torch import Tensor

Artifacts = dict[str, Tensor]
"""What stages hand on, by name: a transition matrix, labels, indices, weights."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Stage:
    """One ordinary fit of a :class:`StagedMethod`.

    Attributes:
        name: of the stage, and of its folder.
        method: from the artifacts of earlier stages to what this one trains with: a criterion, a callback, or whatever
            else is a method.
        outputs: from the fitted ``(trainer, module)`` to the artifacts that this stage adds; called on all ranks, the
            first one's count.
        initialize: called with the fresh module and the artifacts before the fit, to start from given weights for example.
        max_epochs: of this stage; the Trainer's if not given.
        monitor: what its best checkpoint is chosen by, ``val/loss`` or ``val/acc``; the run's choice if not given.
    """

    name: str
    method: Callable[[Artifacts], Any]
    outputs: Callable[[L.Trainer, L.LightningModule], Artifacts] = lambda trainer, module: {}
    initialize: Callable[[L.LightningModule, Artifacts], None] = lambda module, artifacts: None
    max_epochs: int | None = None
    monitor: str | None = None


class StagedMethod(ABC):
    """A method of several stages, each trained with a method of its own."""

    tasks: ClassVar[tuple[str, ...]] = ("classification",)

    @property
    def reveals(self) -> tuple[str, ...]:
        """What of the noise it is to be told, on the user's explicit wish: ``("T",)`` for the configured matrix."""
        return ()

    @abstractmethod
    def stages(self) -> list[Stage]:
        """In the order in which they are fitted; what a run reports is the last one's."""


def run_stages(
    stages: Sequence[Stage],
    folder: Path,
    fit: Callable[[Stage, Artifacts], tuple[L.Trainer, L.LightningModule]],
    *,
    resume: bool = False,
    given: Artifacts | None = None,
) -> Artifacts:
    """Fit one stage after another and keep what each hands on in ``folder/<name>.pt``.

    Args:
        stages: with different names.
        folder: exists, and is the same for all ranks.
        fit: trains one stage. When resuming it goes on from the checkpoint that it finds, and a stage that handed on
            its artifacts is not fitted again; the last one always is, so that there is something to report.
        resume: whether to look for the artifacts of an earlier run.
        given: artifacts that the first stage already has.

    Returns:
        The artifacts of all stages.

    Raises:
        ValueError: two stages have the same name, or hand on an artifact of the same name.
    """
    names = [stage.name for stage in stages]
    if not names or len(set(names)) < len(names):
        raise ValueError(f"a staged method needs stages of different names, got {', '.join(names) or 'none'}")
    artifacts: Artifacts = dict(given or {})
    if not resume:
        for stage in stages:  # of an older run, which a later resume would take for this one's
            (folder / f"{stage.name}.pt").unlink(missing_ok=True)
    for stage in stages:
        path = folder / f"{stage.name}.pt"
        if resume and path.is_file() and stage is not stages[-1]:
            added = torch.load(path, weights_only=True)
            _log.info("stage %s was finished before and left %s", stage.name, ", ".join(added) or "nothing")
        else:
            trainer, module = fit(stage, artifacts)
            added = stage.outputs(trainer, module)
            if not isinstance(added, dict) or not all(isinstance(value, Tensor) for value in added.values()):
                raise TypeError(
                    f"outputs of stage {stage.name} must return {{name: tensor}}, got {type(added).__name__}"
                )
            added = {name: value.cpu() for name, value in added.items()}
            added = trainer.strategy.broadcast(added)
            if twice := artifacts.keys() & added.keys():
                raise ValueError(f"stage {stage.name} hands on {', '.join(sorted(twice))}, as an earlier stage does")
            if trainer.is_global_zero and len(stages) > 1:
                _save(added, path)
        artifacts |= added
    return artifacts


def _save(artifacts: Artifacts, path: Path) -> None:
    """All or nothing, because a half-written file would pass for a finished stage."""
    partial = path.with_suffix(".partial")
    torch.save(artifacts, partial)
    os.replace(partial, path)
