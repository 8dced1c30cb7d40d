"""Loss functions for wrong labels. Each returns one value per sample, which the caller reduces.

The exception is :func:`dmi_loss`, which is defined for a whole batch.
"""

from noisylabels_pl.functional.losses.active_passive import (
    normalized_cross_entropy,
    normalized_negative_cross_entropy,
    reverse_cross_entropy,
)
from noisylabels_pl.functional.losses.bootstrap import hard_bootstrap, soft_bootstrap
from noisylabels_pl.functional.losses.correction import (
    backward_correction,
    forward_correction,
    linear_correction,
    observed_log_probs,
)
from noisylabels_pl.functional.losses.dmi import dmi_loss
from noisylabels_pl.functional.losses.early_learning import elr_penalty, ema_targets, kl_penalty
from noisylabels_pl.functional.losses.logit_clip import clip_logits
from noisylabels_pl.functional.losses.margin import ramp_loss, savage_loss, sigmoid_loss, unhinged_loss
from noisylabels_pl.functional.losses.robust import generalized_cross_entropy, mean_absolute_error
from noisylabels_pl.functional.losses.sparse import sop_gradients, sop_losses

__all__ = [
    "backward_correction",
    "clip_logits",
    "dmi_loss",
    "elr_penalty",
    "ema_targets",
    "forward_correction",
    "generalized_cross_entropy",
    "hard_bootstrap",
    "kl_penalty",
    "linear_correction",
    "mean_absolute_error",
    "normalized_cross_entropy",
    "normalized_negative_cross_entropy",
    "observed_log_probs",
    "ramp_loss",
    "reverse_cross_entropy",
    "savage_loss",
    "sigmoid_loss",
    "soft_bootstrap",
    "sop_gradients",
    "sop_losses",
    "unhinged_loss",
]
