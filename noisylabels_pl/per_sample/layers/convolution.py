"""Per-sample gradients of convolutions."""

from __future__ import annotations

from functools import reduce

import torch
from torch import Tensor
from torch.nn import functional as F

from noisylabels_pl.per_sample.layers.base import LinearLike


class Convolution(LinearLike):
    """Its positions are those of the kernel in the padded input."""

    gram_cost = 2  # by measurements on the CPU, with what the windows cost

    def batch_gradient(self, name: str, x: Tensor, g: Tensor) -> Tensor:
        return g.flatten(2).sum((0, 2)) if name == "bias" else self._backward(x, g, self.layer.weight)

    def weights(self, x: Tensor, g: Tensor) -> Tensor:
        # oneDNN's are much faster than matrix products, and as exact; other libraries are slow with many groups.
        available = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
        if x.device.type != "cpu" or x.dtype != torch.float32 or not available:
            return super().weights(x, g)
        weights = x.new_empty(len(x), *self.layer.weight.shape)
        x, g = (value.reshape(1, -1, *value.shape[2:]) for value in (x, g))  # each sample is a group
        return self._backward(x, g, weights.flatten(0, 1)).reshape(weights.shape)

    def _backward(self, x: Tensor, g: Tensor, weight: Tensor) -> Tensor:
        """The gradient of a ``weight`` of as many groups as there are channels for."""
        layer, padding = self.layer, self._padding()
        if layer.padding_mode != "zeros" or isinstance(layer.padding, str):
            x, padding = self._padded(x), [0] * len(padding)
        groups = x.shape[1] // weight.shape[1]
        options = (layer.stride, padding[::-2], layer.dilation, False, [0] * (x.ndim - 2), groups)
        grads = torch.ops.aten.convolution_backward(g, x, weight, None, *options, [False, True, False])
        found: Tensor = grads[1]
        return found

    def places(self) -> int:
        return self._padded(self.x[:1])[0, 0].numel()

    def columns(self, x: Tensor) -> Tensor:
        x = self._grouped(x)
        dims = x.ndim - 2
        for d, (size, stride, dilation, _) in enumerate(self._windows(), 2):
            x = x.unfold(d, dilation * (size - 1) + 1, stride)[..., ::dilation]
        return x.movedim(1, dims + 1).flatten(1, dims).flatten(2)

    def gram(self, x: Tensor) -> Tensor:
        # Between pixels, which are then summed over windows that move along with both: no pixel is held twice.
        x = self._grouped(x)
        dims, a = x.ndim - 2, x.flatten(2)
        gram = (a.mT @ a).view(len(a), *x.shape[2:], *x.shape[2:])
        for d, (size, stride, dilation, length) in enumerate(self._windows(), 1):
            cuts = (slice(at, at + stride * (length - 1) + 1, stride) for at in range(0, size * dilation, dilation))
            rest = (slice(None),) * (dims - 1)
            places = [(*(slice(None),) * d, cut, *rest, cut) for cut in cuts]
            gram = reduce(torch.add, [gram[place] for place in places])
        return gram.flatten(1, dims).flatten(2)

    def rows(self, g: Tensor) -> Tensor:
        return g.reshape(len(g) * self.layer.groups, g.shape[1] // self.layer.groups, -1).mT

    def _windows(self) -> list[tuple[int, int, int, int]]:
        """Of each dimension: kernel size, stride, dilation and length of the output."""
        layer = self.layer
        return list(zip(layer.kernel_size, layer.stride, layer.dilation, self.g.shape[2:], strict=True))

    def _grouped(self, x: Tensor) -> Tensor:
        """``(b * groups, channels, ...)``: padded, with the channels of a group."""
        x = self._padded(x)
        return x.reshape(len(x) * self.layer.groups, -1, *x.shape[2:])

    def _padded(self, x: Tensor) -> Tensor:
        mode = self.layer.padding_mode
        return F.pad(x, self._padding(), mode="constant" if mode == "zeros" else mode)

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
