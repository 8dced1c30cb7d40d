"""Per-sample gradients of linear layers."""

from __future__ import annotations

from torch import Tensor

from noisylabels_pl.per_sample.layers.base import LinearLike


class Linear(LinearLike):
    def batch_gradient(self, name: str, x: Tensor, g: Tensor) -> Tensor:
        g = g.flatten(0, -2)
        return g.sum(0) if name == "bias" else g.mT @ x.flatten(0, -2)

    def places(self) -> int:
        return self.columns(self.x[:1]).shape[1]

    def columns(self, x: Tensor) -> Tensor:
        return x.reshape(len(x), -1, x.shape[-1])

    def rows(self, g: Tensor) -> Tensor:
        return g.reshape(len(g), -1, g.shape[-1])
