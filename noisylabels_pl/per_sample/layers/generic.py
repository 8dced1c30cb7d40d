"""Per-sample gradients of a layer without a closed form."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from noisylabels_pl.per_sample.layers.base import LayerGradients, NotByLayersError, squares


class GenericLayer(LayerGradients):
    """Gradients of any layer by calling it again for each sample, with :mod:`torch.func`.

    Tensors among its arguments that have as many rows as the batch are taken to have one for each sample.

    Args:
        name: of the layer in the network.
        layer: the layer.
        args: what it was called with.
        kwargs: likewise.
        grads: the gradients at the tensors that it returned, see :func:`tensors`; ``None`` is 0.
    """

    def __init__(
        self,
        name: str,
        layer: nn.Module,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        grads: Sequence[Tensor | None],
    ) -> None:
        self.name = name
        self.layer = layer
        self.call = args, kwargs
        self.grads = {place: grad for place, grad in enumerate(grads) if grad is not None}
        self.trainable = {name: value.detach() for name, value in layer.named_parameters() if value.requires_grad}
        self.size = sum(value.numel() for value in self.trainable.values())
        given = dict(enumerate(args)) | kwargs
        batch = len(next(iter(self.grads.values())))
        self.inputs = {k: v for k, v in given.items() if isinstance(v, Tensor) and v.ndim and len(v) == batch}
        self.fixed = {k: v for k, v in given.items() if k not in self.inputs}
        self._last: tuple[slice, dict[str, Tensor]] | None = None

    def per_sample_gradient(self, name: str, rows: slice) -> Tensor:
        return self._gradients(rows)[name]

    def squared_norm(self, names: Sequence[str], rows: slice) -> Tensor:
        grads = self._gradients(rows)
        return torch.stack([squares(grads[name]) for name in names]).sum(0)

    def weighted_gradient(self, names: Sequence[str], rows: Tensor, weights: Tensor) -> dict[str, Tensor]:
        args, kwargs = self.call
        grads = {}
        for place, grad in self.grads.items():
            factors = weights.view(-1, *(1,) * (grad.ndim - 1))
            grads[place] = torch.zeros_like(grad).index_copy_(0, rows, (grad[rows] * factors).to(grad.dtype))
        with torch.enable_grad():
            found = self._vjp(args, kwargs, grads)
        return {name: found[name] for name in names}

    def _gradients(self, rows: slice) -> dict[str, Tensor]:
        if self._last is None or self._last[0] != rows:
            self._last = rows, self._find_gradients(rows)
        return self._last[1]

    def _find_gradients(self, rows: slice) -> dict[str, Tensor]:
        inputs = {name: value[rows] for name, value in self.inputs.items()}
        grads = {place: grad[rows] for place, grad in self.grads.items()}
        # Of the implementations of attention vmap knows the plain one; some layers run otherwise without gradients.
        with sdpa_kernel(SDPBackend.MATH), torch.enable_grad():
            try:
                found: dict[str, Tensor] = torch.vmap(self._of_one, randomness="different")(inputs, grads)
                return found
            except (RuntimeError, ValueError):  # a layer that vmap cannot take
                return self._one_by_one(inputs, grads)

    def _one_by_one(self, inputs: dict[Any, Tensor], grads: dict[int, Tensor]) -> dict[str, Tensor]:
        try:
            singles = [
                self._of_one({name: value[i] for name, value in inputs.items()}, {p: g[i] for p, g in grads.items()})
                for i in range(len(next(iter(grads.values()))))
            ]
        except (RuntimeError, ValueError) as error:
            raise NotByLayersError(f"layer {self.name!r} cannot be called with one sample ({error})") from error
        return {name: torch.stack([single[name] for single in singles]) for name in self.trainable}

    def _of_one(self, inputs: dict[Any, Tensor], grads: dict[int, Tensor]) -> dict[str, Tensor]:
        given = self.fixed | {name: value.unsqueeze(0) for name, value in inputs.items()}
        args = tuple(given[i] for i in range(sum(isinstance(name, int) for name in given)))
        kwargs = {name: value for name, value in given.items() if isinstance(name, str)}

        return self._vjp(args, kwargs, {place: grad.unsqueeze(0) for place, grad in grads.items()})

    def _vjp(self, args: tuple[Any, ...], kwargs: dict[str, Any], grads: dict[int, Tensor]) -> dict[str, Tensor]:
        def outputs_of(trainable: dict[str, Tensor]) -> dict[int, Tensor]:
            outputs = tensors(torch.func.functional_call(self.layer, trainable, args, kwargs))
            return {place: outputs[place] for place in grads}

        _, vjp, *_ = torch.func.vjp(outputs_of, self.trainable)
        found: dict[str, Tensor] = vjp(grads)[0]
        return found


def tensors(output: Any) -> list[Tensor]:
    """The tensors of real numbers that a layer returned, by itself or in a tuple."""
    values = output if isinstance(output, (tuple, list)) else (output,)
    return [value for value in values if isinstance(value, Tensor) and value.is_floating_point()]
