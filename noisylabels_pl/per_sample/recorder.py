"""Recording of the uses of layers in a forward pass, and their per-sample gradients by one backward pass."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any, NamedTuple

import torch
import torch._functorch.config as functorch_config
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, get_gradient_edge
from torch.utils.hooks import RemovableHandle

from noisylabels_pl.per_sample.layers import CLOSED_FORMS
from noisylabels_pl.per_sample.layers.base import ClosedForm, LayerGradients, UnsupportedLayerError
from noisylabels_pl.per_sample.layers.generic import GenericLayer, floating_point_tensors


class LayerUse(NamedTuple):
    """One use of a layer in a forward pass.

    Attributes:
        name: the name of the layer in the network.
        layer: the layer.
        args: the positional arguments of the call, detached.
        kwargs: the keyword arguments of the call, detached.
        output_edges: for each floating-point tensor that the layer returned, its place in the autograd graph; ``None``
            for a tensor without a graph.
    """

    name: str
    layer: nn.Module
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    output_edges: list[GradientEdge | None]

    def trainable_parameters(self) -> dict[str, nn.Parameter]:
        """Return the parameters that require gradients, by their names in the layer."""
        return {name: value for name, value in self.layer.named_parameters() if value.requires_grad}

    def closed_form(self) -> type[ClosedForm] | None:
        """Return the closed form of the layer's gradients, or ``None`` if there is none for this call."""
        closed_form = CLOSED_FORMS.get(type(self.layer))
        if closed_form is None or not closed_form.supports(self.layer, self.args):
            return None
        return closed_form

    def reduces_backprops(self) -> bool:
        """Return True if gradients are computed within the backward pass, which can then free the backprops."""
        closed_form = self.closed_form()
        return closed_form is not None and closed_form.reduces_backprops

    def gradients(self, backprops: Sequence[Tensor | None], batch_size: int) -> LayerGradients | None:
        """Return the per-sample gradients of this use.

        Args:
            backprops: the gradients of the losses at the outputs of the layer; ``None`` for an output that the losses
                do not depend on.
            batch_size: the number of samples.

        Returns:
            The gradients, or ``None`` if the losses do not depend on this use.

        Raises:
            UnsupportedLayerError: the first dimension of an output is not the batch.
        """
        present = [grad for grad in backprops if grad is not None]
        for grad in present:
            if not grad.ndim or len(grad) != batch_size:
                raise UnsupportedLayerError(
                    f"the output of layer {self.name!r} does not have one row for each of {batch_size} samples"
                )
        if not present:
            return None
        closed_form = self.closed_form()
        if closed_form is None:
            return GenericLayer(self.name, self.layer, self.args, self.kwargs, backprops)
        return closed_form(self.layer, self.args[0], present[0])


class LayerRecorder:
    """Records each use of a network's layers by forward hooks.

    A layer is an outermost module with parameters of its own; modules inside of it are part of it.

    Args:
        network: the network.

    Attributes:
        uses: the uses of layers since the last :meth:`clear`, in the order of the forward passes.
        output_dtypes: the dtypes of all outputs seen so far.
    """

    def __init__(self, network: nn.Module) -> None:
        self.uses: list[LayerUse] = []
        self.output_dtypes: set[torch.dtype] = set()
        self._layer_names = dict(_outermost_layers(network))
        self._handles: list[RemovableHandle] = []
        self._is_paused = False
        self._donated_buffer: bool | None = None  # torch's setting from before, while the hooks are in place

    def register_hooks(self) -> None:
        """Register a forward hook on each layer."""
        # A compiled network takes two backward passes: one for the norms, one for the training. torch refuses the
        # second if the first may reuse the memory that the graph saved ("donated buffers"). torch reads the flag when
        # it compiles a graph, in a forward pass, and again in a backward pass.
        self._donated_buffer = functorch_config.donated_buffer
        functorch_config.donated_buffer = False
        hook = torch.compiler.disable(self._record)  # type: ignore[no-untyped-call]
        self._handles = [layer.register_forward_hook(hook, with_kwargs=True) for layer in self._layer_names]

    def remove_hooks(self) -> None:
        """Remove the hooks and clear the uses."""
        if self._donated_buffer is not None:
            functorch_config.donated_buffer = self._donated_buffer
            self._donated_buffer = None
        for handle in self._handles:
            handle.remove()
        self._handles = []
        self.clear()

    def clear(self) -> None:
        """Forget the uses, and with them the activations that they hold."""
        self.uses = []

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Record nothing for a block."""
        self._is_paused = True
        try:
            yield
        finally:
            self._is_paused = False

    def _record(self, layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        outputs = floating_point_tensors(output)
        has_graph = any(value.requires_grad for value in outputs)
        is_trainable = any(parameter.requires_grad for parameter in layer.parameters())
        if self._is_paused or not has_graph or not is_trainable:
            return
        self.output_dtypes.update(value.dtype for value in outputs)
        use = LayerUse(
            name=self._layer_names[layer],
            layer=layer,
            args=tuple(_detach(value) for value in args),
            kwargs={name: _detach(value) for name, value in kwargs.items()},
            # Edges, not tensors, because an activation function in place would change the tensors.
            output_edges=[get_gradient_edge(value) if value.requires_grad else None for value in outputs],
        )
        self.uses.append(use)


class _EarlyGradients:
    """Computes the gradients of one use within the backward pass, which can then free the backprops.

    Its hooks are in place inside of its ``with`` block.
    """

    def __init__(self, use: LayerUse, batch_size: int) -> None:
        self.gradients: LayerGradients | None = None
        self._use = use
        self._batch_size = batch_size
        self._handles: list[RemovableHandle] = []

    def __enter__(self) -> _EarlyGradients:
        for edge in self._use.output_edges:
            if edge is not None:
                self._handles.append(edge.node.register_prehook(partial(self._compute, edge.output_nr)))
        return self

    def __exit__(self, *exception: object) -> None:
        for handle in self._handles:
            handle.remove()

    def _compute(self, output_nr: int, node_backprops: Sequence[Tensor | None]) -> None:
        self.gradients = self._use.gradients([node_backprops[output_nr]], self._batch_size)


def layer_gradients(uses: Sequence[LayerUse], losses: Tensor) -> list[LayerGradients | None]:
    """Return the per-sample gradients of each use, by one backward pass that stops at the layers' outputs.

    Args:
        uses: the uses of layers in the forward passes that led to the losses.
        losses: one loss for each sample, ``(B,)``. Their graph stays.

    Returns:
        For each use its gradients, or ``None`` if the losses do not depend on it.

    Raises:
        UnsupportedLayerError: the first dimension of a layer's output is not the batch.
    """
    early_gradients: dict[int, _EarlyGradients] = {}
    with ExitStack() as stack:
        for index, use in enumerate(uses):
            if use.reduces_backprops():
                early_gradients[index] = stack.enter_context(_EarlyGradients(use, len(losses)))
        backprops = _backward_to_outputs(uses, losses)

    gradients: list[LayerGradients | None] = []
    for index, use in enumerate(uses):
        if index in early_gradients:
            gradients.append(early_gradients[index].gradients)
        else:
            use_backprops = [backprops.get(id(edge)) for edge in use.output_edges]
            gradients.append(use.gradients(use_backprops, len(losses)))
    return gradients


def _backward_to_outputs(uses: Sequence[LayerUse], losses: Tensor) -> dict[int, Tensor | None]:
    """Return the gradients of the summed losses at the outputs of the layers, by the ``id`` of the output's edge."""
    endpoints: dict[int, Any] = {}  # edges and parameters at which the backward pass ends, by their ids
    for use in uses:
        use_endpoints: list[Any]
        if use.reduces_backprops():
            # Ending at the parameters makes the pass reach this layer's hooks; the gradients there are not used.
            use_endpoints = list(use.trainable_parameters().values())
        else:
            use_endpoints = [edge for edge in use.output_edges if edge is not None]
        for endpoint in use_endpoints:
            endpoints[id(endpoint)] = endpoint
    if not endpoints:
        return {}
    gradients = torch.autograd.grad(losses.sum(), list(endpoints.values()), retain_graph=True, allow_unused=True)
    return dict(zip(endpoints, gradients, strict=True))


def _outermost_layers(module: nn.Module, name: str = "") -> Iterator[tuple[nn.Module, str]]:
    """Yield the outermost modules with parameters of their own, and their names."""
    has_parameters = any(True for _ in module.parameters(recurse=False))
    if has_parameters:
        yield module, name
        return
    for child_name, child in module.named_children():
        yield from _outermost_layers(child, f"{name}.{child_name}" if name else child_name)


def _detach(value: Any) -> Any:
    return value.detach() if isinstance(value, Tensor) else value
