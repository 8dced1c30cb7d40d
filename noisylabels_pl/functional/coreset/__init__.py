"""Coresets of points in gradient space, and the samples that the selected ones are mixed with."""

from noisylabels_pl.functional.coreset.partners import cluster_partners, same_label_partners
from noisylabels_pl.functional.coreset.selectors import (
    Coreset,
    centrality,
    distributed_greedy,
    facility_location,
    planned_bytes,
    stochastic_greedy,
)

__all__ = [
    "Coreset",
    "centrality",
    "cluster_partners",
    "distributed_greedy",
    "facility_location",
    "planned_bytes",
    "same_label_partners",
    "stochastic_greedy",
]
