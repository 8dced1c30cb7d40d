"""Losses for wrong labels as criteria: modules around the kernels of :mod:`noisylabels_pl.functional.losses`."""

from noisylabels_pl.losses.active_passive import ANLCELoss, NCERCELoss, SCELoss
from noisylabels_pl.losses.bootstrap import HardBootstrapLoss, SoftBootstrapLoss
from noisylabels_pl.losses.correction import BackwardCorrectionLoss, ForwardCorrectionLoss
from noisylabels_pl.losses.dmi import LDMILoss
from noisylabels_pl.losses.logit_clip import LogitClip
from noisylabels_pl.losses.margin import RampLoss, SavageLoss, SigmoidLoss, UnhingedLoss
from noisylabels_pl.losses.robust import GCELoss, LabelSmoothingLoss, MAELoss

__all__ = [
    "ANLCELoss",
    "BackwardCorrectionLoss",
    "ForwardCorrectionLoss",
    "GCELoss",
    "HardBootstrapLoss",
    "LDMILoss",
    "LabelSmoothingLoss",
    "LogitClip",
    "MAELoss",
    "NCERCELoss",
    "RampLoss",
    "SCELoss",
    "SavageLoss",
    "SigmoidLoss",
    "SoftBootstrapLoss",
    "UnhingedLoss",
]
