"""Per-sample gradients of embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from noisylabels_pl.functional.precision import at_least_float32
from noisylabels_pl.per_sample.layers.base import OnDemandClosedForm


class Embedding(OnDemandClosedForm):
    """Per-sample gradients of :class:`torch.nn.Embedding`: a token's row is the sum of the backprops where it occurs.

    Args:
        layer: the layer.
        activations: the tokens, integers ``(B, ...)``.
        backprops: the gradients at its output, ``(B, ..., embedding_dim)``.
    """

    def __init__(self, layer: Any, activations: Tensor, backprops: Tensor) -> None:
        super().__init__(layer, activations, backprops)
        self.values_per_sample = 2 * backprops[0].numel()

    @staticmethod
    def supports(layer: Any, args: tuple[Any, ...]) -> bool:
        is_plain_lookup = layer.max_norm is None and not layer.scale_grad_by_freq and not layer.sparse
        return is_plain_lookup and OnDemandClosedForm.supports(layer, args)

    def select(self, indices: slice | Tensor) -> tuple[Tensor, Tensor]:
        """Return tokens ``(b, T)`` and backprops ``(b, T, embedding_dim)``, which are 0 at padding tokens."""
        tokens = self.activations[indices]
        tokens = tokens.reshape(len(tokens), -1)
        backprops = at_least_float32(self.backprops[indices])
        backprops = backprops.reshape(*tokens.shape, backprops.shape[-1])
        if self.layer.padding_idx is not None:
            is_not_padding = tokens != self.layer.padding_idx
            backprops = backprops * is_not_padding.unsqueeze(2)
        return tokens, backprops

    def per_sample_gradient(self, name: str, chunk: slice) -> Tensor:
        tokens, backprops = self.select(chunk)
        gradients = backprops.new_zeros(len(tokens), *self.layer.weight.shape)
        return gradients.scatter_add_(1, tokens.unsqueeze(2).expand_as(backprops), backprops)

    def squared_norm(self, names: Sequence[str], chunk: slice) -> Tensor:
        # A row stands for a token that occurs in a sample. Only these rows of the samples' gradients are computed.
        tokens, backprops = self.select(chunk)
        num_embeddings = self.layer.num_embeddings
        samples = torch.arange(len(tokens), device=tokens.device).unsqueeze(1)
        sample_and_token = samples * num_embeddings + tokens
        rows, row_of_position = sample_and_token.unique(return_inverse=True)
        row_gradients = backprops.new_zeros(len(rows), backprops.shape[2])
        row_gradients.index_add_(0, row_of_position.flatten(), backprops.flatten(0, 1))
        sample_of_row = rows // num_embeddings
        return backprops.new_zeros(len(tokens)).index_add_(0, sample_of_row, row_gradients.square().sum(1))

    def batch_gradient(self, name: str, activations: Tensor, backprops: Tensor) -> Tensor:
        gradient = backprops.new_zeros(self.layer.weight.shape)
        return gradient.index_add_(0, activations.flatten(), backprops.flatten(0, 1))
