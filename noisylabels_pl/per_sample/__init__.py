"""Per-sample gradients of whole networks: their exact norms, and networks without batch normalization."""

from noisylabels_pl.per_sample.convert import batchnorm_to_groupnorm
from noisylabels_pl.per_sample.norms import GradientNorms, per_sample_gradient_norms

__all__ = ["GradientNorms", "batchnorm_to_groupnorm", "per_sample_gradient_norms"]
