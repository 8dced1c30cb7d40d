"""Base classes of the per-sample gradients of layers, and the formulas that linear layers and convolutions share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from noisylabels_pl.functional.precision import at_least_float32

# The chunk budget, in values: on the CPU what its cache holds, on other devices 256 MiB in float32.
CPU_CHUNK_VALUES = 2**21
DEVICE_CHUNK_VALUES = 2**26


class UnsupportedLayerError(ValueError):
    """Raised where the per-sample gradients of a network cannot be computed layer by layer."""


def sum_of_squares(gradients: Tensor) -> Tensor:
    """Return the squared norm ``(b,)`` of each of the gradients ``(b, ...)``."""
    return gradients.reshape(len(gradients), -1).square().sum(1)


def chunks(batch: Tensor, values_per_sample: int) -> Iterator[slice]:
    """Yield slices of the batch for which ``values_per_sample`` values per sample fit into the chunk budget."""
    budget = CPU_CHUNK_VALUES if batch.device.type == "cpu" else DEVICE_CHUNK_VALUES
    chunk_size = max(1, budget // max(values_per_sample, 1))
    for start in range(0, len(batch), chunk_size):
        yield slice(start, start + chunk_size)


def broadcast_weights(weights: Tensor, values: Tensor) -> Tensor:
    """Return the weights ``(b,)`` in the shape ``(b, 1, ..., 1)``, to be multiplied by values ``(b, ...)``."""
    singletons = (1,) * (values.ndim - 1)
    return weights.view(-1, *singletons)


class LayerGradients(ABC):
    """Per-sample gradients of the trainable parameters in one use of a layer.

    A layer that a forward pass calls twice has two of these. Parameters are named as in the layer: ``"weight"``.

    Attributes:
        values_per_sample: the number of values that :meth:`squared_norm` takes memory for, for each sample of a chunk.
    """

    values_per_sample: int

    @abstractmethod
    def per_sample_gradient(self, name: str, chunk: slice) -> Tensor:
        """Return one parameter's gradient ``(b, *parameter.shape)`` for each sample of the chunk."""

    def squared_norm(self, names: Sequence[str], chunk: slice) -> Tensor:
        """Return the squared norm ``(b,)`` of each sample's gradient over the named parameters."""
        squared_norms = [sum_of_squares(self.per_sample_gradient(name, chunk)) for name in names]
        return torch.stack(squared_norms).sum(0)

    @abstractmethod
    def weighted_gradient(self, names: Sequence[str], indices: Tensor, weights: Tensor) -> dict[str, Tensor]:
        """Return the named parameters' gradients, summed over the samples ``indices`` ``(k,)`` with weights ``(k,)``.

        The gradient of a sample that is not among the indices counts as 0.
        """


class ClosedForm(LayerGradients):
    """Per-sample gradients by a formula in the layer's input and the gradients at its output.

    Args:
        layer: the layer.
        activations: the input of the layer, ``(B, ...)``.
        backprops: the gradients of the losses at the output of the layer, ``(B, ...)``.
    """

    # True if the constructor keeps neither activations nor backprops, so that both can be freed at once.
    reduces_backprops = False

    @abstractmethod
    def __init__(self, layer: Any, activations: Tensor, backprops: Tensor) -> None: ...

    @staticmethod
    def supports(layer: Any, args: tuple[Any, ...]) -> bool:
        """Return True if the formula holds for a call of the layer with these positional arguments."""
        return len(args) == 1


class OnDemandClosedForm(ClosedForm):
    """A closed form that keeps activations and backprops, and computes gradients from them when it is asked."""

    def __init__(self, layer: Any, activations: Tensor, backprops: Tensor) -> None:
        self.layer = layer
        self.activations = activations
        self.backprops = backprops
        self.values_per_sample = sum(parameter.numel() for parameter in layer.parameters())

    def select(self, indices: slice | Tensor) -> tuple[Tensor, Tensor]:
        """Return activations and backprops of some samples, at least in float32."""
        backprops = at_least_float32(self.backprops[indices])
        return self.activations[indices].to(backprops.dtype), backprops

    def weighted_gradient(self, names: Sequence[str], indices: Tensor, weights: Tensor) -> dict[str, Tensor]:
        # These are copies, because the indices are a tensor, so the backprops may be changed.
        activations, backprops = self.select(indices)
        backprops.mul_(broadcast_weights(weights, backprops))
        with torch.autocast(backprops.device.type, enabled=False):
            return {name: self.batch_gradient(name, activations, backprops) for name in names}

    @abstractmethod
    def batch_gradient(self, name: str, activations: Tensor, backprops: Tensor) -> Tensor:
        """Return one parameter's gradient, summed over all samples of what :meth:`select` returned."""


class LinearLike(OnDemandClosedForm):
    """A layer that multiplies its weight by a vector at each of ``T`` positions: linear layers and convolutions.

    With the activations ``a_t`` and the backprops ``b_t`` of a sample at position ``t``, its weight gradient is
    ``sum_t b_t a_t^T``. There are two ways to the squared norm of that: from the gradient itself, or without it as
    ``sum_ts (a_t . a_s) (b_t . b_s)``, the ghost norm, from two matrices of inner products. The way with fewer
    multiplications is taken. The choice depends on shapes alone, so that two runs round in the same way.

    Attributes:
        use_ghost_norm: True if norms are computed without the gradient.
    """

    # The cost of a multiplication for the ghost norm, relative to one for the gradient.
    ghost_cost = 1

    def __init__(self, layer: Any, activations: Tensor, backprops: Tensor) -> None:
        super().__init__(layer, activations, backprops)
        num_groups, num_positions, num_outputs = self.unfold_backprops(backprops[:1]).shape
        num_inputs = layer.weight[0].numel()
        num_channels = layer.weight.shape[1]
        num_input_positions = self.num_input_positions()

        ghost_multiplications = num_input_positions**2 * num_channels + num_positions**2 * num_outputs
        gradient_multiplications = num_positions * num_inputs * num_outputs
        self.use_ghost_norm = self.ghost_cost * ghost_multiplications < gradient_multiplications
        if self.use_ghost_norm:
            values_per_group = 2 * (num_input_positions**2 + num_positions**2)
        else:
            values_per_group = num_positions * (num_inputs + num_outputs) + num_inputs * num_outputs
        self.values_per_sample = 2 * values_per_group * num_groups  # twice, for intermediate results

    @abstractmethod
    def num_input_positions(self) -> int:
        """Return the number of vectors whose inner products :meth:`activation_gram` starts from."""

    @abstractmethod
    def unfold_activations(self, activations: Tensor) -> Tensor:
        """Return the vectors that the weight is multiplied by, ``(b * groups, T, inputs)``."""

    @abstractmethod
    def unfold_backprops(self, backprops: Tensor) -> Tensor:
        """Return the gradients at the products of the weight and these vectors, ``(b * groups, T, outputs)``."""

    def activation_gram(self, activations: Tensor) -> Tensor:
        """Return the inner products ``(b * groups, T, T)`` of the unfolded activations."""
        unfolded = self.unfold_activations(activations)
        return unfolded @ unfolded.mT

    def weight_gradient(self, activations: Tensor, backprops: Tensor) -> Tensor:
        """Return the weight's gradient ``(b, *weight.shape)`` for each sample."""
        gradients = self.unfold_backprops(backprops).mT @ self.unfold_activations(activations)
        return gradients.view(len(activations), *self.layer.weight.shape)

    def per_sample_gradient(self, name: str, chunk: slice) -> Tensor:
        activations, backprops = self.select(chunk)
        with torch.autocast(activations.device.type, enabled=False):
            if name == "weight":
                return self.weight_gradient(activations, backprops)
            return self.unfold_backprops(backprops).sum(1).view(len(backprops), -1)

    def squared_norm(self, names: Sequence[str], chunk: slice) -> Tensor:
        if "weight" not in names or not self.use_ghost_norm:
            return super().squared_norm(names, chunk)
        squared_norms = self._ghost_norm(chunk)
        if "bias" in names:
            squared_norms = squared_norms + super().squared_norm(["bias"], chunk)
        return squared_norms

    def _ghost_norm(self, chunk: slice) -> Tensor:
        """Return the squared norm ``(b,)`` of the weight's gradient from the two Gram matrices."""
        activations, backprops = self.select(chunk)
        unfolded_backprops = self.unfold_backprops(backprops)
        with torch.autocast(activations.device.type, enabled=False):
            backprop_gram = unfolded_backprops @ unfolded_backprops.mT
            products = backprop_gram.mul_(self.activation_gram(activations))
            # Rounding can leave a gradient of 0 with a sum just below 0.
            squared_norms = products.sum((1, 2)).clamp(min=0)
        return squared_norms.view(len(activations), -1).sum(1)
