"""Early-learning regularisation against memorising wrong labels (Liu et al., NeurIPS 2020)."""

from __future__ import annotations

import torch
from torch import Tensor

from noisylabels_pl.core import CriterionCallback
from noisylabels_pl.data import Batch
from noisylabels_pl.functional import check_choice, elr_penalty, ema_targets, kl_penalty
from noisylabels_pl.functional.targets import CLAMP


class ELR(CriterionCallback):
    """Adds ``lam * log(1 - <p, t>)`` to the loss, with targets ``t`` that average what the network said of a sample.

    As in the public code, targets are updated before the loss of the same step, probabilities are clamped to
    ``[1e-4, 1 - 1e-4]``, and the targets' ones are normalised again. The total loss is negative for large ``lam``.
    Choose ``lam`` and ``beta`` by noisy validation accuracy: the paper has 3 and 0.7 for symmetric noise on CIFAR-10, 1
    and 0.9 for asymmetric, 7 and 0.9 on CIFAR-100.

    Args:
        lam: weight of the penalty, ``lambda`` in eq. 6.
        beta: momentum of the targets in ``[0, 1)``, eq. 9; 0 takes the network's present output.
        penalty: ``log`` (eq. 6) or ``kl``, which overfits the targets and is there to show it.
        criterion: see :class:`~noisylabels_pl.core.CriterionCallback`.

    Raises:
        ValueError: ``lam`` is negative, ``beta`` out of range, or ``penalty`` unknown.
    """

    def __init__(
        self, lam: float = 3.0, beta: float = 0.7, *, penalty: str = "log", criterion: str | None = None
    ) -> None:
        super().__init__(criterion=criterion)
        check_choice("penalty", penalty, ("log", "kl"))
        if lam < 0:
            raise ValueError(f"lam must not be negative, got {lam}")
        if not 0 <= beta < 1:
            raise ValueError(f"beta must lie in [0, 1), got {beta}")
        self.lam = lam
        self.beta = beta
        self.penalty = penalty
        self.targets = self.tables.add("targets")

    def adjust(self, losses: Tensor, logits: Tensor, target: Tensor, batch: Batch) -> Tensor:
        probs = logits.to(torch.promote_types(logits.dtype, torch.float32)).softmax(1)
        seen = probs.detach().clamp(CLAMP, 1 - CLAMP)
        seen = seen / seen.sum(1, keepdim=True)
        self.targets.write(batch.index, ema_targets(self.targets.read(batch.index, seen), seen, self.beta))
        targets = self.targets.read(batch.index, seen)
        if self.penalty == "kl":
            return losses + self.lam * kl_penalty(logits, targets)
        return losses + self.lam * elr_penalty(probs, targets, eps=CLAMP)
