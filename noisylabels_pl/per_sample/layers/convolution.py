"""Per-sample gradients of convolutions."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from noisylabels_pl.per_sample.layers.base import LinearLike


class _Window(NamedTuple):
    """The kernel along one dimension of the padded input."""

    kernel_size: int
    stride: int
    dilation: int
    num_positions: int

    def pixels(self) -> list[slice]:
        """Return for each kernel element a slice: the pixel that it meets at each position of the kernel."""
        span = self.stride * (self.num_positions - 1) + 1
        offsets = range(0, self.kernel_size * self.dilation, self.dilation)
        return [slice(offset, offset + span, self.stride) for offset in offsets]


class Convolution(LinearLike):
    """Per-sample gradients of convolutions in one to three dimensions, with any stride, padding, dilation and groups.

    A position is a place of the kernel on the padded input. An input position is a pixel of the padded input.

    Args:
        layer: the layer.
        activations: its input, ``(B, in_channels, ...)``.
        backprops: the gradients at its output, ``(B, out_channels, ...)``.
    """

    # Measured on the CPU; it accounts for the sums over windows.
    ghost_cost = 2

    def num_input_positions(self) -> int:
        return self._pad(self.activations[:1])[0, 0].numel()

    def unfold_activations(self, activations: Tensor) -> Tensor:
        windows = self._split_groups(self._pad(activations))
        num_dims = windows.ndim - 2
        for dim, window in enumerate(self._windows(), start=2):
            extent = window.dilation * (window.kernel_size - 1) + 1
            windows = windows.unfold(dim, extent, window.stride)[..., :: window.dilation]
        return windows.movedim(1, num_dims + 1).flatten(1, num_dims).flatten(2)

    def unfold_backprops(self, backprops: Tensor) -> Tensor:
        num_groups = self.layer.groups
        return backprops.reshape(len(backprops) * num_groups, backprops.shape[1] // num_groups, -1).mT

    def activation_gram(self, activations: Tensor) -> Tensor:
        # A kernel element meets one pixel in each of two windows. The inner product of the windows is the sum, over the
        # kernel elements, of the inner products of these two pixels. So the inner products of all pixels are computed
        # first and then summed over windows, and no pixel is copied into windows.
        padded = self._split_groups(self._pad(activations))
        num_dims = padded.ndim - 2
        pixels = padded.flatten(2)
        gram = (pixels.mT @ pixels).view(len(pixels), *padded.shape[2:], *padded.shape[2:])
        for dim, window in enumerate(self._windows(), start=1):
            gram = _sum_over_window(gram, dim, dim + num_dims, window)
        return gram.flatten(1, num_dims).flatten(2)

    def weight_gradient(self, activations: Tensor, backprops: Tensor) -> Tensor:
        # On the CPU, oneDNN's grouped convolution is much faster than matrix products, and as exact. On other devices,
        # convolutions with many groups are slow.
        has_onednn = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
        if activations.device.type != "cpu" or activations.dtype != torch.float32 or not has_onednn:
            return super().weight_gradient(activations, backprops)
        # The batch becomes one image, and each sample a group of its channels. So the gradient of a group is the
        # gradient of a sample. Of the weight only its shape is used.
        weight_of_each = activations.new_empty(len(activations), *self.layer.weight.shape)
        activations = activations.reshape(1, -1, *activations.shape[2:])
        backprops = backprops.reshape(1, -1, *backprops.shape[2:])
        gradients = self._convolution_backward(activations, backprops, weight_of_each.flatten(0, 1))
        return gradients.reshape(weight_of_each.shape)

    def batch_gradient(self, name: str, activations: Tensor, backprops: Tensor) -> Tensor:
        if name == "bias":
            return backprops.flatten(2).sum((0, 2))
        return self._convolution_backward(activations, backprops, self.layer.weight)

    def _convolution_backward(self, activations: Tensor, backprops: Tensor, weight: Tensor) -> Tensor:
        """Return the gradient of the weight; the number of groups is inferred from its shape and the activations'."""
        layer = self.layer
        padding = self._padding()
        if layer.padding_mode != "zeros" or isinstance(layer.padding, str):
            activations = self._pad(activations)
            padding = [0] * len(padding)
        gradients = torch.ops.aten.convolution_backward(
            backprops,
            activations,
            weight,
            None,  # bias
            layer.stride,
            padding[::-2],  # one number a dimension, the first one first: both sides have the same padding here
            layer.dilation,
            False,  # not transposed
            [0] * (activations.ndim - 2),  # output padding
            activations.shape[1] // weight.shape[1],  # groups
            [False, True, False],  # only the weight's gradient
        )
        weight_gradient: Tensor = gradients[1]
        return weight_gradient

    def _windows(self) -> list[_Window]:
        """Return the kernel's window along each dimension."""
        layer = self.layer
        sizes = zip(layer.kernel_size, layer.stride, layer.dilation, self.backprops.shape[2:], strict=True)
        return [_Window(*window) for window in sizes]

    def _split_groups(self, images: Tensor) -> Tensor:
        """Return images ``(b * groups, channels of a group, ...)``."""
        return images.reshape(len(images) * self.layer.groups, -1, *images.shape[2:])

    def _pad(self, images: Tensor) -> Tensor:
        """Return the images with the layer's padding around them."""
        mode = self.layer.padding_mode
        return F.pad(images, self._padding(), mode="constant" if mode == "zeros" else mode)

    def _padding(self) -> list[int]:
        """Return the padding of both sides of each dimension, last dimension first, as :func:`F.pad` takes it."""
        layer = self.layer
        padding: list[int] = []
        for dim in reversed(range(len(layer.kernel_size))):
            if layer.padding == "same":
                total = layer.dilation[dim] * (layer.kernel_size[dim] - 1)
                padding += [total // 2, total - total // 2]
            elif layer.padding == "valid":
                padding += [0, 0]
            else:
                padding += [layer.padding[dim], layer.padding[dim]]
        return padding


def _sum_over_window(gram: Tensor, first_dim: int, second_dim: int, window: _Window) -> Tensor:
    """Return the Gram matrix with two dimensions of pixels replaced by positions, by a sum over kernel elements."""
    index = [slice(None)] * gram.ndim
    total: Tensor | None = None
    for pixels in window.pixels():
        index[first_dim] = pixels
        index[second_dim] = pixels
        summand = gram[tuple(index)]
        total = summand if total is None else total + summand
    assert total is not None  # a kernel has at least one element
    return total
