"""Loss functions for wrong labels. Each returns one value per sample, which the caller reduces."""

from noisylabels_pl.functional.losses.correction import (
    backward_correction,
    forward_correction,
    linear_correction,
    observed_log_probs,
)
from noisylabels_pl.functional.losses.early_learning import elr_penalty, ema_targets, kl_penalty
from noisylabels_pl.functional.losses.robust import generalized_cross_entropy
from noisylabels_pl.functional.losses.sparse import sop_gradients, sop_losses

__all__ = [
    "backward_correction",
    "elr_penalty",
    "ema_targets",
    "forward_correction",
    "generalized_cross_entropy",
    "kl_penalty",
    "linear_correction",
    "observed_log_probs",
    "sop_gradients",
    "sop_losses",
]
