"""PRL: provable robust learning from corrupted labels or targets (Liu et al., submitted to ICLR 2021)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from torch import Tensor

from noisylabels_pl.core import REGRESSION_LOSSES, FilterCallback, FilterOptions, FilterTwin
from noisylabels_pl.functional import loss_layer_gradient_norm
from noisylabels_pl.functional.output_gradients import OutputLoss

if TYPE_CHECKING:
    from typing_extensions import Unpack


class PRLLossLayer(FilterCallback):
    r"""Drops the samples of each batch with the largest gradients at the network's output: PRL(L).

    `Provable Robust Learning for Deep Neural Networks under Agnostic Corrupted Supervision
    <https://openreview.net/forum?id=Bi2OvVf1KPn>`_, Algorithm 3. The score of a sample with output :math:`z_i` is the
    norm of the gradient of cross-entropy, or in regression of the squared error:

    .. math::
        s_i = \lVert \text{softmax}(z_i) - \text{onehot}(y_i) \rVert \quad \text{or} \quad s_i = \lVert z_i - y_i \rVert

    A batch of :math:`B` samples keeps the :math:`\lfloor (1 - \tau) B \rfloor` smallest scores, where :math:`\tau` is
    the ``forget_rate``. The score is never the gradient of a trained robust loss: that is small for samples with wrong
    labels, so they would be kept. In regression with squared errors the dropped samples are those that
    :class:`~noisylabels_pl.SPL` drops.

    Args:
        forget_rate: see :class:`~noisylabels_pl.core.BatchFilter`.
        criterion: see :class:`~noisylabels_pl.core.CriterionCallback`.
        **options: see :class:`~noisylabels_pl.core.BatchFilter`.

    Raises:
        ValueError: ``forget_rate`` is out of range, or an option is wrong.

    Example:
        >>> import lightning as L
        >>> from noisylabels_pl import PRLLossLayer
        >>> trainer = L.Trainer(max_epochs=60, callbacks=[PRLLossLayer(0.2)], logger=False, enable_checkpointing=False)
    """

    def __init__(self, forget_rate: float, *, criterion: str | None = None, **options: Unpack[FilterOptions]) -> None:
        super().__init__(forget_rate, convert_batchnorm=False, criterion=criterion, **options)

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
    r"""Drops the samples of each batch with the largest gradients over all trainable parameters: PRL(G).

    `Provable Robust Learning for Deep Neural Networks under Agnostic Corrupted Supervision
    <https://openreview.net/forum?id=Bi2OvVf1KPn>`_, Algorithm 2. The score of a sample is the exact norm of the
    gradient of the trained loss, :math:`s_i = \lVert \nabla_w \ell_i \rVert`. A batch of :math:`B` samples keeps the
    :math:`\lfloor (1 - \tau) B \rfloor` smallest scores, where :math:`\tau` is the ``forget_rate``. Each layer must
    treat the samples of a batch separately, which batch normalization does not: ``convert_batchnorm`` replaces it.

    Args:
        forget_rate: see :class:`~noisylabels_pl.core.BatchFilter`.
        convert_batchnorm: replace the module's batch normalization by group normalization, for good. To load the
            trained weights without this callback, convert the network by
            :func:`~noisylabels_pl.per_sample.batchnorm_to_groupnorm` first. See
            :class:`~noisylabels_pl.core.GradientCallback`.
        criterion: see :class:`~noisylabels_pl.core.CriterionCallback`.
        **options: see :class:`~noisylabels_pl.core.BatchFilter`. ``second_forward="auto"`` means ``False`` here: the
            training step reuses the gradients of the scoring pass.

    Raises:
        ValueError: ``forget_rate`` is out of range, or an option is wrong.

    Example:
        >>> import lightning as L
        >>> from noisylabels_pl import PRLGradient
        >>> trainer = L.Trainer(max_epochs=60, callbacks=[PRLGradient(0.2)], logger=False, enable_checkpointing=False)
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
    r"""Trains two networks, each on the samples with the smallest gradients at its peer's output: Co-PRL(L).

    `Provable Robust Learning for Deep Neural Networks under Agnostic Corrupted Supervision
    <https://openreview.net/forum?id=Bi2OvVf1KPn>`_, Algorithm 4. The score of a sample is that of
    :class:`PRLLossLayer`, computed from the output of the peer.

    Args:
        make_net: see :class:`~noisylabels_pl.core.TwinModule`.
        num_outputs: see :class:`~noisylabels_pl.core.TwinModule`.
        optimizer: see :class:`~noisylabels_pl.core.TwinModule`.
        scheduler: see :class:`~noisylabels_pl.core.TwinModule`.
        forget_rate: see :class:`~noisylabels_pl.core.BatchFilter`.
        task: ``"classification"`` or ``"regression"``.
        **options: see :class:`~noisylabels_pl.core.FilterTwin`.

    Raises:
        ValueError: ``forget_rate`` is out of range, or an option is wrong.

    Example:
        >>> import torch
        >>> from noisylabels_pl import CoPRL
        >>> pair = CoPRL(lambda: torch.nn.Linear(64, 10), 10, torch.optim.Adam, forget_rate=0.2)
        >>> pair(torch.zeros(5, 64)).shape  # the mean of two networks
        torch.Size([5, 10])
    """

    def scores(self, output: Tensor, target: Tensor) -> Tensor:
        loss: OutputLoss = "ce" if self.task.metric == "acc" else "mse"
        return loss_layer_gradient_norm(output, target, loss)
