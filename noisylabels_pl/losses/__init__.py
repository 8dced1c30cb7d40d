"""Losses for wrong labels as criteria: modules around the kernels of :mod:`noisylabels_pl.functional.losses`."""

from noisylabels_pl.losses.correction import BackwardCorrectionLoss, ForwardCorrectionLoss
from noisylabels_pl.losses.robust import GCELoss

__all__ = ["BackwardCorrectionLoss", "ForwardCorrectionLoss", "GCELoss"]
