"""MentorNet with a predefined curriculum (Jiang et al., ICML 2018)."""

from __future__ import annotations

from typing import Any

import lightning as L
import numpy as np
import torch
from torch import Tensor

from noisylabels_pl.core import CriterionCallback, Needs, masked_losses
from noisylabels_pl.core.batch_filter import MASKING_REMEDY, stop_bad_gradients
from noisylabels_pl.core.distributed import all_gather, check_equal_batches, rank_and_world_size
from noisylabels_pl.core.loss_call import ALL_KINDS
from noisylabels_pl.data import Batch, Positions
from noisylabels_pl.functional import at_least_float32, check_range


class MentorNet(CriterionCallback):
    r"""Trains on the samples whose losses lie below a moving percentile of the losses.

    `MentorNet: Learning Data-Driven Curriculum for Very Deep Neural Networks on Corrupted Labels
    <https://arxiv.org/abs/1712.05055>`_, with its predefined curriculum, which needs no mentor network and no clean
    labels. With :math:`\ell_p` the ``percentile`` of a batch's losses, a threshold follows the losses as they fall, and
    the samples below it are averaged:

    .. math::
        \theta \leftarrow \alpha \theta + (1 - \alpha) \ell_p, \qquad v_i = [\ell_i \le \theta]

    Losses say little at first. In the ``burn_in_epochs`` samples are dropped at random instead, as many as the
    threshold will drop. The paper burns in for about a fifth of the fit. The fraction that is dropped until then and
    :math:`\alpha` are not certain from the paper; the values here keep the amount of data constant.

    The mentor that learns its weights from a clean subset is not in this library.

    Args:
        percentile: fraction of the losses below the threshold, in ``(0, 1]``.
        decay: :math:`\alpha`, in ``[0, 1)``.
        burn_in_epochs: epochs in which samples are dropped at random.
        seed: of these.
        criterion: see :class:`~noisylabels_pl.core.CriterionCallback`.

    Attributes:
        threshold: :math:`\theta`, a scalar; ``None`` before the first batch.

    Raises:
        ValueError: a number is out of range.

    Example:
        >>> import lightning as L
        >>> from noisylabels_pl import MentorNet
        >>> mentor = MentorNet(percentile=0.75, burn_in_epochs=12)
        >>> trainer = L.Trainer(max_epochs=60, callbacks=[mentor], logger=False, enable_checkpointing=False)
    """

    needs = Needs(
        role="weights",
        tasks=("classification", "regression"),
        kinds=ALL_KINDS,
        positions=False,
        separate_samples=True,
        depends_on_batch=True,  # the random numbers of the burn-in follow the order of the samples
    )

    def __init__(
        self,
        percentile: float = 0.75,
        *,
        decay: float = 0.9,
        burn_in_epochs: int = 10,
        seed: int = 0,
        criterion: str | None = None,
    ) -> None:
        super().__init__(criterion=criterion)
        check_range("percentile", percentile, "(0, 1]")
        check_range("decay", decay, "[0, 1)")
        check_range("burn_in_epochs", burn_in_epochs, "[0, inf)", integer=True)
        check_range("seed", seed, "[0, inf)", integer=True)
        self.percentile = percentile
        self.decay = decay
        self.burn_in_epochs = burn_in_epochs
        self.seed = seed
        self.threshold: Tensor | None = None
        self._epoch = 0
        self._batch_idx = 0

    def check_budget(self, epochs: float, steps: float) -> list[str]:
        if epochs > self.burn_in_epochs:
            return []
        return [
            f"burn_in_epochs={self.burn_in_epochs} is not shorter than the fit of {epochs} epochs: all of it drops "
            "samples at random"
        ]

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        super().setup(trainer, pl_module, stage)
        if stage == "fit":
            self.threshold = None  # of an earlier fit; a resumed fit loads its own after this

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        super().on_train_start(trainer, pl_module)
        check_equal_batches(trainer.train_dataloader)

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        super().on_train_batch_start(trainer, pl_module, batch, batch_idx)
        self._epoch = trainer.current_epoch
        self._batch_idx = batch_idx

    def adjust_losses(self, losses: Tensor, logits: Tensor, target: Tensor, batch: Batch | Positions) -> Tensor:
        rank, world_size = rank_and_world_size()
        all_losses = at_least_float32(all_gather(losses.detach()))
        self._follow(all_losses)
        assert self.threshold is not None
        kept = all_losses <= self.threshold
        if self._epoch < self.burn_in_epochs:
            rng = np.random.default_rng([self.seed, self._epoch, self._batch_idx])
            kept = torch.from_numpy(rng.random(len(all_losses)) < self.percentile).to(losses.device)
        fraction = kept.float().mean()
        kept = kept.view(world_size, -1)[rank]
        batch.kept = (kept,)
        self._bad_samples.add_dropped(~kept, logits, self._data, index=batch.index, remedy=MASKING_REMEDY)
        stop_bad_gradients(self.call.given_logits, kept)
        return masked_losses(losses, kept, fraction)

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"threshold": self.threshold}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        self.threshold = state_dict["threshold"]

    def _follow(self, losses: Tensor) -> None:
        """Move the threshold towards the percentile of a batch's losses, unless that is not finite."""
        percentile = losses.nanquantile(self.percentile)
        threshold = percentile if self.threshold is None else self.threshold.to(losses.device)
        threshold = torch.where(threshold.isfinite(), threshold, percentile)
        moved = self.decay * threshold + (1 - self.decay) * percentile
        self.threshold = torch.where(moved.isfinite(), moved, threshold)
