"""Clipping of gradients, of the batch or of each sample: baselines that bound the influence of a wrong label."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import lightning as L
from torch import Tensor
from torch.optim import Optimizer

from noisylabels_pl.core import GradientCallback
from noisylabels_pl.core.loss_call import ALL_KINDS
from noisylabels_pl.functional import check_range


class NormClip(L.Callback):
    r"""Clips the norm of the gradient of each step.

    `On the Difficulty of Training Recurrent Neural Networks <https://arxiv.org/abs/1211.5063>`_ (Pascanu, Mikolov and
    Bengio, ICML 2013). This does the same as the Trainer's ``gradient_clip_val``, as a method to compare with others:

    .. math::
        g \leftarrow g \cdot \min(1, c / \lVert g \rVert)

    Args:
        max_norm: largest norm :math:`c`; positive.

    Raises:
        ValueError: ``max_norm`` is not positive.

    Example:
        >>> import lightning as L
        >>> from noisylabels_pl import NormClip
        >>> clip = NormClip(max_norm=1.0)
        >>> trainer = L.Trainer(max_epochs=60, callbacks=[clip], logger=False, enable_checkpointing=False)
    """

    def __init__(self, max_norm: float = 1.0) -> None:
        check_range("max_norm", max_norm, "(0, inf]")
        self.max_norm = max_norm

    def on_before_optimizer_step(self, trainer: L.Trainer, pl_module: L.LightningModule, optimizer: Optimizer) -> None:
        trainer.precision_plugin.clip_gradients(optimizer, self.max_norm)


class IndividualClip(GradientCallback):
    r"""Clips the norm of each sample's gradient before the gradients of a batch are averaged.

    `Deep Learning with Differential Privacy <https://arxiv.org/abs/1607.00133>`_ (Abadi et al., CCS 2016), without
    its random noise. PRL's paper compares with it, and gives no norm; 1 is usual in private training.

    .. math::
        g = \frac{1}{B} \sum_i g_i \cdot \min(1, c / \lVert g_i \rVert)

    A sample whose gradient is not finite counts as 0. Each layer must treat the samples of a batch separately, which
    batch normalization does not: ``convert_batchnorm`` replaces it.

    Args:
        max_norm: largest norm :math:`c`; positive.
        convert_batchnorm: see :class:`~noisylabels_pl.core.GradientCallback`.
        criterion: see :class:`~noisylabels_pl.core.CriterionCallback`.

    Raises:
        ValueError: ``max_norm`` is not positive.

    Example:
        >>> import lightning as L
        >>> from noisylabels_pl import IndividualClip
        >>> clip = IndividualClip(max_norm=1.0)
        >>> trainer = L.Trainer(max_epochs=60, callbacks=[clip], logger=False, enable_checkpointing=False)
    """

    needs = replace(
        GradientCallback.needs, role="weights", tasks=("classification", "regression"), kinds=ALL_KINDS, positions=False
    )

    def __init__(self, max_norm: float = 1.0, *, convert_batchnorm: bool = False, criterion: str | None = None) -> None:
        super().__init__(convert_batchnorm=convert_batchnorm, criterion=criterion)
        check_range("max_norm", max_norm, "(0, inf]")
        self.max_norm = max_norm

    def adjust_losses(self, losses: Tensor, logits: Tensor, target: Tensor, batch: Any) -> Tensor:
        factors = (self.max_norm / self.gradient_norms(losses)).clamp(max=1)
        return self.reweighted(losses, factors.nan_to_num(0))
