"""Per-sample gradients, one file for each type of layer."""

from torch import nn

from noisylabels_pl.per_sample.layers.base import ClosedForm
from noisylabels_pl.per_sample.layers.convolution import Convolution
from noisylabels_pl.per_sample.layers.embedding import Embedding
from noisylabels_pl.per_sample.layers.linear import Linear
from noisylabels_pl.per_sample.layers.norm import Affine, GroupNorm, LayerNorm

# By exact type: a subclass may compute something else.
CLOSED_FORMS: dict[type[nn.Module], type[ClosedForm | Affine]] = {
    nn.Linear: Linear,
    nn.Conv1d: Convolution,
    nn.Conv2d: Convolution,
    nn.Conv3d: Convolution,
    nn.Embedding: Embedding,
    nn.LayerNorm: LayerNorm,
    nn.GroupNorm: GroupNorm,
}
