"""One run: from a composed configuration to a fitted network."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import torch
from hydra.utils import instantiate
from lightning.pytorch.utilities import rank_zero_warn
from omegaconf import DictConfig
from torch import Tensor

from noisylabels_pl.callbacks import DivergedError
from noisylabels_pl.cli.build import (
    SINGLE_STAGE,
    Experiment,
    build_trainer,
    check_method,
    close_wandb,
    make_method,
    task_of,
)
from noisylabels_pl.cli.checkpoints import remove_checkpoints
from noisylabels_pl.cli.lost_rank import lost_rank_error
from noisylabels_pl.cli.run_files import BEST, LAST, RESULT
from noisylabels_pl.cli.run_folder import AUTO, check_split, read_changes, resumable_checkpoint, save_config
from noisylabels_pl.core import TASKS, Artifacts, CriterionCallback, Stage, StagedMethod, run_stages
from noisylabels_pl.data import NoisyDataModule, NoisyLabels
from noisylabels_pl.data.files import load_npz, remove_partial_files
from noisylabels_pl.functional import check_choice


def train(
    config: DictConfig, folder: Path, callbacks: Sequence[L.Callback] = (), *, resume: str | None = None
) -> Experiment:
    """Fit the configured method on the configured data.

    Args:
        config: composed from ``conf/``.
        folder: the run's folder, for checkpoints, metrics, labels and the configuration. Stages before the last one
            have a folder of their name in it.
        callbacks: for the Trainer, besides those that every run has.
        resume: the path of a checkpoint to go on from, or ``auto`` to go on in ``folder`` from where a run was left
            there, if one was.

    Returns:
        The fit; of a method of several stages, the last fit. If a fit has diverged, it is the last one.

    Raises:
        ValueError: an option is out of range, or two options do not go together; or the run to go on with was trained
            with other options.
        FileNotFoundError: there is no checkpoint ``resume``, or the dataset is not where it should be.
    """
    # 1. The surroundings.
    check_choice("checkpoint", config.checkpoint, (True, False, "weights"))
    changed = read_changes(config, resume, folder)
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    L.seed_everything(config.seed, workers=True, verbose=False)

    # 2. The data, with their labels corrupted.
    noise = instantiate(config.noise, _convert_="all")
    datamodule: NoisyDataModule = instantiate(config.data, noise=noise)
    datamodule.setup()
    task = task_of(datamodule)
    check_choice("monitor", config.monitor, (f"val/{TASKS[task].metric}", "val/loss"))

    # 3. The method, as a list of stages. Most methods are a single fit.
    method, loss_callbacks = make_method(config)
    for callback in loss_callbacks:
        check_method(callback.loss, task)
    callbacks = [*callbacks, *loss_callbacks]
    revealed: Artifacts = {}
    if isinstance(method, StagedMethod):
        check_method(method, task)
        stages = method.stages()
        revealed = {name: _reveal(datamodule.labels, name) for name in method.reveals}
    else:
        stages = [Stage(SINGLE_STAGE, lambda artifacts: method)]

    # 4. One fit for each stage.
    fitter = StageFitter(config, folder, datamodule, stages, callbacks, resume if changed is not None else None)
    if changed is None:
        fitter.remove_checkpoints()
    else:
        check_split(changed, _depends_on_batch(method))
        fitter.check_resume(changed)
    try:
        artifacts = run_stages(stages, folder, fitter.fit, resume=changed is not None, given=revealed)
    except DivergedError as error:
        return replace(fitter.experiment, diverged=error)
    return replace(fitter.experiment, artifacts=artifacts)


@dataclass
class StageFitter:
    """Fits the stages of a run one by one.

    Attributes:
        config: composed from ``conf/``.
        folder: the run's folder.
        datamodule: after ``setup()``.
        stages: all stages of the run, in order.
        callbacks: for the Trainer of every stage, besides those that every run has.
        resume: the path of a checkpoint, or ``auto``; ``None`` for a new run.
        experiment: the latest fit.
    """

    config: DictConfig
    folder: Path
    datamodule: NoisyDataModule
    stages: Sequence[Stage]
    callbacks: Sequence[L.Callback]
    resume: str | None
    experiment: Experiment = field(init=False)

    def fit(self, stage: Stage, artifacts: Artifacts) -> tuple[L.Trainer, L.LightningModule]:
        """Fit one stage.

        Args:
            stage: one of ``stages``.
            artifacts: the outputs of the stages before it.

        Returns:
            The Trainer and the fitted module.
        """
        stage_folder = self.folder_of(stage)
        stage_folder.mkdir(parents=True, exist_ok=True)
        # Every stage starts from the same seed, so that stages differ by their artifacts alone, also after a resume.
        L.seed_everything(self.config.seed, workers=True, verbose=False)
        method = stage.method(artifacts)
        experiment = build_trainer(
            self.config,
            stage_folder,
            self.datamodule,
            method,
            self.callbacks,
            stage=stage.name,
            is_last=stage is self.stages[-1],
            max_epochs=stage.max_epochs,
            monitor=stage.monitor,
        )
        self.experiment = experiment
        trainer, module = experiment.trainer, experiment.module
        stage.initialize(module, artifacts)
        checkpoint = self.resumed_checkpoint(stage)
        if checkpoint is not None and trainer.max_steps != -1:
            rank_zero_warn(
                f"trainer.max_steps={trainer.max_steps}: the resumed run will not equal an uninterrupted one, because "
                "Lightning counts one epoch too many; give the budget by trainer.max_epochs"
            )
        # Written before the fit, so that an interrupted run has them, too.
        if trainer.is_global_zero:
            self._prepare_folder(stage, checkpoint)
        try:
            trainer.fit(module, datamodule=self.datamodule, ckpt_path=checkpoint)
        except DivergedError:
            raise  # the report still logs to W&B
        except BaseException as error:
            lost_rank = lost_rank_error(trainer, error)
            if lost_rank is not None:
                raise lost_rank from error
            close_wandb(trainer)
            raise
        return trainer, module

    def folder_of(self, stage: Stage) -> Path:
        """Return the stage's folder: the run's own for the last stage, a folder in it for the others."""
        if stage is self.stages[-1]:
            return self.folder
        return self.folder / stage.name

    def resumed_checkpoint(self, stage: Stage) -> Path | None:
        """Return the checkpoint that the stage continues from, or ``None`` if it starts afresh."""
        if self.resume is None:
            return None
        if self.resume != AUTO and len(self.stages) == 1:
            return Path(self.resume)
        # A resumed run of several stages continues in the stage that it was interrupted in.
        return resumable_checkpoint(self.folder_of(stage))

    def remove_checkpoints(self) -> None:
        """Remove the checkpoints of an older run, because a later resume would continue from them."""
        for stage in self.stages:
            remove_checkpoints(self.folder_of(stage) / "checkpoints")

    def check_resume(self, changed: set[str]) -> None:
        """Check that the run can go on in its folder.

        Args:
            changed: the keys that differ from the run's configuration.

        Raises:
            ValueError: the labels differ from those of the run; ``resume`` is not the checkpoint of one of its stages;
                or a finished stage had another budget.
        """
        saved = self.folder / "noise.npz"
        if saved.is_file():
            observed = torch.from_numpy(load_npz(saved, "resume")["observed"])
            if not torch.equal(observed, self.datamodule.labels.observed):
                raise ValueError(f"resume: the training labels are not those of the run, in {saved}; the data changed")
        if len(self.stages) == 1:
            return
        own = [self.folder_of(stage) / "checkpoints" / LAST for stage in self.stages]
        if self.resume not in (None, AUTO) and Path(self.resume).resolve() not in [path.resolve() for path in own]:
            raise ValueError(
                f"resume={self.resume} is not the {LAST} of a stage of this run; a method of several stages goes on in "
                "its own folder: resume=FOLDER/checkpoints/last.ckpt hydra.run.dir=FOLDER"
            )
        finished = [stage.name for stage in self.stages[:-1] if (self.folder / f"{stage.name}.pt").is_file()]
        if finished and "trainer.max_epochs" in changed:
            raise ValueError(
                f"resume: trainer.max_epochs cannot change, because stage {finished[0]} has finished with the old value"
            )

    def _prepare_folder(self, stage: Stage, checkpoint: Path | None) -> None:
        """Write the files that describe the run, and tidy up after an interrupted one."""
        remove_partial_files(self.folder)
        (self.folder / RESULT).unlink(missing_ok=True)  # of a finished run that goes on with a longer budget
        save_config(self.config, self.folder)
        self.datamodule.labels.save(self.folder / "noise.npz")
        self.datamodule.save_split(self.folder / "split.csv")
        checkpoints = self.folder_of(stage) / "checkpoints"
        if checkpoint is not None and checkpoint.parent.resolve() != checkpoints.resolve():
            # The checkpoint knows the score of the best epoch, and a run that goes on elsewhere needs its weights, too.
            checkpoints.mkdir(parents=True, exist_ok=True)
            if (checkpoint.parent / BEST).is_file():
                shutil.copyfile(checkpoint.parent / BEST, checkpoints / BEST)
        if self.config.checkpoint is not True:
            for earlier in self.stages[: self.stages.index(stage)]:
                remove_checkpoints(self.folder_of(earlier) / "checkpoints")


def _depends_on_batch(method: Any) -> bool:
    """Return whether splitting a batch among processes changes what a method does."""
    if isinstance(method, partial):
        module_class: Any = method.func
        return module_class.depends_on_batch or method.keywords.get("scope") == "rank"
    if isinstance(method, CriterionCallback):
        return method.needs.depends_on_batch
    return getattr(method, "depends_on_batch", False)


def _reveal(labels: NoisyLabels, name: str) -> Tensor:
    """Return a ground-truth quantity that the user asked to reveal to the method."""
    check_choice("reveals", name, ("T",))
    value: Tensor | None = getattr(labels, name)
    if value is None:
        raise ValueError(f"this run's noise has no {name} to reveal; configure a noise, or estimate {name}")
    return value
