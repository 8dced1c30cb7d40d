"""Per-sample gradients of linear layers."""

from __future__ import annotations

from torch import Tensor

from noisylabels_pl.per_sample.layers.base import LinearLike


class Linear(LinearLike):
    """Per-sample gradients of :class:`torch.nn.Linear`; dimensions between the first and the last are positions.

    Args:
        layer: the layer.
        activations: its input, ``(B, ..., in_features)``.
        backprops: the gradients at its output, ``(B, ..., out_features)``.
    """

    def num_input_positions(self) -> int:
        return self.unfold_activations(self.activations[:1]).shape[1]

    def unfold_activations(self, activations: Tensor) -> Tensor:
        return activations.reshape(len(activations), -1, activations.shape[-1])

    def unfold_backprops(self, backprops: Tensor) -> Tensor:
        return backprops.reshape(len(backprops), -1, backprops.shape[-1])

    def batch_gradient(self, name: str, activations: Tensor, backprops: Tensor) -> Tensor:
        backprops = backprops.flatten(0, -2)
        if name == "bias":
            return backprops.sum(0)
        return backprops.mT @ activations.flatten(0, -2)
