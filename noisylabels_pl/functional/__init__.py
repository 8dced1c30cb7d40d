"""Pure tensor kernels: torch only, no Lightning, no global random state."""

from noisylabels_pl.functional.checks import check_choice, check_share
from noisylabels_pl.functional.coreset import (
    Coreset,
    centrality,
    cluster_partners,
    distributed_greedy,
    facility_location,
    same_label_partners,
    stochastic_greedy,
)
from noisylabels_pl.functional.correction import (
    backward_correction,
    estimate_transition_matrix,
    forward_correction,
    inverse_transition,
    linear_correction,
    observed_log_probs,
)
from noisylabels_pl.functional.corruption import TARGET_CORRUPTIONS, corrupt_targets
from noisylabels_pl.functional.gradients import logit_gradient, loss_layer_gradient_norm
from noisylabels_pl.functional.group_norm import batchnorm_to_groupnorm
from noisylabels_pl.functional.losses import generalized_cross_entropy
from noisylabels_pl.functional.memory import free_memory
from noisylabels_pl.functional.mixup import mix
from noisylabels_pl.functional.noise import check_transition_matrix, corrupt, empirical_transition, transition_matrix
from noisylabels_pl.functional.per_sample import GradientNorms, per_sample_gradient_norms
from noisylabels_pl.functional.selection import (
    forget_rate_at,
    keep_smallest,
    robust_mean,
    selected_mean,
    selection_quality,
    smallest,
)
from noisylabels_pl.functional.targets import elr_penalty, ema_targets, kl_penalty, sigmoid_rampup

__all__ = [
    "TARGET_CORRUPTIONS",
    "Coreset",
    "GradientNorms",
    "backward_correction",
    "batchnorm_to_groupnorm",
    "centrality",
    "check_choice",
    "check_share",
    "check_transition_matrix",
    "cluster_partners",
    "corrupt",
    "corrupt_targets",
    "distributed_greedy",
    "elr_penalty",
    "ema_targets",
    "empirical_transition",
    "estimate_transition_matrix",
    "facility_location",
    "forget_rate_at",
    "forward_correction",
    "free_memory",
    "generalized_cross_entropy",
    "inverse_transition",
    "keep_smallest",
    "kl_penalty",
    "linear_correction",
    "logit_gradient",
    "loss_layer_gradient_norm",
    "mix",
    "observed_log_probs",
    "per_sample_gradient_norms",
    "robust_mean",
    "same_label_partners",
    "selected_mean",
    "selection_quality",
    "sigmoid_rampup",
    "smallest",
    "stochastic_greedy",
    "transition_matrix",
]
