"""Mixup (Zhang, Cisse, Dauphin and Lopez-Paz, ICLR 2018)."""

from __future__ import annotations

from typing import Any

import lightning as L
import numpy as np
import torch
from torch import Tensor

from noisylabels_pl.core import CriterionCallback, Needs
from noisylabels_pl.data import Batch, Positions
from noisylabels_pl.data.batch import mixable_tensors
from noisylabels_pl.functional import check_range, mix


class Mixup(CriterionCallback):
    r"""Mixes each sample of a batch with another one, inputs and labels alike.

    `mixup: Beyond Empirical Risk Minimization <https://arxiv.org/abs/1710.09412>`_, eq. 1. A network that is trained
    between samples cannot memorize single labels as easily:

    .. math::
        \tilde x_i = \lambda x_i + (1 - \lambda) x_j, \qquad \tilde y_i = \lambda y_i + (1 - \lambda) y_j, \qquad
        \lambda \sim \text{Beta}(\alpha, \alpha)

    As in the authors' public code, a batch has one :math:`\lambda`, and the partners :math:`j` are a permutation of the
    batch. Labels are not mixed themselves: the loss is mixed, which is the same for every loss that is linear in the
    label, such as cross-entropy. Another loss beside it, such as ``RobustLoss(GCELoss())``, is mixed in the same way.

    Args:
        alpha: positive; the paper has 1 for clean labels, and 8 or 32 for wrong ones.
        criterion: see :class:`~noisylabels_pl.core.CriterionCallback`.
        seed: seed of coefficients and partners.

    Raises:
        ValueError: ``alpha`` is not positive, or ``seed`` is negative.

    Example:
        >>> import lightning as L
        >>> from noisylabels_pl import Mixup
        >>> trainer = L.Trainer(max_epochs=60, callbacks=[Mixup(8.0)], logger=False, enable_checkpointing=False)
    """

    needs = Needs(
        role="mixing",
        kinds=("classes", "binary", "soft", "multilabel"),
        positions=False,
        mixes_samples=True,
        depends_on_batch=True,
    )

    def __init__(self, alpha: float = 8.0, *, criterion: str | None = None, seed: int = 0) -> None:
        super().__init__(criterion=criterion)
        check_range("alpha", alpha, "(0, inf)")
        check_range("seed", seed, "[0, inf)", integer=True)
        self.alpha = alpha
        self.seed = seed
        self._coefficient = 1.0  # of this batch
        self._partners = torch.empty(0, dtype=torch.int64)  # of this batch, as rows of it

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        super().on_train_batch_start(trainer, pl_module, batch, batch_idx)
        rng = np.random.default_rng([self.seed, trainer.current_epoch, batch_idx, trainer.global_rank])
        self._coefficient = rng.beta(self.alpha, self.alpha)
        if isinstance(batch, Batch) and isinstance(batch.x, Tensor) and batch.x.is_floating_point():
            self._partners = _permutation(rng, batch.x)
            batch.x = self._mixed(batch.x)
            return
        tensors = mixable_tensors(batch.x if isinstance(batch, Batch) else batch)
        if not tensors:
            raise TypeError(
                f"Mixup mixes inputs, but a batch ({type(batch).__name__}) has no floating-point tensor with one row a "
                "sample; convert the inputs in the dataset, or leave Mixup out"
            )
        self._partners = _permutation(rng, tensors[0])
        for values in tensors:
            if len(values) == len(self._partners):
                self._replaced.append((values, values.data))
                values.data = self._mixed(values)

    def adjust_losses(self, losses: Tensor, logits: Tensor, target: Tensor, batch: Batch | Positions) -> Tensor:
        if len(target) != len(self._partners):
            raise TypeError(
                f"{self.call.name} is called with {len(target)} rows for a batch of {len(self._partners)} mixed "
                "samples; call it with one row a sample"
            )
        return self._mixed(losses, self.losses_for(logits, target[self._partners]))

    def _mixed(self, values: Tensor, partner_values: Tensor | None = None) -> Tensor:
        """Mix each row of a batch with the row of its partner, or with the same row of other values."""
        if partner_values is None:
            partner_values = values[self._partners]
        coefficients = torch.full((len(values),), self._coefficient, device=values.device)
        return mix(values, partner_values, coefficients)


def _permutation(rng: np.random.Generator, values: Tensor) -> Tensor:
    """Return the rows ``(B,)`` of a tensor in a random order."""
    return torch.from_numpy(rng.permutation(len(values))).to(values.device)
