"""Pure tensor kernels: torch only, no Lightning, no global random state."""

from noisylabels_pl.functional.checks import check_choice
from noisylabels_pl.functional.coreset import (
    Coreset,
    centrality,
    cluster_partners,
    facility_location,
    same_label_partners,
)
from noisylabels_pl.functional.correction import (
    backward_correction,
    estimate_transition_matrix,
    forward_correction,
    inverse_transition,
    linear_correction,
    observed_log_probs,
)
from noisylabels_pl.functional.gradients import logit_gradient
from noisylabels_pl.functional.losses import generalized_cross_entropy
from noisylabels_pl.functional.mixup import mix
from noisylabels_pl.functional.noise import check_transition_matrix, corrupt, empirical_transition, transition_matrix
from noisylabels_pl.functional.selection import selected_mean, selection_quality
from noisylabels_pl.functional.targets import elr_penalty, ema_targets, kl_penalty, sigmoid_rampup

__all__ = [
    "Coreset",
    "backward_correction",
    "centrality",
    "check_choice",
    "check_transition_matrix",
    "cluster_partners",
    "corrupt",
    "elr_penalty",
    "ema_targets",
    "empirical_transition",
    "estimate_transition_matrix",
    "facility_location",
    "forward_correction",
    "generalized_cross_entropy",
    "inverse_transition",
    "kl_penalty",
    "linear_correction",
    "logit_gradient",
    "mix",
    "observed_log_probs",
    "same_label_partners",
    "selected_mean",
    "selection_quality",
    "sigmoid_rampup",
    "transition_matrix",
]
