"""The methods: one file for each paper, one class for each published method."""

from noisylabels_pl.methods.clipping import IndividualClip, NormClip
from noisylabels_pl.methods.co_teaching import CoTeaching
from noisylabels_pl.methods.co_teaching_plus import CoTeachingPlus
from noisylabels_pl.methods.crust import Crust
from noisylabels_pl.methods.decoupling import Decoupling
from noisylabels_pl.methods.elr import ELR, ELRPlus
from noisylabels_pl.methods.gce_truncated import TruncatedGCE
from noisylabels_pl.methods.l_dmi import LDMI
from noisylabels_pl.methods.label_wave import LabelWave
from noisylabels_pl.methods.loss_correction import BackwardCorrection, ForwardCorrection
from noisylabels_pl.methods.mentornet import MentorNet
from noisylabels_pl.methods.min_sgd import MinSGD
from noisylabels_pl.methods.mixup import Mixup
from noisylabels_pl.methods.prl import CoPRL, PRLGradient, PRLLossLayer
from noisylabels_pl.methods.self_paced import SPL
from noisylabels_pl.methods.sop import SOP

__all__ = [
    "ELR",
    "LDMI",
    "SOP",
    "SPL",
    "BackwardCorrection",
    "CoPRL",
    "CoTeaching",
    "CoTeachingPlus",
    "Crust",
    "Decoupling",
    "ELRPlus",
    "ForwardCorrection",
    "IndividualClip",
    "LabelWave",
    "MentorNet",
    "MinSGD",
    "Mixup",
    "NormClip",
    "PRLGradient",
    "PRLLossLayer",
    "TruncatedGCE",
]
