"""Networks without batch normalization."""

from __future__ import annotations

import math
from typing import Any

from torch import nn

_LAZY = (nn.LazyBatchNorm1d, nn.LazyBatchNorm2d, nn.LazyBatchNorm3d)
BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm, *_LAZY)


def batchnorm_to_groupnorm(module: nn.Module) -> nn.Module:
    """Replaces batch normalization, in place, by group normalization, which leaves each sample to itself.

    Images of ``C`` channels get ``min(32, C)`` groups, as in the public code of PRL, or the greatest common divisor of
    32 and ``C`` where that does not divide them; features of one dimension, of which a group of one channel would be
    constant, get one group. (So would be images of a single pixel with up to 32 channels.) Scales and shifts are kept.

    Args:
        module: the network, changed in place.

    Returns:
        The network; of a lone batch normalization its replacement.

    Raises:
        ValueError: a lazy layer, whose channels are not known yet.
    """
    replaced: dict[nn.Module, nn.Module] = {}
    for layer in list(module.modules()):
        if isinstance(layer, _LAZY):
            raise ValueError(
                f"{type(layer).__name__} does not know its channels; pass a batch through the module first"
            )
        if isinstance(layer, BATCH_NORMS):
            replaced[layer] = _group_norm(layer)
    for parent in list(module.modules()):
        # All the names of a layer, though named_children() gives one.
        for name, child in list(parent._modules.items()):
            if child in replaced:
                parent.add_module(name, replaced[child])
    return replaced.get(module, module)


def _group_norm(layer: Any) -> nn.GroupNorm:
    channels = layer.num_features
    groups = min(32, channels) if channels % min(32, channels) == 0 else math.gcd(32, channels)
    if isinstance(layer, nn.BatchNorm1d):
        groups = 1
    norm = nn.GroupNorm(groups, channels, eps=layer.eps, affine=layer.affine)
    if layer.affine:
        norm.to(layer.weight.device, layer.weight.dtype)
        norm.load_state_dict({"weight": layer.weight, "bias": layer.bias})
        norm.weight.requires_grad_(layer.weight.requires_grad)
        norm.bias.requires_grad_(layer.bias.requires_grad)
    return norm.train(layer.training)
