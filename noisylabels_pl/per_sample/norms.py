"""Exact norms of per-sample gradients over all parameters of a network."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from noisylabels_pl.functional.precision import at_least_float32
from noisylabels_pl.per_sample.convert import BATCH_NORMS
from noisylabels_pl.per_sample.graph import count_nodes
from noisylabels_pl.per_sample.layers.base import LayerGradients, UnsupportedLayerError, chunks, sum_of_squares
from noisylabels_pl.per_sample.recorder import LayerRecorder, layer_gradients

_log = logging.getLogger(__name__)
_Structure = tuple[int, tuple[str, ...]]  # nodes of the losses' autograd graph, and the names of the layers in use


def per_sample_gradient_norms(module: nn.Module, loss_fn: Callable[[Tensor, Tensor], Tensor], x: Any, y: Any) -> Tensor:
    r"""Return the norm of each sample's gradient over all trainable parameters.

    .. math::
        n_i = \lVert \nabla_\theta \, \ell(f_\theta(x_i), y_i) \rVert_2

    This is the score of PRL(G), Algorithm 2 of the paper. It takes one forward pass, and one backward pass to the
    outputs of the layers. See :class:`GradientNorms` for what is assumed, and the README of this folder for the
    formulas.

    Args:
        module: the network. ``module(x)`` is the output ``(B, ...)``, and each of its rows depends on its own sample
            alone.
        loss_fn: maps ``(output, target)`` to a loss. It is applied to batches of a single sample, and its result is
            averaged.
        x: the argument of ``module``.
        y: the targets, ``(B, ...)``.

    Returns:
        The norms ``(B,)``, at least in float32, without a graph. The module, its gradients and the random state are
        left as they were.

    Raises:
        ValueError: a layer is batch normalization in training mode, which mixes samples; the message names it.

    Example:
        >>> import torch
        >>> from noisylabels_pl.per_sample import per_sample_gradient_norms
        >>> network = torch.nn.Linear(2, 1, bias=False)
        >>> _ = torch.nn.init.zeros_(network.weight)
        >>> x = torch.tensor([[3.0, 4.0], [0.0, 1.0]])
        >>> y = torch.tensor([[1.0], [-1.0]])
        >>> per_sample_gradient_norms(network, torch.nn.MSELoss(), x, y)
        tensor([10.,  2.])
    """

    def loss_of_sample(output: Tensor, target: Tensor) -> Tensor:
        return loss_fn(output.unsqueeze(0), target.unsqueeze(0)).mean()

    cuda_devices = {parameter.device for parameter in module.parameters() if parameter.is_cuda}
    with torch.random.fork_rng(list(cuda_devices)), torch.enable_grad(), GradientNorms(module) as gradient_norms:
        gradient_norms.check()  # before the forward pass, which would change running statistics
        output = module(x)
        losses = torch.vmap(loss_of_sample)(output, y)
        return gradient_norms.compute(losses)


class GradientNorms:
    """Computes the norms of per-sample gradients from the forward passes that its hooks have recorded.

    A layer is an outermost module with parameters of its own. Linear layers, convolutions, embeddings, and layer and
    group normalization have closed forms; the gradients of any other layer are taken by :mod:`torch.func`. Layers that
    are used twice, tied parameters, frozen parameters, and dropout between layers are accounted for.

    Every layer is assumed to have the batch in the first dimension of its input and output, and to treat samples
    independently. This is verified for the first batch, and for each batch that uses other layers or has another
    autograd graph than the verified ones: two of its norms are compared with ordinary backward passes. If they differ
    (in a network that moves the batch to another dimension, or that has dropout inside of an attention layer), a
    separate backward pass for each sample is taken from then on. That is still exact, but slow, and a warning is
    logged. Checkpointed layers are supported with ``use_reentrant=False``.

    Inside of the block ``with GradientNorms(network) as gradient_norms:`` its hooks are in place. A training loop calls
    :meth:`register_hooks` and :meth:`remove_hooks` instead, and :meth:`clear` after each batch. While hooks are in
    place, torch's global setting ``donated_buffer`` is ``False``, so that compiled graphs allow two backward passes.

    The formulas follow Goodfellow, `Efficient Per-Example Gradient Computations <https://arxiv.org/abs/1510.01799>`_,
    and Li et al., `Large Language Models Can Be Strong Differentially Private Learners
    <https://arxiv.org/abs/2110.05679>`_. The README of this folder derives them.

    Args:
        module: the network.

    Example:
        >>> import torch
        >>> from noisylabels_pl.per_sample import GradientNorms
        >>> network = torch.nn.Linear(2, 1, bias=False)
        >>> _ = torch.nn.init.zeros_(network.weight)
        >>> x = torch.tensor([[3.0, 4.0], [0.0, 1.0]])
        >>> y = torch.tensor([[1.0], [-1.0]])
        >>> with GradientNorms(network) as gradient_norms:
        ...     losses = (network(x) - y).square().squeeze(1)
        ...     norms = gradient_norms.compute(losses)
        ...     clipped = gradient_norms.reweighted(losses, (1 / norms).clamp(max=1))
        ...     clipped.sum().backward()
        >>> norms
        tensor([10.,  2.])
        >>> network.weight.grad
        tensor([[-0.6000,  0.2000]])
    """

    def __init__(self, module: nn.Module) -> None:
        self._module = module
        self._recorder = LayerRecorder(module)
        self._batch_norms = [(name, layer) for name, layer in module.named_modules() if isinstance(layer, BATCH_NORMS)]
        self._layerwise = True  # False once a batch has shown that norms cannot be computed layer by layer
        self._verified_structures: set[_Structure] = set()
        self._byproducts: _Byproducts | None = None

    @property
    def is_layerwise(self) -> bool:
        """Return False once a batch has shown that each sample needs a backward pass of its own."""
        return self._layerwise

    def __enter__(self) -> GradientNorms:
        self.register_hooks()
        return self

    def __exit__(self, *exception: object) -> None:
        self.remove_hooks()

    def register_hooks(self) -> None:
        """Register forward hooks on the layers of the network."""
        self._recorder.register_hooks()

    def remove_hooks(self) -> None:
        """Remove the hooks and free everything that they recorded."""
        self._recorder.remove_hooks()
        self._byproducts = None

    def clear(self) -> None:
        """Free the recorded forward passes; to be called after each batch."""
        self._recorder.clear()
        self._byproducts = None

    def check(self) -> None:
        """Check that no layer mixes the samples of a batch.

        Raises:
            ValueError: a layer is batch normalization that uses the statistics of the batch.
        """
        for name, layer in self._batch_norms:
            if layer.training or layer.running_mean is None:
                raise ValueError(
                    f"layer {name!r} is a {type(layer).__name__}, which mixes the samples of a batch, so that a sample "
                    "has no gradient of its own; replace it by group normalization, as convert_batchnorm=true and "
                    "batchnorm_to_groupnorm() do"
                )

    def compute(self, losses: Tensor) -> Tensor:
        """Return the norm of the gradient of each loss over all trainable parameters.

        Args:
            losses: one loss for each sample, ``(B,)``, computed from the forward passes since the last :meth:`clear`.
                Their graph stays.

        Returns:
            The norms ``(B,)``, at least in float32, without a graph.

        Raises:
            ValueError: a layer is batch normalization in training mode, or layers are checkpointed with
                ``use_reentrant=True``.
        """
        self.check()
        structure = (count_nodes(losses), tuple(use.name for use in self._recorder.uses))
        # In float16 small gradients would become 0, so losses are scaled up, unless large gradients overflow by that.
        scale = 256.0 if torch.float16 in self._recorder.output_dtypes else 1.0
        with self._recorder.paused():  # checkpointed layers run again in a backward pass
            norms = self._compute_scaled(losses, scale, structure)
            if scale != 1 and not norms.isfinite().all():
                norms = self._compute_scaled(losses, 1.0, structure)
        return norms

    def reweighted(self, losses: Tensor, weights: Tensor) -> Tensor:
        """Return ``losses * weights`` with a backward pass that reuses the last call of :meth:`compute`.

        :meth:`compute` keeps the gradients at the outputs of the layers, and a weight only scales the gradients of its
        sample. So the gradients of the parameters follow without another pass through the network. Gradients of
        anything else, such as inputs, are lost. If :meth:`compute` has fallen back to a backward pass for each sample,
        or was called with other losses, the result is a plain product with an ordinary backward pass.

        Args:
            losses: the same tensor ``(B,)`` that :meth:`compute` was last called with.
            weights: a weight for each sample, ``(B,)``. The loss of a sample with weight 0 may be infinite or NaN.

        Returns:
            The weighted losses ``(B,)``.
        """
        byproducts = self._byproducts
        if byproducts is None or byproducts.losses is not losses:
            return _weighted_losses(losses, weights)
        reweighted: Tensor = _ReweightedLosses.apply(losses.detach(), weights, byproducts, *byproducts.parameter_uses)
        return reweighted

    def _compute_scaled(self, losses: Tensor, scale: float, structure: _Structure) -> Tensor:
        """Return the norms of the unscaled losses, computed from ``scale * losses``."""
        scaled_losses = losses if scale == 1 else scale * losses
        self._byproducts = None
        if self._layerwise and self._recorder.uses:
            try:
                parameter_uses = self._parameter_uses(scaled_losses)
                self._byproducts = _Byproducts(losses, scale, parameter_uses)
                norms = _norms_from_layers(parameter_uses, scaled_losses)
                if structure in self._verified_structures or self._verify(norms, scaled_losses, structure):
                    return norms / scale
                reason = "a layer does not have the batch in its first dimension, or a parameter is used outside of it"
            except UnsupportedLayerError as error:
                reason = str(error)
            self._byproducts = None  # they come from the layers, and so are wrong for this network
            self._layerwise = False
            _log.warning("%s; each sample takes a backward pass of its own from now on, which is slow", reason)
        return torch.stack([self._norm_by_backward_pass(loss) for loss in scaled_losses]) / scale

    def _parameter_uses(self, losses: Tensor) -> dict[nn.Parameter, list[_ParameterUse]]:
        """Return for each parameter the uses of layers that the losses depend on."""
        parameter_uses: dict[nn.Parameter, list[_ParameterUse]] = {}
        uses = self._recorder.uses
        for use, gradients in zip(uses, layer_gradients(uses, losses), strict=True):
            if gradients is None:
                continue
            for name, parameter in use.trainable_parameters().items():
                parameter_uses.setdefault(parameter, []).append(_ParameterUse(gradients, name))
        return parameter_uses

    def _verify(self, norms: Tensor, losses: Tensor, structure: _Structure) -> bool:
        """Return True if the median and the largest norm agree with ordinary backward passes.

        Batches of the same structure are not verified again. If no norm is finite, return True, but verify the next
        batch.
        """
        finite = norms.isfinite().nonzero().squeeze(1)
        if not len(finite):
            return True
        by_norm = finite[norms[finite].sort().indices]
        for sample in by_norm[[len(finite) // 2, -1]]:
            error = (norms[sample] - self._norm_by_backward_pass(losses[sample])).abs()
            is_close = error <= self._tolerance(losses) * norms[sample]
            if not is_close:
                return False
        self._verified_structures.add(structure)
        return True

    def _tolerance(self, losses: Tensor) -> float:
        """Return the largest relative error that rounding can explain."""
        if not self._recorder.output_dtypes.isdisjoint((torch.float16, torch.bfloat16)):
            return 5e-2
        if losses.is_cuda:
            return 5e-3  # TensorFloat-32 rounds too
        return 1e-4

    def _norm_by_backward_pass(self, loss: Tensor) -> Tensor:
        """Return the norm of one loss's gradient, by a backward pass through the graph of the whole batch."""
        trainable = [parameter for parameter in self._module.parameters() if parameter.requires_grad]
        norms = []
        if trainable:
            gradients = torch.autograd.grad(loss, trainable, retain_graph=True, allow_unused=True)
            for gradient in gradients:
                if gradient is not None:
                    norms.append(gradient.norm(dtype=torch.promote_types(gradient.dtype, torch.float32)))
        norms.append(torch.zeros_like(loss, requires_grad=False))  # for a loss that depends on no parameter
        norm: Tensor = torch.stack(norms).norm()
        return norm


class _ParameterUse(NamedTuple):
    """A parameter in one use of a layer."""

    gradients: LayerGradients  # the gradients of all parameters in that use
    name: str  # the parameter's name in the layer


class _Byproducts(NamedTuple):
    """By-products of the last computation of norms, reused in the backward pass."""

    losses: Tensor
    scale: float  # the gradients in parameter_uses are those of ``scale * losses``
    parameter_uses: dict[nn.Parameter, list[_ParameterUse]]

    def weighted_gradients(self, weights: Tensor) -> list[Tensor]:
        """Return the gradient of each parameter, summed over the samples with weights ``(B,)``."""
        indices = weights.nonzero().squeeze(1)  # a filter gives many samples a weight of 0
        weights = weights[indices]
        all_uses = [use for uses in self.parameter_uses.values() for use in uses]
        gradients_by_layer: dict[LayerGradients, dict[str, Tensor]] = {}
        for layer, names in _names_by_layer(all_uses).items():
            gradients_by_layer[layer] = layer.weighted_gradient(names, indices, weights)
        parameter_gradients = []
        for parameter, uses in self.parameter_uses.items():
            summands = [gradients_by_layer[use.gradients][use.name] for use in uses]
            parameter_gradients.append(torch.stack(summands).sum(0).to(parameter.dtype))
        return parameter_gradients


class _ReweightedLosses(torch.autograd.Function):
    """Losses times weights, with a backward pass that takes the parameters' gradients from the by-products."""

    @staticmethod
    def forward(ctx: Any, losses: Tensor, weights: Tensor, byproducts: _Byproducts, *parameters: Tensor) -> Tensor:
        ctx.weights = weights
        ctx.byproducts = byproducts
        return _weighted_losses(losses, weights)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> Any:
        byproducts: _Byproducts = ctx.byproducts
        weights = grad_outputs[0] * ctx.weights / byproducts.scale
        return None, None, None, *byproducts.weighted_gradients(weights)


def _weighted_losses(losses: Tensor, weights: Tensor) -> Tensor:
    """Return ``losses * weights``, and 0 where the weight is 0, even if the loss is infinite or NaN."""
    return torch.where(weights != 0, losses, torch.zeros_like(losses)) * weights


@torch.no_grad()
def _norms_from_layers(parameter_uses: dict[nn.Parameter, list[_ParameterUse]], losses: Tensor) -> Tensor:
    """Return the norms ``(B,)`` over all parameters."""
    squared_norms = torch.zeros_like(at_least_float32(losses))
    used_once = []
    for uses in parameter_uses.values():
        if len(uses) == 1:
            used_once.append(uses[0])
            continue
        # The gradient is a sum over uses, and its norm does not follow from the norms of the summands.
        for chunk in chunks(losses, sum(use.gradients.values_per_sample for use in uses)):
            summands = [use.gradients.per_sample_gradient(use.name, chunk) for use in uses]
            squared_norms[chunk] += sum_of_squares(torch.stack(summands).sum(0))
    for layer, names in _names_by_layer(used_once).items():
        for chunk in chunks(losses, layer.values_per_sample):
            squared_norms[chunk] += layer.squared_norm(names, chunk)
    return squared_norms.sqrt()


def _names_by_layer(uses: Iterable[_ParameterUse]) -> dict[LayerGradients, list[str]]:
    """Return the names of the parameters of each layer's gradients, so that one call can serve all of them."""
    names_by_layer: dict[LayerGradients, list[str]] = {}
    for use in uses:
        names_by_layer.setdefault(use.gradients, []).append(use.name)
    return names_by_layer
