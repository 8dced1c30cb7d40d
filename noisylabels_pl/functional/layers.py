"""What a layer contributes to per-sample gradients, given its inputs and the gradients at its outputs."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from noisylabels_pl.functional.convolutions import Convolution
from noisylabels_pl.functional.rule import Grads, Product, Rule, chunks


class _Linear(Product):
    def sums(self, name: str, x: Tensor, g: Tensor) -> Tensor:
        g = g.flatten(0, -2)
        return g.sum(0) if name == "bias" else g.mT @ x.flatten(0, -2)

    def places(self) -> int:
        return self.columns(self.x[:1]).shape[1]

    def columns(self, x: Tensor) -> Tensor:
        return x.reshape(len(x), -1, x.shape[-1])

    def rows(self, g: Tensor) -> Tensor:
        return g.reshape(len(g), -1, g.shape[-1])


class _Embedding(Rule):
    @staticmethod
    def fits(layer: Any, args: tuple[Any, ...]) -> bool:
        return Rule.fits(layer, args) and layer.max_norm is None and not layer.scale_grad_by_freq and not layer.sparse

    def __init__(self, layer: Any, x: Tensor, g: Tensor) -> None:
        super().__init__(layer, x, g)
        self.size = 2 * g[0].numel()

    def part(self, rows: slice | Tensor) -> tuple[Tensor, Tensor]:
        """Tokens ``(b, T)`` and their gradients ``(b, T, d)``."""
        x = self.x[rows].reshape(len(self.x[rows]), -1)
        g = self.g[rows].to(torch.promote_types(self.g.dtype, torch.float32))
        g = g.reshape(*x.shape, g.shape[-1])
        if self.layer.padding_idx is not None:
            g = g * (x != self.layer.padding_idx).unsqueeze(2)
        return x, g

    def sums(self, name: str, x: Tensor, g: Tensor) -> Tensor:
        return g.new_zeros(self.layer.weight.shape).index_add_(0, x.flatten(), g.flatten(0, 1))

    def per_sample(self, name: str, rows: slice) -> Tensor:
        x, g = self.part(rows)
        grads = g.new_zeros(len(x), *self.layer.weight.shape)
        return grads.scatter_add_(1, x.unsqueeze(2).expand_as(g), g)

    def squared(self, names: Sequence[str], rows: slice) -> Tensor:
        x, g = self.part(rows)
        count = self.layer.num_embeddings
        places = torch.arange(len(x), device=x.device).unsqueeze(1) * count + x
        found, inverse = places.unique(return_inverse=True)
        sums = g.new_zeros(len(found), g.shape[2]).index_add_(0, inverse.flatten(), g.flatten(0, 1))
        return g.new_zeros(len(x)).index_add_(0, found // count, sums.square().sum(1))


class Affine(Grads):
    """A normalisation with a scale and a shift: so few numbers for each sample that they are found once and kept."""

    def __init__(self, layer: Any, x: Tensor, g: Tensor) -> None:
        self.layer = layer
        self.size = 2 * layer.weight.numel()
        dtype = torch.promote_types(g.dtype, torch.float32)
        rows = chunks(x, 4 * x[:1].numel())
        weights, biases = zip(*(self.each(x[part].to(dtype), g[part].to(dtype)) for part in rows), strict=True)
        self.grads = {"weight": torch.cat(weights), "bias": torch.cat(biases)}

    fits = Rule.fits

    def per_sample(self, name: str, rows: slice) -> Tensor:
        return self.grads[name][rows]

    def summed(self, names: Sequence[str], rows: Tensor, weights: Tensor) -> dict[str, Tensor]:
        factors = weights.view(-1, *(1,) * self.layer.weight.ndim)
        return {name: (factors * self.grads[name][rows]).sum(0) for name in names}

    @abstractmethod
    def each(self, x: Tensor, g: Tensor) -> tuple[Tensor, Tensor]:
        """``(b, ...)`` each: the gradients of the scale and of the shift."""


class _LayerNorm(Affine):
    def each(self, x: Tensor, g: Tensor) -> tuple[Tensor, Tensor]:
        shape = self.layer.normalized_shape
        scaled = g * F.layer_norm(x, shape, eps=self.layer.eps)
        return scaled.reshape(len(x), -1, *shape).sum(1), g.reshape(len(x), -1, *shape).sum(1)


class _GroupNorm(Affine):
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


# By exact type: a subclass may compute something else.
RULES: dict[type[nn.Module], type[Rule | Affine]] = {
    nn.Linear: _Linear,
    nn.Conv1d: Convolution,
    nn.Conv2d: Convolution,
    nn.Conv3d: Convolution,
    nn.Embedding: _Embedding,
    nn.LayerNorm: _LayerNorm,
    nn.GroupNorm: _GroupNorm,
}
