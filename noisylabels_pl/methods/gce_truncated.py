"""Truncated generalized cross-entropy (Zhang and Sabuncu, NeurIPS 2018)."""

from __future__ import annotations

from typing import Any

import lightning as L
import torch
from torch import Tensor

from noisylabels_pl.core import CriterionCallback, Needs
from noisylabels_pl.data import Batch, Positions
from noisylabels_pl.functional import check_range, generalized_cross_entropy


class TruncatedGCE(CriterionCallback):
    r"""Trains with generalized cross-entropy, and leaves out the samples that the network finds improbable.

    `Generalized Cross Entropy Loss for Training Deep Neural Networks with Noisy Labels
    <https://arxiv.org/abs/1805.07836>`_, section 3.3. With :math:`p_y` the predicted probability of the observed label,
    a sample with :math:`p_y \le k` has a constant loss:

    .. math::
        \ell = \begin{cases} (1 - p_y^q) / q & \text{if } p_y > k \\ (1 - k^q) / q & \text{otherwise} \end{cases}

    As in Algorithm 1 of the paper, the samples that this leaves out are chosen once in ``every`` epochs from
    ``start_epoch`` on, and stay out in between, so a sample may come back. They are chosen by the forward passes of
    that epoch's training, without a pass of their own. The paper takes the best network so far instead; public code
    finds that network by test accuracy, which this class never sees.

    Args:
        q: exponent in ``(0, 1]``; the paper has 0.7.
        k: threshold in ``[0, 1)``; the paper has 0.5, and 0 leaves out no sample.
        start_epoch: first epoch that chooses samples, counted from 0; before it all samples are trained on.
        every: epochs from one choice to the next.
        criterion: see :class:`~noisylabels_pl.core.CriterionCallback`.

    Attributes:
        kept: a table with 1 for each training sample that is trained on, and 0 for the others.

    Raises:
        ValueError: a number is out of range.

    Example:
        >>> import lightning as L
        >>> from noisylabels_pl import TruncatedGCE
        >>> callback = TruncatedGCE(q=0.7, k=0.5, start_epoch=20)
        >>> trainer = L.Trainer(max_epochs=60, callbacks=[callback], logger=False, enable_checkpointing=False)
    """

    needs = Needs()

    def __init__(
        self,
        q: float = 0.7,
        k: float = 0.5,
        start_epoch: int = 40,
        every: int = 10,
        *,
        criterion: str | None = None,
    ) -> None:
        super().__init__(criterion=criterion)
        check_range("q", q, "(0, 1]", hint="its limit 0 is cross-entropy")
        check_range("k", k, "[0, 1)")
        check_range("start_epoch", start_epoch, "[0, inf)", integer=True)
        check_range("every", every, "[1, inf)", integer=True)
        self.q = q
        self.k = k
        self.start_epoch = start_epoch
        self.every = every
        self.kept = self.tables.add("kept", fill=1.0)
        self._chooses = False  # in this epoch

    def check_budget(self, epochs: float, steps: float) -> list[str]:
        warnings = super().check_budget(epochs, steps)
        if epochs <= self.start_epoch:
            warnings.append(f"no sample is left out: start_epoch={self.start_epoch} is after {epochs} epochs")
        return warnings

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        super().on_train_batch_start(trainer, pl_module, batch, batch_idx)
        epochs_since_start = trainer.current_epoch - self.start_epoch
        self._chooses = epochs_since_start >= 0 and epochs_since_start % self.every == 0

    def adjust_losses(self, losses: Tensor, logits: Tensor, target: Tensor, batch: Batch | Positions) -> Tensor:
        self.call.check_is_plain(type(self).__name__)
        losses = generalized_cross_entropy(logits, target, self.q)
        loss_at_threshold = (1 - self.k**self.q) / self.q
        if self._chooses:
            is_kept = losses.detach() < loss_at_threshold
            self.kept.write(batch.index, is_kept.to(losses.dtype))
        # Read back, because a sample that comes twice in a batch is written once.
        return torch.where(self.kept.read(batch.index, losses) > 0, losses, loss_at_threshold)
