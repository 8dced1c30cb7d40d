"""ELR and ELR+: early-learning regularization (Liu et al., NeurIPS 2020)."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from noisylabels_pl.core import CriterionCallback, Needs, TwinModule
from noisylabels_pl.data import Batch, Positions
from noisylabels_pl.functional import (
    at_least_float32,
    check_choice,
    elr_penalty,
    ema_targets,
    kl_penalty,
    mix,
    sigmoid_rampup,
)
from noisylabels_pl.functional.losses.early_learning import CLAMP


class ELR(CriterionCallback):
    """Adds ``lam * log(1 - <p, t>)`` to the loss, with targets ``t`` that average what the network said of a sample.

    As in the public code, targets are updated before the loss of the same step, probabilities are clamped to
    ``[1e-4, 1 - 1e-4]``, and the targets' ones are normalized again. The total loss is negative for large ``lam``.
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

    needs = Needs(kinds=("classes", "binary", "soft"))

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

    def adjust_losses(self, losses: Tensor, logits: Tensor, target: Tensor, batch: Batch | Positions) -> Tensor:
        probs = at_least_float32(logits).softmax(1)
        seen = probs.detach().clamp(CLAMP, 1 - CLAMP)
        seen = seen / seen.sum(1, keepdim=True)
        self.targets.write(batch.index, ema_targets(self.targets.read(batch.index, seen), seen, self.beta))
        targets = self.targets.read(batch.index, seen)
        if self.penalty == "kl":
            return losses + self.lam * kl_penalty(logits, targets)
        return losses + self.lam * elr_penalty(probs, targets, eps=CLAMP)


class ELRPlus(TwinModule):
    """Each network is regularized towards what an average of the other one has said of the samples.

    Follows the public code: targets average the output of the peer's teacher, in training mode, for inputs that are
    augmented but not mixed; they are mixed like the inputs. Teachers average weights, not batch-norm statistics.
    Unlike it, both networks see one draw of the noise and one split, and train on the same batches at the same time
    rather than in alternating epochs. Every ingredient can be switched off, which makes the paper's table 5 a sweep.

    Args:
        *args: see :class:`~noisylabels_pl.core.TwinModule`.
        lam: weight of the penalty, ``lambda`` in eq. 6.
        beta: momentum of the targets in ``[0, 1)``.
        two_networks: without, the first network learns from its own teacher, and the second does not train.
        weight_average: without, the networks themselves are the teachers.
        ema_alpha: momentum of the teachers' weights.
        ema_ramp: optimizer steps over which that momentum ramps up; 0 for none.
        mixup_alpha: samples are mixed with coefficients from Beta(alpha, alpha), one a batch; 0 for no mixing.
        coef_ramp: optimizer steps over which ``lam`` ramps up; 0 for none.
        refine_labels: multiply mixed labels by the targets and normalize, as the public code does for 100 classes.
        seed: of mixing.
        **parts: see :class:`~noisylabels_pl.core.TwinModule`.
    """

    depends_on_batch = True  # mixup pairs samples of a batch

    def __init__(
        self,
        *args: Any,
        lam: float = 3.0,
        beta: float = 0.7,
        two_networks: bool = True,
        weight_average: bool = True,
        ema_alpha: float = 0.997,
        ema_ramp: int = 40000,
        mixup_alpha: float = 1.0,
        coef_ramp: int = 0,
        refine_labels: bool = False,
        seed: int = 0,
        **parts: Any,
    ) -> None:
        super().__init__(*args, **parts)
        if lam < 0 or mixup_alpha < 0 or ema_ramp < 0 or coef_ramp < 0:
            raise ValueError(
                f"lam, mixup_alpha, ema_ramp and coef_ramp must not be negative, got {lam}, {mixup_alpha}, {ema_ramp} "
                f"and {coef_ramp}"
            )
        if not 0 <= beta < 1 or not 0 <= ema_alpha < 1:
            raise ValueError(f"beta and ema_alpha must lie in [0, 1), got {beta} and {ema_alpha}")
        self.lam = lam
        self.beta = beta
        self.two_networks = two_networks
        self.weight_average = weight_average
        self.ema_alpha = ema_alpha
        self.ema_ramp = ema_ramp
        self.mixup_alpha = mixup_alpha
        self.coef_ramp = coef_ramp
        self.refine_labels = refine_labels
        self.seed = seed
        self.teachers = nn.ModuleList([deepcopy(net) for net in self._nets()] if weight_average else [])
        self.teachers.requires_grad_(False)
        if not two_networks:
            self.net.second.requires_grad_(False)
        self.targets = [self.tables.add(f"targets of {name}") for name in ("first", "second")]
        self._averaged_at = 0

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) if self.two_networks else self.net.first(x)

    def on_train_start(self) -> None:
        super().on_train_start()
        self._averaged_at = self.trainer.global_step

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        self._batch_idx = batch_idx

    def losses(self, batch: Batch) -> tuple[Tensor | None, Tensor | None]:
        if not self.two_networks:
            return self._loss(batch, 0, teacher=0), None
        return self._loss(batch, 0, teacher=1), self._loss(batch, 1, teacher=0)

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        step = self.trainer.global_step
        if step == self._averaged_at:  # gradients are still being accumulated
            return
        self._averaged_at = step
        alpha = self.ema_alpha * sigmoid_rampup(step, self.ema_ramp)
        if not self.ema_ramp:  # a plain mean at first, as in the public code
            alpha = min(alpha, 1 - 1 / step)
        with torch.no_grad():
            for teacher, net in zip(self.teachers, self._nets(), strict=False):
                for average, weight in zip(teacher.parameters(), net.parameters(), strict=True):
                    average.lerp_(weight, 1 - alpha)

    def _nets(self) -> list[nn.Module]:
        return [self.net.first, self.net.second] if self.two_networks else [self.net.first]

    def _loss(self, batch: Batch, number: int, *, teacher: int) -> Tensor:
        x, y = batch
        with torch.no_grad():
            said = (self.teachers if self.weight_average else self._nets())[teacher](x)
            said = at_least_float32(said).softmax(1)
        table = self.targets[number]
        table.write(batch.index, ema_targets(table.read(batch.index, said), said, self.beta))
        targets = table.read(batch.index, said)
        labels = F.one_hot(y, said.shape[1]).to(said)
        if self.mixup_alpha:
            rng = np.random.default_rng(
                [self.seed, self.trainer.current_epoch, self._batch_idx, self.trainer.global_rank, number]
            )
            share = rng.beta(self.mixup_alpha, self.mixup_alpha)
            lam = torch.full((len(y),), max(share, 1 - share), device=x.device)
            other = torch.from_numpy(rng.permutation(len(y))).to(x.device)
            x, labels, targets = (mix(value, value[other], lam) for value in (x, labels, targets))
        logits = self._nets()[number](x).to(said.dtype)
        if self.refine_labels:
            labels = labels * targets
            labels = labels / labels.sum(1, keepdim=True).clamp(min=1e-12)
        penalty = elr_penalty(logits.softmax(1), targets, eps=CLAMP)
        ramp = sigmoid_rampup(self.trainer.global_step, self.coef_ramp)
        return (ramp * self.lam * penalty - (labels * F.log_softmax(logits, 1)).sum(1)).mean()
