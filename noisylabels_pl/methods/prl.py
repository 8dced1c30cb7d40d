"""PRL: provable robust learning from corrupted labels or targets (Liu et al., ICLR 2021 submission)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from torch import Tensor

from noisylabels_pl.core import REGRESSION_LOSSES, FilterCallback, FilterOptions, FilterTwin
from noisylabels_pl.functional import loss_layer_gradient_norm

if TYPE_CHECKING:
    from typing_extensions import Unpack


class PRLLossLayer(FilterCallback):
    """PRL(L): drops the samples of each batch with the largest gradients at the network's output (Algorithm 3).

    The gradient is that of cross-entropy, or in regression of the squared error, whichever loss is trained: by its own
    gradient a robust loss would keep the mislabeled samples, because for those it has small gradients. In regression
    with squared errors it drops the samples that :class:`~noisylabels_pl.SPL` drops.

    Args:
        forget_rate: see :class:`~noisylabels_pl.core.BatchFilter`.
        criterion: see :class:`~noisylabels_pl.core.CriterionCallback`.
        **options: see :class:`~noisylabels_pl.core.BatchFilter`.
    """

    def __init__(self, forget_rate: float, *, criterion: str | None = None, **options: Unpack[FilterOptions]) -> None:
        super().__init__(forget_rate, criterion=criterion, **options)

    def scores(self, losses: Tensor, output: Tensor, target: Tensor) -> Tensor:
        if isinstance(self.criterion_module, REGRESSION_LOSSES):
            return loss_layer_gradient_norm(output.detach(), target, "mse")
        if target.is_floating_point():
            raise TypeError(
                f"PRLLossLayer has no closed form for the gradient of {type(self.criterion_module).__name__} with "
                "real-valued targets; use PRLGradient"
            )
        return loss_layer_gradient_norm(output.detach(), target, "ce")


class PRLGradient(FilterCallback):
    """PRL(G): drops the samples of each batch with the largest gradients over all trainable parameters (Algorithm 2).

    The gradient is that of the trained loss, and exact. Every layer must treat the samples of a batch separately, which
    batch normalization does not: ``convert_batchnorm`` replaces it.

    Args:
        forget_rate: see :class:`~noisylabels_pl.core.BatchFilter`.
        convert_batchnorm: replace the module's batch normalization by group normalization, for good: the network must
            be converted likewise (:func:`~noisylabels_pl.per_sample.batchnorm_to_groupnorm`) before its weights are
            loaded without this callback. See :class:`~noisylabels_pl.core.GradientCallback`.
        criterion: see :class:`~noisylabels_pl.core.CriterionCallback`.
        **options: see :class:`~noisylabels_pl.core.BatchFilter`. ``second_forward="auto"`` is the same as ``False``
            here: the training step reuses the gradients of the scoring pass.
    """

    needs = replace(FilterCallback.needs, gradient_norms=True)

    def __init__(
        self,
        forget_rate: float,
        *,
        convert_batchnorm: bool = False,
        criterion: str | None = None,
        **options: Unpack[FilterOptions],
    ) -> None:
        if options.get("second_forward") == "auto":
            options["second_forward"] = False
        super().__init__(forget_rate, convert_batchnorm=convert_batchnorm, criterion=criterion, **options)

    def scores(self, losses: Tensor, output: Tensor, target: Tensor) -> Tensor:
        return self.gradient_norms(losses)


class CoPRL(FilterTwin):
    """Co-PRL(L): each network trains on the samples with the smallest gradients at its peer's output (Algorithm 4).

    The gradient is that of cross-entropy, or in regression of the squared error.

    Args:
        *args: see :class:`~noisylabels_pl.core.FilterTwin`.
        **options: see :class:`~noisylabels_pl.core.FilterTwin`.
    """

    def scores(self, output: Tensor, target: Tensor) -> Tensor:
        return loss_layer_gradient_norm(output, target, "ce" if self.task.metric == "acc" else "mse")
