"""Forward and backward loss correction with a known or an estimated transition matrix (Patrini et al., CVPR 2017)."""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import lightning as L
import numpy as np
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor, nn
from torch.utils.data import DataLoader

from noisylabels_pl.core import Artifacts, Stage, StagedMethod, score, training_loader
from noisylabels_pl.data import indexed
from noisylabels_pl.functional import check_choice, check_range, empirical_transition_matrix, estimate_transition_matrix
from noisylabels_pl.functional.losses.correction import BASES
from noisylabels_pl.losses import BackwardCorrectionLoss, ForwardCorrectionLoss

TransitionSource = Literal["estimated", "known", "file", "trusted"]

_log = logging.getLogger(__name__)


class _LossCorrection(StagedMethod):
    """Trains with a loss that a transition matrix ``T`` corrects; Algorithm 1 of the paper if ``T`` is estimated.

    Estimating ``T`` takes two stages. The first trains with cross-entropy on the noisy labels. The second trains with
    the corrected loss, with ``T`` estimated from the first network as it was at the epoch of the lowest
    noisy-validation loss, in evaluation mode and without augmentation. A network that has memorized its labels predicts
    no noise, so that epoch matters.
    """

    def __init__(
        self,
        *,
        T: TransitionSource,
        path: str | None,
        quantile: float | Literal["auto"],
        warm_start: bool,
        base: str,
        loader: DataLoader[Any] | None,
    ) -> None:
        check_choice("T", T, TransitionSource)
        check_choice("base", base, BASES)
        if (path is not None) != (T in ("file", "trusted")):
            raise ValueError(f"path goes with T=file or T=trusted, got T={T} and path={path}")
        if quantile != "auto":
            check_range("quantile", quantile, "(0, 1]", hint="or set it to auto")
        if warm_start and T != "estimated":
            raise ValueError(f"warm_start continues from the stage that estimates T, but T={T} has no such stage")
        self.T = T
        self.path = path
        self.quantile = quantile
        self.warm_start = warm_start
        self.base = base
        self.loader = loader

    @abstractmethod
    def corrected_loss(self, T: Tensor) -> nn.Module:
        """Return the criterion that ``T`` corrects."""

    @property
    def reveals(self) -> tuple[str, ...]:
        return ("T",) if self.T == "known" else ()

    def stages(self) -> list[Stage]:
        if self.T == "known":
            return [Stage("corrected", self._loss)]
        if self.T != "estimated":
            return [Stage("corrected", self._loss, self._used)]
        return [
            Stage("cross_entropy", lambda artifacts: nn.CrossEntropyLoss(), self._estimate, monitor="val/loss"),
            Stage("corrected", self._loss, initialize=self._initialize),
        ]

    def _loss(self, artifacts: Artifacts) -> nn.Module:
        return self.corrected_loss(artifacts["T"] if self.path is None else read_transition(self.path))

    def _estimate(self, trainer: L.Trainer, module: L.LightningModule) -> Artifacts:
        callbacks: list[Any] = trainer.callbacks  # type: ignore[attr-defined]
        watched = [c for c in callbacks if isinstance(c, ModelCheckpoint) and c.monitor == "val/loss"]
        best = [c.best_model_path for c in watched if c.best_model_path]
        if best:
            module.load_state_dict(torch.load(best[0], map_location="cpu", weights_only=True)["state_dict"])
        else:
            _log.warning("T is estimated from the last epoch, which has memorized most: no best epoch was saved")
        logits = torch.cat([score(trainer, module, loader).logits for loader in self._inputs(trainer)])
        quantile: Any = self.quantile
        weights = {f"weights/{name}": value for name, value in module.state_dict().items()} if self.warm_start else {}
        return {"T": estimate_transition_matrix(logits.double().softmax(1), quantile=quantile)} | weights

    def _inputs(self, trainer: L.Trainer) -> Sequence[DataLoader[Any]]:
        """The paper's X': all inputs with noisy labels, of which the labels are not needed."""
        if self.loader is not None:
            return [indexed(self.loader)]
        validation: Any = trainer.val_dataloaders
        held_out = validation.get("val") if isinstance(validation, dict) else None
        return [training_loader(trainer)] + ([] if held_out is None else [indexed(held_out)])

    def _used(self, trainer: L.Trainer, module: Any) -> Artifacts:
        return {"T": module.criterion.T}

    def _initialize(self, module: L.LightningModule, artifacts: Artifacts) -> None:
        if self.warm_start:
            prefix = "weights/"
            own = {name.removeprefix(prefix): value for name, value in artifacts.items() if name.startswith(prefix)}
            if not own:
                raise ValueError("the finished stage left no weights to start from; resume with the options it had")
            module.load_state_dict(own)


class ForwardCorrection(_LossCorrection):
    """Forward loss correction: trains on the loss of the noisy labels under ``T^T p``, with ``T`` known or estimated.

    Args:
        T: where the matrix comes from: ``estimated``; ``known`` (that of the configured noise, which nobody has in
            practice); ``file`` (``path`` names a ``.npy``, ``.csv`` or ``.npz`` file with ``T``); or ``trusted``
            (``path`` names an ``.npz`` file with ``clean`` and ``observed`` labels of the same samples).
        path: the file, for ``file`` and ``trusted``.
        quantile: for ``estimated``, see :func:`~noisylabels_pl.functional.estimate_transition_matrix`.
        warm_start: for ``estimated``, whether the second stage starts from the first one's weights instead of fresh
            ones.
        base: the loss to correct, ``ce`` or ``square``.
        loader: for ``estimated``, the inputs to estimate ``T`` on; the training and validation splits if not given.
    """

    def __init__(
        self,
        *,
        T: TransitionSource = "estimated",
        path: str | None = None,
        quantile: float | Literal["auto"] = "auto",
        warm_start: bool = False,
        base: str = "ce",
        loader: DataLoader[Any] | None = None,
    ) -> None:
        super().__init__(T=T, path=path, quantile=quantile, warm_start=warm_start, base=base, loader=loader)

    def corrected_loss(self, T: Tensor) -> nn.Module:
        return ForwardCorrectionLoss(T, base=self.base)


class BackwardCorrection(_LossCorrection):
    """Backward loss correction: trains on an unbiased estimate of the clean labels' loss, by the inverse of ``T``.

    Args:
        T: see :class:`ForwardCorrection`.
        path: see :class:`ForwardCorrection`.
        quantile: see :class:`ForwardCorrection`.
        warm_start: see :class:`ForwardCorrection`.
        mix: weight of the identity that is mixed into ``T`` before it is inverted, in ``[0, 1)``.
        base: see :class:`ForwardCorrection`.
        loader: see :class:`ForwardCorrection`.
    """

    def __init__(
        self,
        *,
        T: TransitionSource = "estimated",
        path: str | None = None,
        quantile: float | Literal["auto"] = "auto",
        warm_start: bool = False,
        mix: float = 0.0,
        base: str = "ce",
        loader: DataLoader[Any] | None = None,
    ) -> None:
        super().__init__(T=T, path=path, quantile=quantile, warm_start=warm_start, base=base, loader=loader)
        check_range("mix", mix, "[0, 1)")
        self.mix = mix

    def corrected_loss(self, T: Tensor) -> nn.Module:
        return BackwardCorrectionLoss(T, mix=self.mix, base=self.base)


def read_transition(path: str) -> Tensor:
    """``T`` from a ``.npy``, ``.csv`` or ``.npz`` file, or counted from its arrays ``clean`` and ``observed``.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file has none of these.
    """
    file = Path(path).expanduser()
    if not file.is_file():
        raise FileNotFoundError(f"method.path: there is no file {file.resolve()}")
    if file.suffix == ".csv":
        return torch.from_numpy(np.loadtxt(file, delimiter=","))
    stored = np.load(file, allow_pickle=False)
    if isinstance(stored, np.ndarray):
        return torch.from_numpy(stored).double()
    if "T" in stored:
        return torch.from_numpy(stored["T"]).double()
    if not {"clean", "observed"} <= set(stored):
        raise ValueError(f"method.path: {path} must hold T, or clean and observed; it holds {', '.join(stored)}")
    clean, observed = (torch.from_numpy(stored[name]).long() for name in ("clean", "observed"))
    return empirical_transition_matrix(clean, observed, int(max(clean.max(), observed.max())) + 1)
