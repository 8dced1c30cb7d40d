"""L_DMI: training by mutual information after a start with cross-entropy (Xu, Cao, Kong and Wang, NeurIPS 2019)."""

from __future__ import annotations

from functools import partial
from typing import Any

import lightning as L
from torch import nn

from noisylabels_pl.core import Artifacts, Stage, StagedMethod
from noisylabels_pl.core.stages import load_best_weights, load_weights, saved_weights
from noisylabels_pl.functional import check_range
from noisylabels_pl.losses import LDMILoss


class LDMI(StagedMethod):
    r"""Trains with cross-entropy first, and then maximizes the mutual information of labels and predictions.

    `L_DMI: A Novel Information-theoretic Loss Function for Training Deep Nets Robust to Label Noise
    <https://arxiv.org/abs/1909.03388>`_. With the predicted probabilities :math:`p_i` and the observed labels
    :math:`y_i` of a batch:

    .. math::
        \ell = -\log(|\det U| + \epsilon), \qquad U_{jk} = \sum_i [y_i = j] \, p_{ik}

    Noise that depends on the true class alone multiplies the determinant by a constant, so that it does not move the
    minimizer. The loss does not know which output stands for which class. So the second stage starts from the weights
    of the first, at the epoch of the lowest noisy-validation loss. The criterion is
    :class:`~noisylabels_pl.LDMILoss`. The command line runs the stages; each has the whole budget of epochs.

    Args:
        eps: positive; bounds the loss.
        lr: learning rate of the second stage; that of the first one if not given.

    Raises:
        ValueError: ``eps`` or ``lr`` is not positive.

    Example:
        >>> from noisylabels_pl import LDMI
        >>> [stage.name for stage in LDMI().stages()]
        ['cross_entropy', 'l_dmi']
    """

    depends_on_batch = True

    def __init__(self, *, eps: float = 1e-3, lr: float | None = 1e-6) -> None:
        check_range("eps", eps, "(0, inf)")
        if lr is not None:
            check_range("lr", lr, "(0, inf)")
        self.eps = eps
        self.lr = lr

    def stages(self) -> list[Stage]:
        return [
            Stage(
                "cross_entropy",
                lambda artifacts: nn.CrossEntropyLoss(),
                outputs=self._best_weights,
                monitor="val/loss",
            ),
            Stage("l_dmi", lambda artifacts: LDMILoss(self.eps), initialize=self._start_from),
        ]

    @staticmethod
    def _best_weights(trainer: L.Trainer, module: L.LightningModule) -> Artifacts:
        load_best_weights(trainer, module)
        return saved_weights(module)

    def _start_from(self, module: Any, artifacts: Artifacts) -> None:
        """Load the first stage's weights, and set the learning rate."""
        load_weights(module, artifacts)
        if self.lr is not None:
            module.optimizer = partial(module.optimizer, lr=self.lr)
