"""Per-sample gradients of layers, one file for each type of layer."""

from torch import nn

from noisylabels_pl.per_sample.layers.base import ClosedForm
from noisylabels_pl.per_sample.layers.convolution import Convolution
from noisylabels_pl.per_sample.layers.embedding import Embedding
from noisylabels_pl.per_sample.layers.linear import Linear
from noisylabels_pl.per_sample.layers.norm import GroupNorm, LayerNorm

# By exact type, because a subclass may compute something else.
CLOSED_FORMS: dict[type[nn.Module], type[ClosedForm]] = {
    nn.Linear: Linear,
    nn.Conv1d: Convolution,
    nn.Conv2d: Convolution,
    nn.Conv3d: Convolution,
    nn.Embedding: Embedding,
    nn.LayerNorm: LayerNorm,
    nn.GroupNorm: GroupNorm,
}
