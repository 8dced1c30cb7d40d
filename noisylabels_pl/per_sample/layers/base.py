"""What a layer contributes to per-sample gradients, given its inputs and the gradients at its outputs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

# Numbers that are held at a time: on the CPU what its cache takes, on others 256 MiB in float32.
CHUNK = {"cpu": 2**21}
LARGE_CHUNK = 2**26


class NotByLayersError(ValueError):
    """A network whose per-sample gradients do not follow from its layers'."""


def squares(grads: Tensor) -> Tensor:
    """``(b,)``: squared lengths of the rows of ``(b, ...)``."""
    return grads.reshape(len(grads), -1).square().sum(1)


def chunks(batch: Tensor, size: int) -> Iterator[slice]:
    """Parts of a batch of which ``size`` numbers a sample are not too many to hold."""
    step = max(1, CHUNK.get(batch.device.type, LARGE_CHUNK) // max(size, 1))
    for start in range(0, len(batch), step):
        yield slice(start, start + step)


class LayerGradients(ABC):
    """The gradients of one use of a layer, of each sample.

    Attributes:
        size: numbers that are held for each sample on the way to :meth:`squared_norm`.
    """

    size: int

    @abstractmethod
    def per_sample_gradient(self, name: str, rows: slice) -> Tensor:
        """``(b, ...)``: of one parameter, for some of the samples."""

    def squared_norm(self, names: Sequence[str], rows: slice) -> Tensor:
        """``(b,)``: summed squares over some of the parameters."""
        return torch.stack([squares(self.per_sample_gradient(name, rows)) for name in names]).sum(0)

    @abstractmethod
    def weighted_gradient(self, names: Sequence[str], rows: Tensor, weights: Tensor) -> dict[str, Tensor]:
        """Gradients of some of the parameters, summed over the samples ``rows`` ``(k,)`` with ``weights`` ``(k,)``."""


class ClosedForm(LayerGradients):
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

    def weighted_gradient(self, names: Sequence[str], rows: Tensor, weights: Tensor) -> dict[str, Tensor]:
        x, g = self.part(rows)
        g.mul_(weights.view(-1, *(1,) * (g.ndim - 1)))
        with torch.autocast(g.device.type, enabled=False):
            return {name: self.batch_gradient(name, x, g) for name in names}

    @abstractmethod
    def batch_gradient(self, name: str, x: Tensor, g: Tensor) -> Tensor:
        """The gradient of one parameter for a whole batch, from what :meth:`part` gives of it."""


class LinearLike(ClosedForm):
    """A layer whose weight gradient is a sum of outer products over positions: linear layers and convolutions."""

    gram_cost = 1  # of a product between pairs of positions, against one in a gradient

    def __init__(self, layer: Any, x: Tensor, g: Tensor) -> None:
        super().__init__(layer, x, g)
        _, positions, outputs = self.rows(g[:1]).shape
        places, inputs = self.places(), layer.weight[0].numel()
        # |sum_t d_t a_t'|^2 is also the sum over pairs of positions of (a_t . a_s)(d_t . d_s).
        pairs = places**2 * layer.weight.shape[1] + positions**2 * outputs
        self.by_gram = self.gram_cost * pairs < positions * inputs * outputs
        held = 2 * (places**2 + positions**2) if self.by_gram else positions * (inputs + outputs) + inputs * outputs
        self.size = 2 * held * len(self.rows(g[:1]))

    @abstractmethod
    def places(self) -> int:
        """How many rows :meth:`gram` multiplies by each other, before it sums over a kernel's places."""

    @abstractmethod
    def columns(self, x: Tensor) -> Tensor:
        """``(b * groups, T, inputs)``: what is multiplied at each of T positions."""

    @abstractmethod
    def rows(self, g: Tensor) -> Tensor:
        """``(b * groups, T, outputs)``: what it is multiplied with."""

    def gram(self, x: Tensor) -> Tensor:
        """``(b * groups, T, T)``: inner products of the rows of :meth:`columns`."""
        a = self.columns(x)
        return a @ a.mT

    def weights(self, x: Tensor, g: Tensor) -> Tensor:
        """``(b, ...)``: the gradients of the weight."""
        return (self.rows(g).mT @ self.columns(x)).view(len(x), *self.layer.weight.shape)

    def per_sample_gradient(self, name: str, rows: slice) -> Tensor:
        x, g = self.part(rows)
        with torch.autocast(x.device.type, enabled=False):
            return self.weights(x, g) if name == "weight" else self.rows(g).sum(1).view(len(x), -1)

    def squared_norm(self, names: Sequence[str], rows: slice) -> Tensor:
        if "weight" not in names or not self.by_gram:
            return super().squared_norm(names, rows)
        x, g = self.part(rows)
        d = self.rows(g)
        with torch.autocast(x.device.type, enabled=False):
            total = (d @ d.mT).mul_(self.gram(x)).sum((1, 2)).clamp(min=0).view(len(x), -1).sum(1)
        return total + super().squared_norm(["bias"], rows) if "bias" in names else total
