"""ELR and ELR+: early-learning regularization (Liu, Niles-Weed, Razavian and Fernandez-Granda, NeurIPS 2020)."""

from __future__ import annotations

from copy import deepcopy
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from noisylabels_pl.core import CriterionCallback, Needs, SampleTable, TwinModule
from noisylabels_pl.data import Batch, Positions
from noisylabels_pl.functional import (
    at_least_float32,
    check_choice,
    check_range,
    elr_penalty,
    ema_targets,
    kl_penalty,
    mix,
    sigmoid_rampup,
)
from noisylabels_pl.functional.losses.early_learning import CLAMP

Penalty = Literal["log", "kl"]
TableDtype = Literal["float32", "float16"]


class ELR(CriterionCallback):
    r"""Adds a penalty that holds the network to its early predictions of each sample.

    `Early-Learning Regularization Prevents Memorization of Noisy Labels <https://arxiv.org/abs/2007.00151>`_. A network
    learns right labels before it memorizes wrong ones. The targets :math:`t_i` average its predictions :math:`p_i` over
    past visits (eq. 9), and the penalty rewards agreement with them (eq. 6):

    .. math::
        t_i \leftarrow \beta t_i + (1 - \beta) p_i, \qquad
        \ell_i = \text{CE}(p_i, y_i) + \lambda \log(1 - \langle p_i, t_i \rangle)

    As in the authors' public code, the targets are updated before the loss of the same step, and probabilities are
    clamped to ``[1e-4, 1 - 1e-4]``; those that enter the targets are then normalized again. The total loss is negative
    for large ``lam``. Choose ``lam`` and ``beta`` by noisy validation accuracy. The paper has 3 and 0.7 for symmetric
    noise on CIFAR-10, 1 and 0.9 for asymmetric noise, and 7 and 0.9 on CIFAR-100.

    Args:
        lam: weight of the penalty, :math:`\lambda` in eq. 6; not negative.
        beta: momentum of the targets in ``[0, 1)``; with 0 they are the present predictions.
        penalty: ``"log"`` (eq. 6), or ``"kl"``, the Kullback-Leibler divergence from the targets. The latter makes the
            network overfit the targets, and is here to show that.
        table_dtype: type in which the targets are kept, ``"float32"`` or ``"float16"``: 4 or 2 GB for 1,000,000 samples
            of 1,000 classes. float16 has an error of about a thousandth; :class:`~noisylabels_pl.core.SampleTable` says
            how it rounds.
        sharded: divide the table among the ranks of DDP, instead of keeping all of it on each. The targets are the
            same, and come from other ranks by two collectives more in each step.
        criterion: see :class:`~noisylabels_pl.core.CriterionCallback`.

    Attributes:
        targets: a table with the targets ``(C,)`` of each training sample.

    Raises:
        ValueError: ``lam`` is negative, ``beta`` out of range, or ``penalty`` or ``table_dtype`` unknown.

    Example:
        >>> import lightning as L
        >>> from noisylabels_pl import ELR
        >>> elr = ELR(lam=3.0, beta=0.7)
        >>> trainer = L.Trainer(max_epochs=60, callbacks=[elr], logger=False, enable_checkpointing=False)
    """

    needs = Needs(kinds=("classes", "binary", "soft"))

    def __init__(
        self,
        lam: float = 3.0,
        beta: float = 0.7,
        *,
        penalty: Penalty = "log",
        table_dtype: TableDtype = "float32",
        sharded: bool = False,
        criterion: str | None = None,
    ) -> None:
        super().__init__(criterion=criterion)
        check_range("lam", lam, "[0, inf)")
        check_range("beta", beta, "[0, 1)")
        check_choice("penalty", penalty, Penalty)
        self.lam = lam
        self.beta = beta
        self.penalty = penalty
        check_choice("table_dtype", table_dtype, TableDtype)
        dtype = torch.float16 if table_dtype == "float16" else None
        self.targets = self.tables.add("targets", dtype=dtype, sharded=sharded)

    def adjust_losses(self, losses: Tensor, logits: Tensor, target: Tensor, batch: Batch | Positions) -> Tensor:
        probs = at_least_float32(logits).softmax(1)
        prediction = probs.detach().clamp(CLAMP, 1 - CLAMP)
        prediction = prediction / prediction.sum(1, keepdim=True)
        targets = _update_targets(self.targets, batch, prediction, self.beta)
        if self.penalty == "kl":
            return losses + self.lam * kl_penalty(logits, targets)
        return losses + self.lam * elr_penalty(probs, targets, eps=CLAMP)


class ELRPlus(TwinModule):
    r"""Trains two networks, each held to the early predictions of its teacher, a weight average of the other network.

    `Early-Learning Regularization Prevents Memorization of Noisy Labels <https://arxiv.org/abs/2007.00151>`_, appendix
    F. The loss is that of :class:`ELR`. The teacher of a network averages the weights :math:`w` of its peer over
    optimizer steps, :math:`\bar w \leftarrow \alpha \bar w + (1 - \alpha) w`; its predictions of the unmixed inputs, in
    training mode, make the targets, and are not clamped. Inputs, labels and targets are then mixed; the larger
    coefficient goes to the sample itself. Teachers average weights, not batch-norm statistics.

    All of this is as in the authors' public code. Unlike there, both networks see one draw of the noise and one split,
    and both train on the same batch instead of in alternating epochs. Each ingredient can be switched off, as in the
    paper's table 5.

    Args:
        *args: see :class:`~noisylabels_pl.core.TwinModule`.
        lam: weight of the penalty; not negative.
        beta: momentum of the targets, in ``[0, 1)``.
        two_networks: if false, the first network learns from its own teacher, and the second one does not train.
        weight_average: if false, the networks themselves are the teachers.
        ema_alpha: momentum :math:`\alpha` of the teachers' weights, in ``[0, 1)``.
        ema_ramp: optimizer steps over which that momentum ramps up; 0 for no ramp.
        mixup_alpha: a mixing coefficient for each network and batch is drawn from Beta(``mixup_alpha``,
            ``mixup_alpha``); 0 for no mixing.
        coef_ramp: optimizer steps over which ``lam`` ramps up; 0 for no ramp.
        refine_labels: multiply the mixed labels by the targets and normalize them, as the public code does for 100
            classes.
        seed: seed of mixing.
        **parts: see :class:`~noisylabels_pl.core.TwinModule`.

    Attributes:
        targets: for each network, a table with the targets ``(C,)`` of each training sample.

    Raises:
        ValueError: a number is out of range.

    Example:
        >>> import torch
        >>> from noisylabels_pl import ELRPlus
        >>> pair = ELRPlus(lambda: torch.nn.Linear(64, 10), 10, torch.optim.Adam, lam=3.0, beta=0.7)
        >>> pair(torch.zeros(5, 64)).shape  # the mean of two networks
        torch.Size([5, 10])
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
        check_range("lam", lam, "[0, inf)")
        check_range("beta", beta, "[0, 1)")
        check_range("ema_alpha", ema_alpha, "[0, 1)")
        check_range("ema_ramp", ema_ramp, "[0, inf)")
        check_range("mixup_alpha", mixup_alpha, "[0, inf)")
        check_range("coef_ramp", coef_ramp, "[0, inf)")
        check_range("seed", seed, "[0, inf)", integer=True)
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
        self.teachers = nn.ModuleList()
        if weight_average:
            self.teachers.extend(deepcopy(net) for net in self.networks())
        self.teachers.requires_grad_(False)
        if not two_networks:
            self.net.second.requires_grad_(False)
        self.targets = [self.tables.add("targets of first"), self.tables.add("targets of second")]
        self._last_step = 0  # the optimizer step after which the teachers were updated last

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) if self.two_networks else self.net.first(x)

    def losses(self, batch: Batch) -> tuple[Tensor | None, Tensor | None]:
        teachers = list(self.teachers) if self.weight_average else self.networks()
        if not self.two_networks:
            return self._loss(batch, 0, teachers[0]), None
        first = self._loss(batch, 0, teachers[1])
        second = self._loss(batch, 1, teachers[0])
        return first, second

    def check_budget(self, epochs: float, steps: float) -> list[str]:
        warnings = super().check_budget(epochs, steps)
        if steps < self.coef_ramp:
            last_lam = self.lam * sigmoid_rampup(int(steps), self.coef_ramp)
            warnings.append(
                f"coef_ramp={self.coef_ramp} is longer than the fit of {steps} steps: the penalty's weight ends at "
                f"{last_lam:.3g}, not at lam={self.lam}"
            )
        if self.weight_average and steps < self.ema_ramp:
            last_alpha = self.ema_alpha * sigmoid_rampup(int(steps), self.ema_ramp)
            warnings.append(
                f"ema_ramp={self.ema_ramp} is longer than the fit of {steps} steps: the teachers' momentum ends at "
                f"{last_alpha:.3g}, not at ema_alpha={self.ema_alpha}"
            )
        return warnings

    def on_train_start(self) -> None:
        super().on_train_start()
        self._last_step = self.trainer.global_step

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        self._batch_idx = batch_idx

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        step = self.trainer.global_step
        if step == self._last_step:  # gradients are still being accumulated
            return
        self._last_step = step
        if self.weight_average:
            self._update_teachers(step)

    def networks(self) -> list[nn.Module]:
        return [self.net.first, self.net.second] if self.two_networks else [self.net.first]

    def _loss(self, batch: Batch, number: int, teacher: nn.Module) -> Tensor:
        """Return the scalar loss of network 0 or 1, with targets that its teacher makes."""
        inputs, labels = batch
        with torch.no_grad():
            prediction = at_least_float32(teacher(inputs)).softmax(1)
        targets = _update_targets(self.targets[number], batch, prediction, self.beta)
        soft_labels = F.one_hot(labels, prediction.shape[1]).to(prediction)
        if self.mixup_alpha:
            coefficients, others = self._draw_mixing(number, len(labels), inputs.device)
            inputs = mix(inputs, inputs[others], coefficients)
            soft_labels = mix(soft_labels, soft_labels[others], coefficients)
            targets = mix(targets, targets[others], coefficients)
        if self.refine_labels:
            soft_labels = soft_labels * targets
            soft_labels = soft_labels / soft_labels.sum(1, keepdim=True).clamp(min=1e-12)
        logits = self.networks()[number](inputs).to(prediction.dtype)
        cross_entropy = -(soft_labels * F.log_softmax(logits, 1)).sum(1)
        # As in the public code, the first step is number 1.
        lam = self.lam * sigmoid_rampup(self.trainer.global_step + 1, self.coef_ramp)
        return (cross_entropy + lam * elr_penalty(logits.softmax(1), targets, eps=CLAMP)).mean()

    def _draw_mixing(self, number: int, batch_size: int, device: torch.device) -> tuple[Tensor, Tensor]:
        """Return the mixing coefficients ``(B,)`` of a batch, all equal, and the positions ``(B,)`` to mix with."""
        seeds = [self.seed, self.trainer.current_epoch, self._batch_idx, self.trainer.global_rank, number]
        rng = np.random.default_rng(seeds)
        coefficient = rng.beta(self.mixup_alpha, self.mixup_alpha)
        coefficient = max(coefficient, 1 - coefficient)
        others = torch.from_numpy(rng.permutation(batch_size)).to(device)
        return torch.full((batch_size,), coefficient, device=device), others

    @torch.no_grad()
    def _update_teachers(self, step: int) -> None:
        """Move the teachers' weights towards those of their networks, after optimizer step ``step``, from 1 on."""
        # As in the public code, the momentum after a step is that of the next one.
        if self.ema_ramp:
            momentum = self.ema_alpha * sigmoid_rampup(step + 1, self.ema_ramp)
        else:  # at first the plain mean of all weights, the initial ones included
            momentum = min(self.ema_alpha, 1 - 1 / (step + 1))
        for teacher, net in zip(self.teachers, self.networks(), strict=True):
            for average, weight in zip(teacher.parameters(), net.parameters(), strict=True):
                average.lerp_(weight, 1 - momentum)


def _update_targets(table: SampleTable, batch: Batch | Positions, prediction: Tensor, beta: float) -> Tensor:
    """Average the predictions ``(B, C)`` into the targets of a batch's samples, and return these, ``(B, C)``."""
    old_targets = table.read(batch.index, prediction)
    table.write(batch.index, ema_targets(old_targets, prediction, beta))
    # A sample that comes twice in a batch is written once, so both of its rows must be read from the table.
    return table.read(batch.index, prediction)
