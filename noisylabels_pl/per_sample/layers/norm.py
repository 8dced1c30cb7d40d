"""What a layer contributes to per-sample gradients, given its inputs and the gradients at its outputs."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from noisylabels_pl.per_sample.layers.base import ClosedForm, LayerGradients, chunks


class Affine(LayerGradients):
    """A normalization with a scale and a shift: so few numbers for each sample that they are found once and kept."""

    def __init__(self, layer: Any, x: Tensor, g: Tensor) -> None:
        self.layer = layer
        self.size = 2 * layer.weight.numel()
        dtype = torch.promote_types(g.dtype, torch.float32)
        rows = chunks(x, 4 * x[:1].numel())
        weights, biases = zip(*(self.each(x[part].to(dtype), g[part].to(dtype)) for part in rows), strict=True)
        self.grads = {"weight": torch.cat(weights), "bias": torch.cat(biases)}

    fits = ClosedForm.fits

    def per_sample_gradient(self, name: str, rows: slice) -> Tensor:
        return self.grads[name][rows]

    def weighted_gradient(self, names: Sequence[str], rows: Tensor, weights: Tensor) -> dict[str, Tensor]:
        factors = weights.view(-1, *(1,) * self.layer.weight.ndim)
        return {name: (factors * self.grads[name][rows]).sum(0) for name in names}

    @abstractmethod
    def each(self, x: Tensor, g: Tensor) -> tuple[Tensor, Tensor]:
        """``(b, ...)`` each: the gradients of the scale and of the shift."""


class LayerNorm(Affine):
    def each(self, x: Tensor, g: Tensor) -> tuple[Tensor, Tensor]:
        shape = self.layer.normalized_shape
        scaled = g * F.layer_norm(x, shape, eps=self.layer.eps)
        return scaled.reshape(len(x), -1, *shape).sum(1), g.reshape(len(x), -1, *shape).sum(1)


class GroupNorm(Affine):
    def each(self, x: Tensor, g: Tensor) -> tuple[Tensor, Tensor]:
        # By hand, because F.group_norm is slow on channels that come last.
        x, g = (value.reshape(*value.shape[:2], -1) for value in (x, g))
        means, shift = x.mean(2), g.sum(2)
        x = x - means.unsqueeze(2)
        offsets = means - self._of_groups(means)
        variances = self._of_groups(x.square().mean(2) + offsets.square())
        return ((x * g).sum(2) + offsets * shift) * (variances + self.layer.eps).rsqrt(), shift

    def _of_groups(self, values: Tensor) -> Tensor:
        """The mean over each group's channels, for each of its channels."""
        groups = values.reshape(len(values), self.layer.num_groups, -1)
        return groups.mean(2, keepdim=True).expand_as(groups).flatten(1)
