"""Per-sample gradients of embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from noisylabels_pl.per_sample.layers.base import ClosedForm


class Embedding(ClosedForm):
    @staticmethod
    def fits(layer: Any, args: tuple[Any, ...]) -> bool:
        return (
            ClosedForm.fits(layer, args)
            and layer.max_norm is None
            and not layer.scale_grad_by_freq
            and not layer.sparse
        )

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

    def batch_gradient(self, name: str, x: Tensor, g: Tensor) -> Tensor:
        return g.new_zeros(self.layer.weight.shape).index_add_(0, x.flatten(), g.flatten(0, 1))

    def per_sample_gradient(self, name: str, rows: slice) -> Tensor:
        x, g = self.part(rows)
        grads = g.new_zeros(len(x), *self.layer.weight.shape)
        return grads.scatter_add_(1, x.unsqueeze(2).expand_as(g), g)

    def squared_norm(self, names: Sequence[str], rows: slice) -> Tensor:
        x, g = self.part(rows)
        count = self.layer.num_embeddings
        places = torch.arange(len(x), device=x.device).unsqueeze(1) * count + x
        found, inverse = places.unique(return_inverse=True)
        sums = g.new_zeros(len(found), g.shape[2]).index_add_(0, inverse.flatten(), g.flatten(0, 1))
        return g.new_zeros(len(x)).index_add_(0, found // count, sums.square().sum(1))
