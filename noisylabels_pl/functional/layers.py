"""What a layer contributes to per-sample gradients, given its inputs and the gradients at its outputs."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

# Numbers that are held at a time: on the CPU what its cache takes, on others 256 MiB in float32.
CHUNK = {"cpu": 2**21}
LARGE_CHUNK = 2**26


class NotByLayersError(ValueError):
    """A network whose per-sample gradients do not follow from its layers'."""


def squares(grads: Tensor) -> Tensor:
    """``(b,)``: squared lengths of the rows of ``(b, ...)``."""
    return grads.reshape(len(grads), -1).square().sum(1)


class Grads(ABC):
    """The gradients of one use of a layer, of each sample.

    Attributes:
        size: numbers that are held for each sample on the way to :meth:`squared`.
    """

    size: int

    @abstractmethod
    def per_sample(self, name: str, rows: slice) -> Tensor:
        """``(b, ...)``: of one parameter, for some of the samples."""

    def squared(self, names: Sequence[str], rows: slice) -> Tensor:
        """``(b,)``: summed squares over some of the parameters."""
        return torch.stack([squares(self.per_sample(name, rows)) for name in names]).sum(0)

    @abstractmethod
    def summed(self, names: Sequence[str], weights: Tensor) -> dict[str, Tensor]:
        """Gradients of some of the parameters, summed over all samples with ``weights`` ``(B,)``."""


class _Rule(Grads):
    """A layer whose gradients have a closed form, from the input ``x`` and the gradient ``g`` at the output."""

    def __init__(self, layer: Any, x: Tensor, g: Tensor) -> None:
        self.layer = layer
        self.x = x
        self.g = g
        self.size = sum(parameter.numel() for parameter in layer.parameters())

    @staticmethod
    def fits(layer: Any, args: tuple[Any, ...]) -> bool:
        """Whether the closed form holds for a call."""
        return len(args) == 1

    def part(self, rows: slice | Tensor) -> tuple[Tensor, Tensor]:
        """Input and gradient of some samples, at least float32."""
        dtype = torch.promote_types(self.g.dtype, torch.float32)
        return self.x[rows].to(dtype), self.g[rows].to(dtype)

    def summed(self, names: Sequence[str], weights: Tensor) -> dict[str, Tensor]:
        rows = weights.nonzero().squeeze(1)  # most are left out by a filter
        x, g = self.part(rows)
        g = g * weights[rows].view(-1, *(1,) * (g.ndim - 1))
        with torch.autocast(g.device.type, enabled=False):
            return {name: self.sums(name, x, g) for name in names}

    @abstractmethod
    def sums(self, name: str, x: Tensor, g: Tensor) -> Tensor:
        """The gradient of one parameter for a whole batch, from what :meth:`part` gives of it."""


class _Product(_Rule):
    """A layer whose weight gradient is a sum of outer products over positions: linear layers and convolutions.

    A convolution is one such product for each place in its kernel, with the input shifted by that place.
    """

    def __init__(self, layer: Any, x: Tensor, g: Tensor) -> None:
        super().__init__(layer, x, g)
        one, self.shifts = self.part(slice(0, 1)), math.prod(layer.weight.shape[2:])
        a, d = next(self.shifted(one[0])), self.rows(one[1])
        positions, inputs, outputs = a.shape[1], a.shape[2] * self.shifts, d.shape[2]
        # |sum_t d_t a_t'|^2 is also the sum over pairs of positions of (a_t . a_s)(d_t . d_s).
        self.by_gram = positions * (inputs + outputs) < inputs * outputs
        held = 2 * positions**2 if self.by_gram else a.shape[2] * outputs
        self.size = len(d) * (2 * positions * (a.shape[2] + outputs) + held)

    @abstractmethod
    def shifted(self, x: Tensor) -> Iterator[Tensor]:
        """``(b * groups, T, inputs)`` for each place in the kernel: what is multiplied at each of T positions."""

    @abstractmethod
    def rows(self, g: Tensor) -> Tensor:
        """``(b * groups, T, outputs)``: what it is multiplied with."""

    def per_sample(self, name: str, rows: slice) -> Tensor:
        x, g = self.part(rows)
        d = self.rows(g)
        with torch.autocast(x.device.type, enabled=False):
            if name == "bias":
                return d.sum(1).view(len(x), -1)
            return torch.stack([d.mT @ a for a in self.shifted(x)], 3).view(len(x), *self.layer.weight.shape)

    def squared(self, names: Sequence[str], rows: slice) -> Tensor:
        x, g = self.part(rows)
        d = self.rows(g)
        with torch.autocast(x.device.type, enabled=False):
            total = torch.zeros(len(d), dtype=d.dtype, device=d.device)
            if "weight" in names and self.by_gram:
                gram = torch.stack([a @ a.mT for a in self.shifted(x)]).sum(0)
                total += (gram * (d @ d.mT)).sum((1, 2)).clamp(min=0)
            elif "weight" in names:
                for a in self.shifted(x):
                    total += (d.mT @ a).square_().sum((1, 2))
            if "bias" in names:
                total += d.sum(1).square().sum(1)
        return total.view(len(x), -1).sum(1)


class _Linear(_Product):
    def sums(self, name: str, x: Tensor, g: Tensor) -> Tensor:
        g = g.flatten(0, -2)
        return g.sum(0) if name == "bias" else g.mT @ x.flatten(0, -2)

    def shifted(self, x: Tensor) -> Iterator[Tensor]:
        yield x.reshape(len(x), -1, x.shape[-1])

    def rows(self, g: Tensor) -> Tensor:
        return g.reshape(len(g), -1, g.shape[-1])


class _Conv(_Product):
    def sums(self, name: str, x: Tensor, g: Tensor) -> Tensor:
        if name == "bias":
            return g.flatten(2).sum((0, 2))
        layer, padding = self.layer, self._padding()
        if layer.padding_mode != "zeros" or isinstance(layer.padding, str):
            x = F.pad(x, padding, mode="constant" if layer.padding_mode == "zeros" else layer.padding_mode)
            padding = [0] * len(padding)
        options = (layer.stride, padding[::-2], layer.dilation, False, [0] * (x.ndim - 2), layer.groups)
        grads = torch.ops.aten.convolution_backward(g, x, layer.weight, None, *options, [False, True, False])
        weight: Tensor = grads[1]
        return weight

    def shifted(self, x: Tensor) -> Iterator[Tensor]:
        layer = self.layer
        options = list(zip(layer.kernel_size, layer.dilation, layer.stride, self.g.shape[2:], strict=True))
        mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
        # Channels last, so that a shift is one copy.
        x = F.pad(x, self._padding(), mode=mode).movedim(1, -1)
        for place in product(*(range(size) for size in layer.kernel_size)):
            cut = [slice(None)]
            for at, (_, dilation, stride, length) in zip(place, options, strict=True):
                cut.append(slice(at * dilation, at * dilation + stride * (length - 1) + 1, stride))
            a = x[tuple(cut)].reshape(len(x), -1, layer.groups, x.shape[-1] // layer.groups)
            yield a.transpose(1, 2).reshape(len(x) * layer.groups, -1, a.shape[3])

    def rows(self, g: Tensor) -> Tensor:
        return g.reshape(len(g) * self.layer.groups, g.shape[1] // self.layer.groups, -1).mT

    def _padding(self) -> list[int]:
        """As :func:`torch.nn.functional.pad` takes it: of the last dimension first."""
        layer, padding = self.layer, []
        for d in reversed(range(len(layer.kernel_size))):
            if layer.padding == "same":
                total = layer.dilation[d] * (layer.kernel_size[d] - 1)
                padding += [total // 2, total - total // 2]
            else:
                padding += [0, 0] if layer.padding == "valid" else [layer.padding[d]] * 2
        return padding


class _Embedding(_Rule):
    @staticmethod
    def fits(layer: Any, args: tuple[Any, ...]) -> bool:
        return layer.max_norm is None and not layer.scale_grad_by_freq and not layer.sparse

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


class _Affine(_Rule):
    """A normalisation with a scale and a shift."""

    def per_sample(self, name: str, rows: slice) -> Tensor:
        return self.each(name, *self.part(rows))

    def sums(self, name: str, x: Tensor, g: Tensor) -> Tensor:
        return self.each(name, x, g).sum(0)

    @abstractmethod
    def each(self, name: str, x: Tensor, g: Tensor) -> Tensor:
        """``(b, ...)``: the gradients of one parameter."""


class _LayerNorm(_Affine):
    def each(self, name: str, x: Tensor, g: Tensor) -> Tensor:
        if name == "weight":
            g = g * F.layer_norm(x, self.layer.normalized_shape, eps=self.layer.eps)
        return g.reshape(len(x), -1, *self.layer.normalized_shape).sum(1)


class _GroupNorm(_Affine):
    def each(self, name: str, x: Tensor, g: Tensor) -> Tensor:
        if name == "weight":
            g = g * F.group_norm(x, self.layer.num_groups, eps=self.layer.eps)
        return g.reshape(*g.shape[:2], -1).sum(2)


# By exact type: a subclass may compute something else.
RULES: dict[type[nn.Module], type[_Rule]] = {
    nn.Linear: _Linear,
    nn.Conv1d: _Conv,
    nn.Conv2d: _Conv,
    nn.Conv3d: _Conv,
    nn.Embedding: _Embedding,
    nn.LayerNorm: _LayerNorm,
    nn.GroupNorm: _GroupNorm,
}
