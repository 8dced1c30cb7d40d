"""Choosing the samples of every epoch."""

from __future__ import annotations

import time
from abc import abstractmethod
from dataclasses import replace
from typing import Any, Literal

import lightning as L
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from noisylabels_pl.core.bad_samples import listed
from noisylabels_pl.core.criterion_callback import CriterionCallback
from noisylabels_pl.core.needs import ROLE_MEANING
from noisylabels_pl.core.scoring import Scores, score_losses, training_loader
from noisylabels_pl.core.supervised import Supervised
from noisylabels_pl.data import Batch, IndexedLoader, Positions, Selection, SelectionSampler
from noisylabels_pl.functional import check_range


class SelectionCallback(CriterionCallback):
    """Trains each epoch on the samples that :meth:`select` chooses after a pass over the whole training set.

    The samples of an epoch are chosen at the end of the epoch before, because worker processes read an epoch's first
    batches before ``on_train_epoch_start``. The samples of the first epoch, also after a resume, are chosen in
    ``on_train_start``, followed by a reload. A checkpoint says for which epoch its selection is. If it was written
    before the next selection existed, the selection is made again from the same weights. The result is the same, with
    one exception: ``train_mode`` scores augmented images, and a run that had ended and gets more epochs scores others.

    Logs ``selection/size``, ``selection/overlap`` (the fraction that the previous selection contained, too),
    ``selection/scoring_s`` and ``selection/selecting_s`` for the epoch that trains on the selection.

    Args:
        warmup_epochs: epochs on all samples before the first selection.
        scoring_loader: an :func:`~noisylabels_pl.indexed` loader over the same samples in the same order, for a dataset
            whose transforms augment; the training loader's dataset if not given.
        train_mode: score with the network in training mode.
        bf16_scoring: score under autocast to bfloat16, whatever the trainer's precision.
        criterion: see :class:`CriterionCallback`.
    """

    needs = replace(CriterionCallback.needs, role="samples")

    def __init__(
        self,
        *,
        warmup_epochs: int,
        scoring_loader: DataLoader[Any] | None = None,
        train_mode: bool = False,
        bf16_scoring: bool = False,
        criterion: str | None = None,
    ) -> None:
        super().__init__(criterion=criterion)
        check_range("warmup_epochs", warmup_epochs, "[0, inf)", integer=True)
        self.warmup_epochs = warmup_epochs
        self.scoring_loader = scoring_loader
        self.train_mode = train_mode
        self.bf16_scoring = bf16_scoring
        self.selection: Selection | None = None
        self._selection_epoch = -1  # the epoch that trains on the selection
        self._metrics_to_log: dict[str, float] = {}
        # Weights and coefficients of the selection by position in the training set, on the device.
        self._values_by_position: dict[str, Tensor] = {}
        self._targets: Tensor | None = None  # of the last scoring pass
        self._sampler: SelectionSampler | None = None
        self._reload_every: int | None = None  # the Trainer's setting, while a fit lasts
        self._num_batches = 0  # when Lightning last counted them
        self._has_started_epoch = False  # in this fit

    @abstractmethod
    def select(self, module: L.LightningModule, scores: Scores, epoch: int) -> Selection:
        """Return the samples to train on in an epoch, on the CPU.

        It is called on every rank with the same scores, so that the ranks may divide the work by
        :func:`~noisylabels_pl.core.run_sharded`. The first rank's selection is used.

        Args:
            module: the LightningModule in training.
            scores: its logits and the observed targets of all training samples.
            epoch: the coming epoch, counted from 0.
        """

    def adjust_losses(self, losses: Tensor, logits: Tensor, target: Tensor, batch: Batch | Positions) -> Tensor:
        weights = self.values_for("weights", batch)
        return losses if weights is None else weights * losses

    def conflict(self, other: CriterionCallback) -> str | None:
        # Two selections are refused even if neither needs the criterion.
        if isinstance(other, SelectionCallback):
            return f"both {ROLE_MEANING['samples']}"
        return super().conflict(other)

    def check_budget(self, epochs: float, steps: float) -> list[str]:
        if epochs <= self.warmup_epochs:
            raise ValueError(
                f"{type(self).__name__} would never select samples: warmup_epochs={self.warmup_epochs} is no less than "
                f"max_epochs={epochs}; raise max_epochs, or lower warmup_epochs"
            )
        return super().check_budget(epochs, steps)

    def values_for(
        self, field: Literal["weights", "lam", "partner_targets"], batch: Batch | Positions
    ) -> Tensor | None:
        """Return a field of the selection for the samples of a batch, if it has any.

        Args:
            field: of the :class:`~noisylabels_pl.data.Selection`.
            batch: a training batch.

        Returns:
            ``(B, ...)``, or ``None``.
        """
        values: Tensor | None = getattr(self.selection, field, None)
        if values is None or self.selection is None:
            return None
        if field not in self._values_by_position:
            by_position = values.new_zeros(int(self.selection.indices.max()) + 1, *values.shape[1:])
            by_position[self.selection.indices] = values
            self._values_by_position[field] = by_position.to(batch.index.device)
        return self._values_by_position[field][batch.index]

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        super().setup(trainer, pl_module, stage)
        if stage != "fit":
            return
        self._reload_every = trainer.reload_dataloaders_every_n_epochs  # type: ignore[attr-defined]
        # Forget an earlier fit; a resumed fit loads its own state after this.
        self.selection = None
        self._selection_epoch = -1
        self._metrics_to_log = {}
        self._targets = None

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.overfit_batches:  # type: ignore[attr-defined]
            raise ValueError(
                f"{type(self).__name__} chooses the samples, but with overfit_batches Lightning visits the same "
                "batches in every epoch; use limit_train_batches, or leave the callback out"
            )
        super().on_train_start(trainer, pl_module)
        if not isinstance(pl_module, Supervised):
            # What cannot work should fail now, not after the warm-up.
            loader = self.scoring_loader or training_loader(trainer)
            score_losses(trainer, self.recorder(pl_module), loader, max_batches=1)
        if self._selection_epoch != trainer.current_epoch:
            self._update_selection(trainer, pl_module, trainer.current_epoch)
        # Lightning has already made an iterator, over all samples and in the order of epoch 0. More than -1 epochs have
        # passed since the last reload in any epoch, so Lightning discards the iterator.
        self._install_selection(training_loader(trainer)).set_epoch(trainer.current_epoch)
        _set_reload_every(trainer, -1)
        self._has_started_epoch = False

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._start_epoch(trainer, pl_module)

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        # Lightning does not call on_train_epoch_start for an epoch that is resumed in its middle.
        if not self._has_started_epoch:
            self._start_epoch(trainer, pl_module)
        super().on_train_batch_start(trainer, pl_module, batch, batch_idx)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        super().on_train_epoch_end(trainer, pl_module)
        next_epoch = trainer.current_epoch + 1
        if trainer.max_epochs is not None and 0 <= trainer.max_epochs <= next_epoch:
            return
        self._update_selection(trainer, pl_module, next_epoch)
        self._install_selection(training_loader(trainer))
        if len(training_loader(trainer)) != self._num_batches:
            # Without a reload Lightning keeps the old number of batches. It then cuts a longer epoch short, and waits
            # in vain for the last batch of a shorter one before it validates.
            _set_reload_every(trainer, 1)

    def state_dict(self) -> dict[str, Any]:
        selection = None if self.selection is None else vars(self.selection)
        return super().state_dict() | {
            "epoch": self._selection_epoch,
            "selection": selection,
            "report": self._metrics_to_log,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        selection = state_dict["selection"]
        self.selection = None if selection is None else Selection(**selection)
        self._selection_epoch = state_dict["epoch"]
        self._metrics_to_log = state_dict["report"]
        self._values_by_position = {}

    def _start_epoch(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Check that the loader has the selection, and log what is known of it."""
        self._has_started_epoch = True
        if self._reload_every is not None:
            _set_reload_every(trainer, self._reload_every)
        if training_loader(trainer).sampler is not self._sampler:
            raise RuntimeError(
                "the training loader was loaded again and lost the selection; define train_dataloader() as a method of "
                "the module's or datamodule's class, and return noisylabels_pl.indexed(loader) from it"
            )
        self._num_batches = len(training_loader(trainer))
        if self.selection is not None:
            module.log_dict(self._metrics_to_log, on_step=False, on_epoch=True, sync_dist=True)

    def _update_selection(self, trainer: L.Trainer, module: L.LightningModule, epoch: int) -> None:
        """Score the training set and select the samples of an epoch; all samples before the end of the warm-up."""
        previous = self.selection
        self._selection_epoch = epoch
        self._values_by_position = {}
        if epoch < self.warmup_epochs:
            self.selection = None
            return
        start = time.perf_counter()
        loader = self.scoring_loader or training_loader(trainer)
        scores = score_losses(
            trainer, self.recorder(module), loader, train_mode=self.train_mode, bf16=self.bf16_scoring
        )
        _check_outputs(scores.logits)
        self._check_targets(scores.targets, training_loader(trainer))
        if module.device.type == "cuda":
            torch.cuda.synchronize(module.device)  # or the time of scoring would count as selecting
        scored = time.perf_counter()
        selection: Selection = trainer.strategy.broadcast(self.select(module, scores, epoch))
        self.selection = selection
        self._metrics_to_log = {
            "selection/size": float(len(selection.indices)),
            "selection/scoring_s": scored - start,
            "selection/selecting_s": time.perf_counter() - scored,
        }
        if previous is not None:
            overlap = torch.isin(selection.indices, previous.indices).double().mean()
            self._metrics_to_log["selection/overlap"] = float(overlap)

    def prepare_loader(self, loader: Any) -> Any:
        loader = super().prepare_loader(loader)
        if isinstance(loader, IndexedLoader):
            self._install_selection(loader)
        return loader

    def _install_selection(self, loader: IndexedLoader) -> SelectionSampler:
        """Hand the selection to a training loader's sampler, and return the sampler."""
        sampler = loader.sampler
        if not isinstance(sampler, SelectionSampler):
            raise TypeError(
                f"{type(self).__name__} chooses the samples, but the training loader has a {type(sampler).__name__}; "
                "give the loader shuffle=True over the samples to choose from, as Subset(dataset, indices)"
            )
        if self.selection is not None:
            _check_positions(self.selection, len(sampler.dataset))  # type: ignore[arg-type]
        sampler.selection = self.selection
        self._sampler = sampler
        if not len(loader):
            raise ValueError(
                f"a selection of {len(sampler)} samples does not fill one batch and the training loader has "
                "drop_last=True; set it to False, or select more"
            )
        return sampler

    def _check_targets(self, targets: Tensor, loader: DataLoader[Any]) -> None:
        num_samples = len(loader.dataset)  # type: ignore[arg-type]
        if len(targets) != num_samples:
            raise ValueError(
                f"scoring_loader has {len(targets)} samples, the training loader {num_samples}; give it the same "
                "samples in the same order"
            )
        if loader.persistent_workers and self._targets is not None and not torch.equal(targets, self._targets):
            num_changed = int((targets != self._targets).sum())
            raise ValueError(
                f"{num_changed} labels of the dataset changed during training, which persistent workers do not notice; "
                "set persistent_workers=False, or leave the dataset alone and set batch.y in on_train_batch_start"
            )
        self._targets = targets

    def _release(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        super()._release(trainer, module)
        if self._reload_every is not None:
            _set_reload_every(trainer, self._reload_every)
        if self._sampler is not None:
            self._sampler.selection = None  # the loader may serve another fit
        self._reload_every = None
        self._values_by_position = {}
        self._targets = None
        self._sampler = None


def _check_outputs(logits: Tensor) -> None:
    is_bad = ~logits.sum(1).isfinite()  # without a table of flags as large as the logits
    bad = is_bad.nonzero().squeeze(1)
    if len(bad) == len(logits):
        raise ValueError(
            "the network has no finite output for any training sample; it diverged, lower the learning rate"
        )
    if len(bad):
        raise ValueError(
            f"the network's outputs for {listed('training sample', bad)} are not finite, so they say nothing of their "
            "gradients; mend the inputs, or leave the sample out of the training set"
        )


def _check_positions(selection: Selection, num_samples: int) -> None:
    if not len(selection.indices):
        raise ValueError("select() chose no samples; let it choose some, or raise warmup_epochs")
    positions: dict[str, Tensor | None] = {"indices": selection.indices, "partners": selection.partners}
    for field, values in positions.items():
        if values is not None and not 0 <= int(values.min()) <= int(values.max()) < num_samples:
            raise ValueError(
                f"the selection's {field} reach from {int(values.min())} to {int(values.max())}, but the training set "
                f"has {num_samples} samples; select among those, and resume with the data that the checkpoint was made "
                "from"
            )


def _set_reload_every(trainer: L.Trainer, epochs: int) -> None:
    """Set the Trainer's flag of that name, which Lightning documents but does not declare."""
    trainer.reload_dataloaders_every_n_epochs = epochs  # type: ignore[attr-defined]
