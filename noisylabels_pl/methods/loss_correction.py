"""Forward and backward loss correction by a transition matrix, known or estimated (Patrini et al., CVPR 2017)."""

from __future__ import annotations

import logging
from abc import abstractmethod
from typing import Any, Literal

import lightning as L
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from noisylabels_pl.core import Artifacts, Stage, StagedMethod, score, training_loader
from noisylabels_pl.core.stages import load_best_weights, load_weights, saved_weights
from noisylabels_pl.data import indexed
from noisylabels_pl.data.files import read_transition_matrix
from noisylabels_pl.functional import check_choice, check_range, estimate_transition_matrix
from noisylabels_pl.functional.losses.correction import BaseLoss
from noisylabels_pl.losses import BackwardCorrectionLoss, ForwardCorrectionLoss

TransitionSource = Literal["estimated", "known", "file", "trusted"]

_log = logging.getLogger(__name__)


class _LossCorrection(StagedMethod):
    """Trains with a loss that a transition matrix ``T`` corrects; Algorithm 1 of the paper if ``T`` is estimated.

    Estimating ``T`` takes two stages. The first trains with cross-entropy on the noisy labels, and then estimates ``T``
    from the network's predictions, in evaluation mode and without augmentation. These are predictions of the best
    epoch, the one with the lowest loss on noisy validation labels, because a network that has memorized its labels
    predicts no noise. The second stage trains with the corrected loss.
    """

    def __init__(
        self,
        *,
        T: TransitionSource = "estimated",
        path: str | None = None,
        quantile: float | Literal["auto"] = "auto",
        strictly_below: bool = False,
        warm_start: bool = False,
        base: BaseLoss = "ce",
        eps: float = 0.0,
        loader: DataLoader[Any] | None = None,
    ) -> None:
        check_choice("T", T, TransitionSource)
        check_choice("base", base, BaseLoss)
        if (path is not None) != (T in ("file", "trusted")):
            raise ValueError(f"path goes with T=file or T=trusted, got T={T} and path={path}")
        if quantile != "auto":
            check_range("quantile", quantile, "(0, 1]", hint="or set it to auto")
        check_range("eps", eps, "[0, 0.5)")
        if warm_start and T != "estimated":
            raise ValueError(f"warm_start continues from the stage that estimates T, but T={T} has no such stage")
        self.T = T
        self.path = path
        self.quantile = quantile
        self.strictly_below = strictly_below
        self.warm_start = warm_start
        self.base = base
        self.eps = eps
        self.loader = loader

    @abstractmethod
    def corrected_loss(self, T: Tensor) -> nn.Module:
        """Return the criterion that ``T`` ``(C, C)`` corrects."""

    @property
    def reveals(self) -> tuple[str, ...]:
        return ("T",) if self.T == "known" else ()

    def stages(self) -> list[Stage]:
        if self.T == "known":
            return [Stage("corrected", self._make_criterion)]
        if self.T in ("file", "trusted"):
            return [Stage("corrected", self._make_criterion, outputs=self._report_T)]
        return [
            Stage(
                "cross_entropy",
                lambda artifacts: nn.CrossEntropyLoss(),
                outputs=self._estimate_T,
                monitor="val/loss",
            ),
            Stage("corrected", self._make_criterion, initialize=self._load_weights),
        ]

    def _make_criterion(self, artifacts: Artifacts) -> nn.Module:
        """Return the corrected loss, with ``T`` from the file or the artifacts."""
        if self.path is not None:
            return self.corrected_loss(read_transition_matrix(self.path, "path"))
        return self.corrected_loss(artifacts["T"])

    def _report_T(self, trainer: L.Trainer, module: Any) -> Artifacts:
        """Return the ``T`` that was read from a file, as an artifact."""
        return {"T": module.criterion.T}

    def _estimate_T(self, trainer: L.Trainer, module: L.LightningModule) -> Artifacts:
        """Return the estimated ``T`` and, for a warm start, the weights that it was estimated with."""
        if not load_best_weights(trainer, module):
            _log.warning("T is estimated from the last epoch, which has memorized most: no best epoch was saved")
        logits = torch.cat([score(trainer, module, loader).logits for loader in self._scoring_loaders(trainer)])
        probs = logits.double().softmax(1)
        T = estimate_transition_matrix(probs, quantile=self.quantile, strictly_below=self.strictly_below)
        artifacts = {"T": T}
        if self.warm_start:
            artifacts |= saved_weights(module)
        return artifacts

    def _scoring_loaders(self, trainer: L.Trainer) -> list[DataLoader[Any]]:
        """Return loaders of all inputs with noisy labels, the paper's X'; their labels are not used."""
        if self.loader is not None:
            return [indexed(self.loader)]
        loaders: list[DataLoader[Any]] = [training_loader(trainer)]
        validation: Any = trainer.val_dataloaders
        datamodule: L.LightningDataModule | None = trainer.datamodule  # type: ignore[attr-defined]
        if validation is None and datamodule is not None:
            # The fit was resumed after its last epoch, so Lightning has not asked for these loaders.
            validation = datamodule.val_dataloader()
        held_out = validation.get("val") if isinstance(validation, dict) else validation
        if isinstance(held_out, DataLoader):
            loaders.append(indexed(held_out))
        return loaders

    def _load_weights(self, module: L.LightningModule, artifacts: Artifacts) -> None:
        """For a warm start, load the weights that the first stage left."""
        if self.warm_start:
            load_weights(module, artifacts)


class ForwardCorrection(_LossCorrection):
    r"""Compares the noisy labels with the predicted distribution of noisy labels: forward correction.

    `Making Deep Neural Networks Robust to Label Noise: a Loss Correction Approach <https://arxiv.org/abs/1609.03683>`_,
    section 4.2. With :math:`T_{ij} = P(\text{observed} = j \mid \text{true} = i)` and the network's probabilities
    :math:`p` of the true classes, the loss of an observed label :math:`y` is

    .. math::
        \ell^{\to}(p, y) = \ell(T^\top p, y)

    The criterion is :class:`~noisylabels_pl.ForwardCorrectionLoss`. With ``T="estimated"`` training takes two stages,
    as Algorithm 1 of the paper: cross-entropy first, then the corrected loss, with ``T`` from the first network at the
    epoch of the lowest noisy-validation loss. The command line runs the stages.

    Args:
        T: source of the matrix. ``"estimated"``; ``"known"``, the matrix of the configured noise, which is not known in
            practice; ``"file"``, where ``path`` names a ``.npy``, ``.csv`` or ``.npz`` file with ``T``; or
            ``"trusted"``, where ``path`` names an ``.npz`` file with ``clean`` and ``observed`` labels of the same
            samples.
        path: the file, for ``T="file"`` and ``T="trusted"``.
        quantile: for ``T="estimated"``, see :func:`~noisylabels_pl.functional.estimate_transition_matrix`.
        strictly_below: for ``T="estimated"``, see :func:`~noisylabels_pl.functional.estimate_transition_matrix`.
        warm_start: for ``T="estimated"``, start the second stage from the first one's weights instead of fresh ones.
        base: the loss :math:`\ell` to correct, ``"ce"`` or ``"square"``.
        eps: clip probabilities to ``[eps, 1 - eps]``; see :class:`~noisylabels_pl.ForwardCorrectionLoss`.
        loader: for ``T="estimated"``, the inputs to estimate the matrix on. If not given, the training split, and the
            validation split if the trainer's validation loaders are a dictionary with the key ``"val"``.

    Raises:
        ValueError: an option is unknown or out of range, or two options do not go together.

    Example:
        >>> from noisylabels_pl import ForwardCorrection
        >>> [stage.name for stage in ForwardCorrection().stages()]
        ['cross_entropy', 'corrected']
        >>> [stage.name for stage in ForwardCorrection(T="known").stages()]
        ['corrected']
    """

    def corrected_loss(self, T: Tensor) -> nn.Module:
        return ForwardCorrectionLoss(T, base=self.base, eps=self.eps)


class BackwardCorrection(_LossCorrection):
    r"""Trains on an unbiased estimate of the loss of the true labels: backward correction.

    `Making Deep Neural Networks Robust to Label Noise: a Loss Correction Approach <https://arxiv.org/abs/1609.03683>`_,
    section 4.1. With :math:`T_{ij} = P(\text{observed} = j \mid \text{true} = i)` and the losses :math:`\ell(p)` of all
    labels that a sample could have, the loss of an observed label :math:`y` is

    .. math::
        \ell^{\gets}(p, y) = \left( T^{-1} \ell(p) \right)_y

    The criterion is :class:`~noisylabels_pl.BackwardCorrectionLoss`; for the stages see :class:`ForwardCorrection`.

    Args:
        T: see :class:`ForwardCorrection`.
        path: see :class:`ForwardCorrection`.
        quantile: see :class:`ForwardCorrection`.
        strictly_below: see :class:`ForwardCorrection`.
        warm_start: see :class:`ForwardCorrection`.
        mix: weight of the identity that is mixed into ``T`` before it is inverted, in ``[0, 1)``.
        base: see :class:`ForwardCorrection`.
        eps: clip probabilities to ``[eps, 1 - eps]``; see :class:`~noisylabels_pl.BackwardCorrectionLoss`.
        loader: see :class:`ForwardCorrection`.

    Raises:
        ValueError: an option is unknown or out of range, or two options do not go together.

    Example:
        >>> from noisylabels_pl import BackwardCorrection
        >>> [stage.name for stage in BackwardCorrection(mix=0.1).stages()]
        ['cross_entropy', 'corrected']
    """

    def __init__(
        self,
        *,
        T: TransitionSource = "estimated",
        path: str | None = None,
        quantile: float | Literal["auto"] = "auto",
        strictly_below: bool = False,
        warm_start: bool = False,
        mix: float = 0.0,
        base: BaseLoss = "ce",
        eps: float = 1e-7,
        loader: DataLoader[Any] | None = None,
    ) -> None:
        super().__init__(
            T=T,
            path=path,
            quantile=quantile,
            strictly_below=strictly_below,
            warm_start=warm_start,
            base=base,
            eps=eps,
            loader=loader,
        )
        check_range("mix", mix, "[0, 1)")
        self.mix = mix

    def corrected_loss(self, T: Tensor) -> nn.Module:
        return BackwardCorrectionLoss(T, mix=self.mix, base=self.base, eps=self.eps)
