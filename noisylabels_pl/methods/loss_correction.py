"""Forward and backward loss correction with a known or an estimated transition matrix (Patrini et al., CVPR 2017)."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor, nn
from torch.utils.data import DataLoader

from noisylabels_pl.core import Artefacts, Stage, StagedMethod
from noisylabels_pl.data import indexed, score, training_loader
from noisylabels_pl.functional import check_choice, empirical_transition, estimate_transition_matrix
from noisylabels_pl.functional.correction import BASES
from noisylabels_pl.losses import BackwardCorrectionLoss, ForwardCorrectionLoss

_log = logging.getLogger(__name__)


class LossCorrection(StagedMethod):
    """Trains with a loss that a transition matrix ``T`` corrects; Algorithm 1 of the paper if ``T`` is estimated.

    Estimating takes two stages: cross-entropy on the noisy labels; then the corrected loss, with ``T`` from the first
    network as it was at the epoch of the least noisy-validation loss, in evaluation mode, without augmentation. A
    network that has memorised its labels says that there is no noise, so that epoch matters.

    Args:
        correction: ``forward`` or ``backward``.
        T: where the matrix comes from: ``estimated``, ``known`` (the configured noise, which nobody has in practice),
            ``file`` (``path``: a ``.npy``, ``.csv`` or ``.npz`` with ``T``), or ``trusted`` (``path``: an ``.npz``
            with ``clean`` and ``observed`` labels of the same samples).
        path: for ``file`` and ``trusted``.
        quantile: for ``estimated``, see :func:`~noisylabels_pl.functional.estimate_transition_matrix`.
        warm_start: for ``estimated``, whether the second stage goes on with the first one's weights instead of fresh
            ones.
        mix: for ``backward``, the share of the identity that is mixed into ``T``.
        base: loss to correct, ``ce`` or ``square``.
        loader: for ``estimated``, the inputs to estimate it on; the training and validation split if not given.
    """

    def __init__(
        self,
        correction: str = "forward",
        *,
        T: str = "estimated",
        path: str | None = None,
        quantile: float | str = "auto",
        warm_start: bool = False,
        mix: float = 0.0,
        base: str = "ce",
        loader: DataLoader[Any] | None = None,
    ) -> None:
        check_choice("method.correction", correction, ("forward", "backward"))
        check_choice("method.T", T, ("estimated", "known", "file", "trusted"))
        if (path is not None) != (T in ("file", "trusted")):
            raise ValueError(f"method.path goes with method.T=file or trusted, got T={T} and path={path}")
        if mix and correction == "forward":
            raise ValueError(f"method.mix is for the backward correction, got {mix} with forward")
        if not 0 <= mix < 1:
            raise ValueError(f"method.mix must lie in [0, 1), got {mix}")
        if quantile != "auto" and not (isinstance(quantile, (int, float)) and 0 < quantile <= 1):
            raise ValueError(f"method.quantile must lie in (0, 1] or be auto, got {quantile}")
        if warm_start and T != "estimated":
            raise ValueError(f"method.warm_start goes on from the stage that estimates T, and there is none with T={T}")
        check_choice("method.base", base, BASES)
        self.correction = correction
        self.T = T
        self.path = path
        self.quantile = quantile
        self.warm_start = warm_start
        self.mix = mix
        self.base = base
        self.loader = loader

    @property
    def told(self) -> tuple[str, ...]:
        return ("T",) if self.T == "known" else ()

    def stages(self) -> list[Stage]:
        if self.T == "known":
            return [Stage("corrected", self._loss)]
        if self.T != "estimated":
            return [Stage("corrected", self._loss, self._used)]
        return [
            Stage("cross_entropy", lambda artefacts: nn.CrossEntropyLoss(), self._estimate, monitor="val/loss"),
            Stage("corrected", self._loss, start=self._start),
        ]

    def _loss(self, artefacts: Artefacts) -> nn.Module:
        T = read_transition(str(self.path)) if self.path is not None else artefacts["T"]
        if self.correction == "forward":
            return ForwardCorrectionLoss(T, base=self.base)
        return BackwardCorrectionLoss(T, mix=self.mix, base=self.base)

    def _estimate(self, trainer: L.Trainer, module: L.LightningModule) -> Artefacts:
        callbacks: list[Any] = trainer.callbacks  # type: ignore[attr-defined]
        watched = [c for c in callbacks if isinstance(c, ModelCheckpoint) and c.monitor == "val/loss"]
        best = [c.best_model_path for c in watched if c.best_model_path]
        if best:
            module.load_state_dict(torch.load(best[0], map_location="cpu", weights_only=True)["state_dict"])
        else:
            _log.warning("T is estimated from the last epoch, which has memorised most: no best epoch was saved")
        logits = torch.cat([score(trainer, module, loader).logits for loader in self._inputs(trainer)])
        quantile: Any = self.quantile
        weights = {f"weights/{name}": value for name, value in module.state_dict().items()} if self.warm_start else {}
        return {"T": estimate_transition_matrix(logits.double().softmax(1), quantile=quantile)} | weights

    def _inputs(self, trainer: L.Trainer) -> list[DataLoader[Any]]:
        """The paper's X': all inputs with noisy labels, of which the labels are not needed."""
        if self.loader is not None:
            return [indexed(self.loader)]
        validation: Any = trainer.val_dataloaders
        held_out = validation.get("val") if isinstance(validation, dict) else None
        return [training_loader(trainer)] + ([] if held_out is None else [indexed(held_out)])

    def _used(self, trainer: L.Trainer, module: Any) -> Artefacts:
        return {"T": module.criterion.T}

    def _start(self, module: L.LightningModule, artefacts: Artefacts) -> None:
        if self.warm_start:
            prefix = "weights/"
            own = {name.removeprefix(prefix): value for name, value in artefacts.items() if name.startswith(prefix)}
            if not own:
                raise ValueError("the finished stage left no weights to start from; resume with the options it had")
            module.load_state_dict(own)


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
    return empirical_transition(clean, observed, int(max(clean.max(), observed.max())) + 1)
