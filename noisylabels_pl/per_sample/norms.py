"""Exact lengths of per-sample gradients over all parameters of a network."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
import torch._functorch.config as functorch_config
from torch import Tensor, nn
from torch.autograd.graph import get_gradient_edge
from torch.utils.hooks import RemovableHandle

from noisylabels_pl.per_sample.convert import BATCH_NORMS
from noisylabels_pl.per_sample.layers.base import LayerGradients, NotByLayersError, chunks, squares
from noisylabels_pl.per_sample.layers.generic import tensors
from noisylabels_pl.per_sample.recorder import Call, shares

_log = logging.getLogger(__name__)


def per_sample_gradient_norms(module: nn.Module, loss_fn: Callable[[Tensor, Tensor], Tensor], x: Any, y: Any) -> Tensor:
    """Length of the gradient of each sample's loss over all trainable parameters; the score of PRL(G), Algorithm 2.

    One forward and one backward pass to the layers' outputs, from which each layer's share follows: of linear layers
    and convolutions without their per-sample gradients where that is cheaper. See :class:`GradientNorms`.

    Args:
        module: ``module(x)`` is the output ``(B, ...)``, each row of which must depend on its own sample alone.
        loss_fn: ``(output, target)`` to a loss; it is applied as to batches of a single sample.
        x: what ``module`` takes.
        y: ``(B, ...)`` targets.

    Returns:
        ``(B,)``, at least float32, without a graph.

    Raises:
        ValueError: a layer mixes samples, as batch normalization does in training; the message names it.
    """
    devices = {parameter.device for parameter in module.parameters() if parameter.is_cuda}
    with torch.random.fork_rng([*devices]), torch.enable_grad(), GradientNorms(module) as norms:
        norms.check()  # before the pass, which would change running statistics
        output = module(x)

        def loss_of_one(output: Tensor, target: Tensor) -> Tensor:
            return loss_fn(output.unsqueeze(0), target.unsqueeze(0)).mean()

        return norms.of(torch.vmap(loss_of_one)(output, y))


class _Found(NamedTuple):
    """What is known of losses after their gradients' lengths are."""

    losses: Tensor
    scale: float  # of the gradients at the outputs of the layers
    parameters: list[nn.Parameter]
    uses: list[list[tuple[LayerGradients, str]]]  # of each of the parameters


class _Weighted(torch.autograd.Function):
    """Losses times weights, whose gradients are put together from those of the layers."""

    @staticmethod
    def forward(ctx: Any, losses: Tensor, weights: Tensor, found: _Found, *parameters: Tensor) -> Tensor:
        ctx.found, ctx.weights = found, weights
        return torch.where(weights != 0, losses, torch.zeros_like(losses)) * weights

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> Any:
        found: _Found = ctx.found
        weights = grad_outputs[0] * ctx.weights / found.scale
        names: dict[LayerGradients, list[str]] = {}
        for used in found.uses:
            for of_layer, name in used:
                names.setdefault(of_layer, []).append(name)
        rows = weights.nonzero().squeeze(1)  # a filter leaves many out
        weights = weights[rows]
        summed = {of_layer: of_layer.weighted_gradient(names_of, rows, weights) for of_layer, names_of in names.items()}
        sums = [torch.stack([summed[of_layer][name] for of_layer, name in used]).sum(0) for used in found.uses]
        grads = (grad.to(parameter.dtype) for grad, parameter in zip(sums, found.parameters, strict=True))
        return None, None, None, *grads


class GradientNorms:
    """Watches a network's forward pass, and says how long the gradients of its samples are.

    A layer is a module with parameters of its own. Linear layers, convolutions, embeddings and layer and group
    normalization have closed forms; for any other, :mod:`torch.func` takes the gradients of that layer alone. Layers
    that are used twice, tied and frozen parameters, and dropout between layers are accounted for.

    All of this takes every layer to have the batch in its first dimension, and to treat samples by themselves. Two
    samples of the first batch are compared with ordinary backward passes. Where they differ, as in a network that moves
    the batch to another dimension or has dropout within an attention layer, every sample takes such a pass of its own:
    still exact, but slow, of which a warning is logged.

    ``with GradientNorms(module) as norms:`` hooks stay on the module until the block ends; :meth:`watch` and
    :meth:`release` do the same for a training loop.

    Args:
        module: the network.
    """

    def __init__(self, module: nn.Module) -> None:
        self._module = module
        self._layers = dict(_layers(module))
        self._batch_norms = [(name, layer) for name, layer in module.named_modules() if isinstance(layer, BATCH_NORMS)]
        self._handles: list[RemovableHandle] = []
        self._donates: bool | None = None  # torch's own setting, while the hooks are in place
        self._calls: list[Call] = []
        self._dtypes: set[torch.dtype] = set()
        self._by_layers = True
        self._verified = False
        self._found: _Found | None = None

    def __enter__(self) -> GradientNorms:
        self.watch()
        return self

    def __exit__(self, *exception: object) -> None:
        self.release()

    def watch(self) -> None:
        """Put the hooks in place."""
        # Compiled graphs would let go of what a second backward pass, the training's own, needs.
        self._donates, functorch_config.donated_buffer = functorch_config.donated_buffer, False
        hook = torch.compiler.disable(self._record)  # type: ignore[no-untyped-call]
        self._handles = [layer.register_forward_hook(hook, with_kwargs=True) for layer in self._layers]

    def release(self) -> None:
        """Remove the hooks and forget what they saw."""
        if self._donates is not None:
            functorch_config.donated_buffer, self._donates = self._donates, None
        for handle in self._handles:
            handle.remove()
        self._handles = []
        self.forget()

    def forget(self) -> None:
        """Forget the forward passes seen so far, after each batch."""
        self._calls = []
        self._found = None

    def of(self, losses: Tensor) -> Tensor:
        """``(B,)``: lengths of the gradients of ``losses`` ``(B,)`` of the passes seen; their graph stays.

        Raises:
            ValueError: batch normalization in training mode.
        """
        self.check()
        # Small gradients would be lost in float16, and large ones are if they are scaled.
        for scale in (256.0, 1.0) if torch.float16 in self._dtypes else (1.0,):
            norms = self._scaled(losses if scale == 1 else scale * losses) / scale
            if scale == 1 or norms.isfinite().all():
                break
        if self._found is not None:
            self._found = self._found._replace(losses=losses, scale=scale)
        return norms

    def weighted(self, losses: Tensor, weights: Tensor) -> Tensor:
        """``losses * weights`` ``(B,)`` of the losses last given to :meth:`of`, with a cheaper way back.

        The gradients at the outputs of the layers are known already, and no sample has a part in another's: so the
        parameters' gradients follow without another pass through the network. Gradients of anything but the module's
        parameters, such as inputs, are lost.
        """
        found = self._found
        if found is None or found.losses is not losses:  # it took ordinary backward passes
            return torch.where(weights != 0, losses, torch.zeros_like(losses)) * weights
        weighted: Tensor = _Weighted.apply(losses.detach(), weights, found, *found.parameters)
        return weighted

    def check(self) -> None:
        """Raises ``ValueError`` for batch normalization in training mode."""
        for name, layer in self._batch_norms:
            if layer.training or layer.running_mean is None:
                raise ValueError(
                    f"layer {name!r} is a {type(layer).__name__}, which mixes the samples of a batch, so that a sample "
                    "has no gradient of its own; take group normalization instead, as convert_batchnorm=true does"
                )

    def _scaled(self, losses: Tensor) -> Tensor:
        self._found = None
        if self._by_layers and self._calls:
            try:
                norms = self._of_layers(losses)
                if self._verified or self._agrees(norms, losses):
                    return norms
                self._found = None
                reason = "a layer does not have the batch in its first dimension, or a parameter is used outside of it"
            except NotByLayersError as error:
                reason = str(error)
            self._by_layers = False
            _log.warning("%s, so that each sample takes a backward pass of its own, which is slow", reason)
        return torch.stack([self._of_one(loss) for loss in losses])

    def _of_one(self, loss: Tensor) -> Tensor:
        """The length of a single loss's gradient, by a backward pass through the graph of the whole batch."""
        trainable = [parameter for parameter in self._module.parameters() if parameter.requires_grad]
        grads = torch.autograd.grad(loss, trainable, retain_graph=True, allow_unused=True) if trainable else ()
        norms = [grad.norm(dtype=torch.promote_types(grad.dtype, torch.float32)) for grad in grads if grad is not None]
        norm: Tensor = torch.stack([*norms, torch.zeros_like(loss, requires_grad=False)]).norm()
        return norm

    def _agrees(self, norms: Tensor, losses: Tensor) -> bool:
        """Whether the norms hold for two of the samples; if they do, the network is of layers as they are here."""
        half = not self._dtypes.isdisjoint((torch.float16, torch.bfloat16))
        tolerance = 5e-2 if half else 5e-3 if losses.is_cuda else 1e-4  # TensorFloat-32 rounds too
        finite = norms.isfinite().nonzero().squeeze(1)
        for i in finite[norms[finite].sort().indices[[len(finite) // 2, -1]]] if len(finite) else ():
            if not (norms[i] - self._of_one(losses[i])).abs() <= tolerance * norms[i]:
                return False
        self._verified = len(finite) > 0
        return True

    def _of_layers(self, losses: Tensor) -> Tensor:
        total = torch.zeros_like(losses, dtype=torch.promote_types(losses.dtype, torch.float32), requires_grad=False)
        uses: dict[int, list[tuple[LayerGradients, str]]] = {}  # of each parameter
        parameters: dict[int, nn.Parameter] = {}
        for call, of_layer in zip(self._calls, shares(self._calls, losses), strict=True):
            if of_layer is not None:
                for name, parameter in call.parameters().items():
                    uses.setdefault(id(parameter), []).append((of_layer, name))
                    parameters[id(parameter)] = parameter
        self._found = _Found(losses, 1.0, [*parameters.values()], [*uses.values()])
        with torch.no_grad():
            alone: dict[LayerGradients, list[str]] = {}
            for used in uses.values():
                if len(used) == 1:
                    alone.setdefault(used[0][0], []).append(used[0][1])
                    continue
                for rows in chunks(losses, sum(of_layer.size for of_layer, _ in used)):
                    total[rows] += squares(
                        torch.stack([grads.per_sample_gradient(name, rows) for grads, name in used]).sum(0)
                    )
            for of_layer, names in alone.items():
                for rows in chunks(losses, of_layer.size):
                    total[rows] += of_layer.squared_norm(names, rows)
            return total.sqrt()

    def _record(self, layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        outputs = tensors(output)
        if not any(value.requires_grad for value in outputs) or not any(p.requires_grad for p in layer.parameters()):
            return
        self._dtypes |= {value.dtype for value in outputs}
        self._calls.append(
            Call(
                self._layers[layer],
                layer,
                tuple(map(_detached, args)),
                {name: _detached(value) for name, value in kwargs.items()},
                # Edges, because an activation that works in place will replace what the tensors hold.
                [get_gradient_edge(value) if value.requires_grad else None for value in outputs],
            )
        )


def _detached(value: Any) -> Any:
    return value.detach() if isinstance(value, Tensor) else value


def _layers(module: nn.Module, name: str = "") -> Iterator[tuple[nn.Module, str]]:
    """The outermost modules with parameters of their own, and their names; what is inside of one is part of it."""
    if any(True for _ in module.parameters(recurse=False)):
        yield module, name
        return
    for child_name, child in module.named_children():
        yield from _layers(child, f"{name}.{child_name}" if name else child_name)
