"""Per-sample gradients of layers without a closed form."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from noisylabels_pl.per_sample.layers.base import (
    LayerGradients,
    UnsupportedLayerError,
    broadcast_weights,
    sum_of_squares,
)


class GenericLayer(LayerGradients):
    """Per-sample gradients of any layer, by calling it again for each sample with :mod:`torch.func`.

    A tensor argument whose first dimension is as long as the batch is taken to hold one row for each sample. Every
    other argument is passed unchanged.

    Args:
        name: the name of the layer in the network, for messages.
        layer: the layer.
        args: the positional arguments of the call.
        kwargs: the keyword arguments of the call.
        backprops: the gradients ``(B, ...)`` at each tensor of :func:`floating_point_tensors` of the layer's output;
            ``None`` stands for 0.
    """

    def __init__(
        self,
        name: str,
        layer: nn.Module,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        backprops: Sequence[Tensor | None],
    ) -> None:
        self.name = name
        self.layer = layer
        self.args = args
        self.kwargs = kwargs
        # By the position of the tensor in the layer's output.
        self.backprops = {position: grad for position, grad in enumerate(backprops) if grad is not None}
        self.parameters = {key: value.detach() for key, value in layer.named_parameters() if value.requires_grad}
        self.values_per_sample = sum(value.numel() for value in self.parameters.values())

        # By position or keyword.
        arguments: dict[int | str, Any] = dict(enumerate(args))
        arguments.update(kwargs.items())
        batch_size = len(next(iter(self.backprops.values())))
        self.batched_arguments: dict[int | str, Tensor] = {}
        self.shared_arguments: dict[int | str, Any] = {}
        for key, value in arguments.items():
            if isinstance(value, Tensor) and value.ndim and len(value) == batch_size:
                self.batched_arguments[key] = value
            else:
                self.shared_arguments[key] = value

        # The last chunk's gradients are kept: callers ask for one parameter at a time, but all are computed at once.
        self._cached_chunk: slice | None = None
        self._cached_gradients: dict[str, Tensor] = {}

    def per_sample_gradient(self, name: str, chunk: slice) -> Tensor:
        return self._gradients(chunk)[name]

    def squared_norm(self, names: Sequence[str], chunk: slice) -> Tensor:
        gradients = self._gradients(chunk)
        return torch.stack([sum_of_squares(gradients[name]) for name in names]).sum(0)

    def weighted_gradient(self, names: Sequence[str], indices: Tensor, weights: Tensor) -> dict[str, Tensor]:
        weighted_backprops = {}
        for position, backprops in self.backprops.items():
            selected = backprops[indices]
            weighted = (selected * broadcast_weights(weights, selected)).to(backprops.dtype)
            weighted_backprops[position] = torch.zeros_like(backprops).index_copy_(0, indices, weighted)
        with torch.enable_grad():
            gradients = self._vjp(self.args, self.kwargs, weighted_backprops)
        return {name: gradients[name] for name in names}

    def _gradients(self, chunk: slice) -> dict[str, Tensor]:
        """Return the gradients of all parameters for the samples of a chunk."""
        if self._cached_chunk != chunk:
            self._cached_gradients = self._compute_gradients(chunk)
            self._cached_chunk = chunk
        return self._cached_gradients

    def _compute_gradients(self, chunk: slice) -> dict[str, Tensor]:
        arguments = {key: value[chunk] for key, value in self.batched_arguments.items()}
        backprops = {position: grad[chunk] for position, grad in self.backprops.items()}
        # vmap can map only the plain implementation of attention. Gradients are enabled, because some layers compute
        # their output in another way without them.
        with sdpa_kernel(SDPBackend.MATH), torch.enable_grad():
            try:
                gradient_of_each = torch.vmap(self._sample_gradient, randomness="different")
                gradients: dict[str, Tensor] = gradient_of_each(arguments, backprops)
                return gradients
            except (RuntimeError, ValueError):  # from a layer that vmap cannot map
                return self._compute_one_by_one(arguments, backprops)

    def _compute_one_by_one(
        self, arguments: dict[int | str, Tensor], backprops: dict[int, Tensor]
    ) -> dict[str, Tensor]:
        num_samples = len(next(iter(backprops.values())))
        sample_gradients = []
        for sample in range(num_samples):
            sample_arguments = {key: value[sample] for key, value in arguments.items()}
            sample_backprops = {position: grad[sample] for position, grad in backprops.items()}
            try:
                sample_gradients.append(self._sample_gradient(sample_arguments, sample_backprops))
            except (RuntimeError, ValueError) as error:
                raise UnsupportedLayerError(
                    f"layer {self.name!r} cannot be called with one sample ({error})"
                ) from error
        return {name: torch.stack([gradients[name] for gradients in sample_gradients]) for name in self.parameters}

    def _sample_gradient(self, arguments: dict[int | str, Tensor], backprops: dict[int, Tensor]) -> dict[str, Tensor]:
        """Return the gradients for one sample, from arguments and backprops without a batch dimension."""
        call = dict(self.shared_arguments)
        for key, value in arguments.items():
            call[key] = value.unsqueeze(0)
        args = tuple(call[index] for index in range(len(self.args)))
        kwargs = {key: call[key] for key in self.kwargs}
        batched_backprops = {position: grad.unsqueeze(0) for position, grad in backprops.items()}
        return self._vjp(args, kwargs, batched_backprops)

    def _vjp(self, args: tuple[Any, ...], kwargs: dict[str, Any], backprops: dict[int, Tensor]) -> dict[str, Tensor]:
        """Return the parameters' gradients for a call of the layer, summed over its batch."""

        def outputs_of(parameters: dict[str, Tensor]) -> dict[int, Tensor]:
            outputs = floating_point_tensors(torch.func.functional_call(self.layer, parameters, args, kwargs))
            return {position: outputs[position] for position in backprops}

        _, vjp, *_ = torch.func.vjp(outputs_of, self.parameters)
        gradients: dict[str, Tensor] = vjp(backprops)[0]
        return gradients


def floating_point_tensors(output: Any) -> list[Tensor]:
    """Return the floating-point tensors that a layer returned, by themselves or in a tuple."""
    values = output if isinstance(output, (tuple, list)) else (output,)
    return [value for value in values if isinstance(value, Tensor) and value.is_floating_point()]
