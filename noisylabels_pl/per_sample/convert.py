"""Replacement of batch normalization, which mixes the samples of a batch, by group normalization."""

from __future__ import annotations

import math
from typing import Any

from torch import nn

_LAZY_BATCH_NORMS = (nn.LazyBatchNorm1d, nn.LazyBatchNorm2d, nn.LazyBatchNorm3d)
BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm, *_LAZY_BATCH_NORMS)


def batchnorm_to_groupnorm(module: nn.Module) -> nn.Module:
    """Replace batch normalization in place by group normalization, which treats samples independently.

    Images of ``C`` channels get ``min(32, C)`` groups, as in the public code of PRL, or ``gcd(32, C)`` groups where 32
    does not divide ``C > 32``. Vectors get one group: with several, a group could have a single value, which
    normalization turns into 0. Beware of images of a single pixel with up to 32 channels, where this does happen.
    Scales and shifts are kept, running statistics are not. Group normalization is from Wu and He, `Group Normalization
    <https://arxiv.org/abs/1803.08494>`_.

    Args:
        module: the network, which is changed.

    Returns:
        The same network. If ``module`` itself is batch normalization, its replacement.

    Raises:
        ValueError: a layer is lazy, and its number of channels is not known yet.

    Example:
        >>> from torch import nn
        >>> from noisylabels_pl.per_sample import batchnorm_to_groupnorm
        >>> network = nn.Sequential(nn.Conv2d(3, 64, 3), nn.BatchNorm2d(64), nn.ReLU())
        >>> batchnorm_to_groupnorm(network)[1].num_groups
        32
    """
    replacements: dict[nn.Module, nn.Module] = {}
    for layer in list(module.modules()):
        if isinstance(layer, _LAZY_BATCH_NORMS):
            raise ValueError(
                f"{type(layer).__name__} does not know its channels; pass a batch through the module first"
            )
        if isinstance(layer, BATCH_NORMS):
            replacements[layer] = _to_group_norm(layer)
    for parent in list(module.modules()):
        # _modules lists a layer under each of its names; named_children() would list it once.
        for name, child in list(parent._modules.items()):
            if child in replacements:
                parent.add_module(name, replacements[child])
    return replacements.get(module, module)


def _to_group_norm(batch_norm: Any) -> nn.GroupNorm:
    num_channels = batch_norm.num_features
    num_groups = _num_groups(num_channels, is_vector=isinstance(batch_norm, nn.BatchNorm1d))
    group_norm = nn.GroupNorm(num_groups, num_channels, eps=batch_norm.eps, affine=batch_norm.affine)
    if batch_norm.affine:
        group_norm.to(batch_norm.weight.device, batch_norm.weight.dtype)
        group_norm.load_state_dict({"weight": batch_norm.weight, "bias": batch_norm.bias})
        group_norm.weight.requires_grad_(batch_norm.weight.requires_grad)
        group_norm.bias.requires_grad_(batch_norm.bias.requires_grad)
    return group_norm.train(batch_norm.training)


def _num_groups(num_channels: int, *, is_vector: bool) -> int:
    if is_vector:
        return 1
    num_groups = min(32, num_channels)
    if num_channels % num_groups:
        num_groups = math.gcd(32, num_channels)
    return num_groups
