"""Pure functions of tensors.

They define no ``nn.Module``, read no files and keep no state, and importing them needs torch alone.
"""

from noisylabels_pl.functional.checks import check_choice, check_range
from noisylabels_pl.functional.coreset import (
    Coreset,
    centrality,
    cluster_partners,
    distributed_greedy,
    facility_location,
    same_label_partners,
    stochastic_greedy,
)
from noisylabels_pl.functional.early_stopping import Minimum, first_local_minimum
from noisylabels_pl.functional.filtering import (
    keep_candidates,
    keep_indices,
    keep_mask,
    label_precision_recall,
    robust_mean,
    selected_mean,
)
from noisylabels_pl.functional.label_noise import corrupt_labels
from noisylabels_pl.functional.losses import (
    backward_correction,
    elr_penalty,
    ema_targets,
    forward_correction,
    generalized_cross_entropy,
    kl_penalty,
    linear_correction,
    observed_log_probs,
    sop_gradients,
    sop_losses,
)
from noisylabels_pl.functional.mixup import mix
from noisylabels_pl.functional.output_gradients import logit_gradient, loss_layer_gradient_norm
from noisylabels_pl.functional.precision import at_least_float32
from noisylabels_pl.functional.sample_noise import (
    Aggregate,
    aggregate_labels,
    draw_classes,
    draw_samples,
    label_margins,
    proportional_rates,
    truncated_normal_rates,
    wrong_class_probs,
)
from noisylabels_pl.functional.schedules import forget_rate_schedule, sigmoid_rampup
from noisylabels_pl.functional.target_noise import TARGET_CORRUPTIONS, corrupt_targets
from noisylabels_pl.functional.transition import (
    check_transition_matrix,
    empirical_transition_matrix,
    estimate_transition_matrix,
    invert_transition_matrix,
    transition_error,
    transition_matrix,
)

__all__ = [
    "TARGET_CORRUPTIONS",
    "Aggregate",
    "Coreset",
    "Minimum",
    "aggregate_labels",
    "at_least_float32",
    "backward_correction",
    "centrality",
    "check_choice",
    "check_range",
    "check_transition_matrix",
    "cluster_partners",
    "corrupt_labels",
    "corrupt_targets",
    "distributed_greedy",
    "draw_classes",
    "draw_samples",
    "elr_penalty",
    "ema_targets",
    "empirical_transition_matrix",
    "estimate_transition_matrix",
    "facility_location",
    "first_local_minimum",
    "forget_rate_schedule",
    "forward_correction",
    "generalized_cross_entropy",
    "invert_transition_matrix",
    "keep_candidates",
    "keep_indices",
    "keep_mask",
    "kl_penalty",
    "label_margins",
    "label_precision_recall",
    "linear_correction",
    "logit_gradient",
    "loss_layer_gradient_norm",
    "mix",
    "observed_log_probs",
    "proportional_rates",
    "robust_mean",
    "same_label_partners",
    "selected_mean",
    "sigmoid_rampup",
    "sop_gradients",
    "sop_losses",
    "stochastic_greedy",
    "transition_error",
    "transition_matrix",
    "truncated_normal_rates",
    "wrong_class_probs",
]
