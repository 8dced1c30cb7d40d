"""Uses of layers in a forward pass, and what each adds to per-sample gradients."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge

from noisylabels_pl.per_sample.layers import CLOSED_FORMS
from noisylabels_pl.per_sample.layers.base import ClosedForm, LayerGradients, NotByLayersError
from noisylabels_pl.per_sample.layers.generic import GenericLayer
from noisylabels_pl.per_sample.layers.norm import Affine


class Call(NamedTuple):
    """One use of a layer in a forward pass."""

    name: str
    layer: nn.Module
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    edges: list[GradientEdge | None]  # to the tensors that it returned

    def parameters(self) -> dict[str, nn.Parameter]:
        """The trainable ones, by their names in the layer."""
        return {name: value for name, value in self.layer.named_parameters() if value.requires_grad}

    def rule(self) -> type[ClosedForm | Affine] | None:
        """The closed form of its gradients."""
        rule = CLOSED_FORMS.get(type(self.layer))
        return rule if rule is not None and rule.fits(self.layer, self.args) else None

    def is_affine(self) -> bool:
        """Whether little is kept of the gradients at its output."""
        rule = self.rule()
        return rule is not None and issubclass(rule, Affine)

    def share(self, grads: Sequence[Tensor | None], batch: int) -> LayerGradients | None:
        """Its part in the gradients of losses that have ``grads`` at its outputs; ``None`` if it has none."""
        found = [grad for grad in grads if grad is not None]
        for grad in found:
            if not grad.ndim or len(grad) != batch:
                raise NotByLayersError(f"layer {self.name!r} has no row of output for each of {batch} samples")
        if not found:
            return None
        rule = self.rule()
        if rule is None:
            return GenericLayer(self.name, self.layer, self.args, self.kwargs, grads)
        return rule(self.layer, self.args[0], found[0])


def shares(calls: list[Call], losses: Tensor) -> list[LayerGradients | None]:
    """What each call adds to the gradients of the summed losses, by one backward pass."""
    found: list[LayerGradients | None] = [None] * len(calls)
    inputs: dict[int, Any] = {}
    with ExitStack() as hooks:
        for i, call in enumerate(calls):
            edges = [edge for edge in call.edges if edge is not None]
            if not call.is_affine():
                inputs |= {id(edge): edge for edge in edges}
                continue
            # The pass can let go of the gradients here at once; it comes by because of the parameters.
            for edge in edges:

                def take(grads: Sequence[Tensor | None], i: int = i, at: int = edge.output_nr) -> None:
                    found[i] = calls[i].share([grads[at]], len(losses))

                hooks.callback(edge.node.register_prehook(take).remove)
            inputs |= {id(parameter): parameter for parameter in call.parameters().values()}
        wanted = [*inputs.values()]
        grads = torch.autograd.grad(losses.sum(), wanted, retain_graph=True, allow_unused=True) if wanted else ()
    by_id = dict(zip(inputs, grads, strict=True))
    for i, call in enumerate(calls):
        if not call.is_affine():
            found[i] = call.share([None if edge is None else by_id[id(edge)] for edge in call.edges], len(losses))
    return found
