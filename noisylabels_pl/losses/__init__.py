"""Losses for wrong labels as criteria: ``nn.Module`` shells over :mod:`noisylabels_pl.functional.losses`."""

from noisylabels_pl.losses.correction import BackwardCorrectionLoss, ForwardCorrectionLoss
from noisylabels_pl.losses.robust import GCELoss

__all__ = ["BackwardCorrectionLoss", "ForwardCorrectionLoss", "GCELoss"]
