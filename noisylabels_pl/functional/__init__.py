"""Pure tensor kernels: torch only, no Lightning, no global random state."""

from noisylabels_pl.functional.checks import check_choice
from noisylabels_pl.functional.coreset import (
    Coreset,
    centrality,
    cluster_partners,
    facility_location,
    same_label_partners,
)
from noisylabels_pl.functional.gradients import logit_gradient
from noisylabels_pl.functional.losses import generalized_cross_entropy
from noisylabels_pl.functional.mixup import mix
from noisylabels_pl.functional.noise import check_transition_matrix, corrupt, empirical_transition, transition_matrix
from noisylabels_pl.functional.selection import selected_mean, selection_quality

__all__ = [
    "Coreset",
    "centrality",
    "check_choice",
    "check_transition_matrix",
    "cluster_partners",
    "corrupt",
    "empirical_transition",
    "facility_location",
    "generalized_cross_entropy",
    "logit_gradient",
    "mix",
    "same_label_partners",
    "selected_mean",
    "selection_quality",
    "transition_matrix",
]
