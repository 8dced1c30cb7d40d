"""One run: from a composed configuration to a fitted network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import lightning as L
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from noisylabels_pl.callbacks import DivergedError
from noisylabels_pl.cli.build import Experiment, build_trainer, check_method, close_wandb, task_of
from noisylabels_pl.cli.lost_rank import lost_rank_error
from noisylabels_pl.core import TASKS, Artifacts, Stage, StagedMethod, run_stages
from noisylabels_pl.data import NoisyDataModule, NoisyLabels
from noisylabels_pl.functional import check_choice


def train(config: DictConfig, folder: Path, callbacks: Sequence[L.Callback] = ()) -> Experiment:
    """Fit the configured method on the configured data.

    Args:
        config: composed from ``conf/``.
        folder: the run's folder, for checkpoints, metrics, labels and the configuration. Stages before the last one
            have a folder of their name in it.
        callbacks: for the Trainer, besides those that every run has.

    Returns:
        The fit; of a method of several stages, the last fit. If a fit has diverged, it is the last one.

    Raises:
        ValueError: an option is out of range, or two options do not go together.
        FileNotFoundError: there is no checkpoint ``config.resume``, or the dataset is not where it should be.
    """
    # 1. The surroundings.
    if config.resume is not None and not Path(config.resume).is_file():
        raise FileNotFoundError(f"resume: there is no checkpoint {Path(config.resume).resolve()}")
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
    method = instantiate(config.method, _convert_="all")
    revealed: Artifacts = {}
    if isinstance(method, StagedMethod):
        check_method(method, task)
        stages = method.stages()
        revealed = {name: _reveal(datamodule.labels, name) for name in method.reveals}
    else:
        stages = [Stage("fit", lambda artifacts: method)]

    # 4. One fit for each stage.
    fitter = StageFitter(config, folder, datamodule, stages, callbacks)
    if len(stages) > 1:
        fitter.prepare_checkpoints()
    try:
        artifacts = run_stages(stages, folder, fitter.fit, resume=config.resume is not None, given=revealed)
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
        experiment: the latest fit.
    """

    config: DictConfig
    folder: Path
    datamodule: NoisyDataModule
    stages: Sequence[Stage]
    callbacks: Sequence[L.Callback]
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
            log=stage is self.stages[-1],
            max_epochs=stage.max_epochs,
            monitor=stage.monitor,
            stage=stage.name if len(self.stages) > 1 else None,
        )
        self.experiment = experiment
        trainer, module = experiment.trainer, experiment.module
        stage.initialize(module, artifacts)
        # Written before the fit, so that an interrupted run has them, too.
        if trainer.is_global_zero:
            OmegaConf.save(self.config, self.folder / "config.yaml", resolve=True)
            self.datamodule.labels.save(self.folder / "noise.npz")
        try:
            trainer.fit(module, datamodule=self.datamodule, ckpt_path=self.resumed_checkpoint(stage))
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

    def last_checkpoint(self, stage: Stage) -> Path:
        """Return the path of the checkpoint that the stage writes after every epoch."""
        return self.folder_of(stage) / "checkpoints" / "last.ckpt"

    def resumed_checkpoint(self, stage: Stage) -> str | Path | None:
        """Return the checkpoint that the stage continues from, or ``None`` if it starts afresh."""
        if self.config.resume is None or len(self.stages) == 1:
            resume: str | None = self.config.resume
            return resume
        # A resumed run of several stages continues in the stage that it was interrupted in.
        checkpoint = self.last_checkpoint(stage)
        return checkpoint if checkpoint.is_file() else None

    def prepare_checkpoints(self) -> None:
        """Make sure that every checkpoint in the stages' folders belongs to this run.

        A new run deletes those that an older run left in the folder, because a later resume would continue from them.
        A resumed run must continue from one of them.

        Raises:
            ValueError: ``config.resume`` is not the checkpoint of one of the stages in the run's folder.
        """
        checkpoints = [self.last_checkpoint(stage) for stage in self.stages]
        if self.config.resume is None:
            for checkpoint in checkpoints:
                checkpoint.unlink(missing_ok=True)
        elif Path(self.config.resume).resolve() not in [checkpoint.resolve() for checkpoint in checkpoints]:
            raise ValueError(
                f"resume={self.config.resume} is not the last.ckpt of a stage of this run; a method of several stages "
                "goes on in its own folder: resume=FOLDER/checkpoints/last.ckpt hydra.run.dir=FOLDER"
            )


def _reveal(labels: NoisyLabels, name: str) -> Tensor:
    """Return a ground-truth quantity that the user asked to reveal to the method."""
    check_choice("reveals", name, ("T",))
    value: Tensor | None = getattr(labels, name)
    if value is None:
        raise ValueError(f"this run's noise has no {name} to reveal; configure a noise, or estimate {name}")
    return value
