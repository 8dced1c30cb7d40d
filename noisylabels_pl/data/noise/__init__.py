"""Noise of labels and regression targets: one file for each family."""

from noisylabels_pl.data.noise.annotator_noise import AnnotatorNoise
from noisylabels_pl.data.noise.base import Draw, DrawnNoise, Noise
from noisylabels_pl.data.noise.confusion_noise import ConfusionNoise
from noisylabels_pl.data.noise.file_noise import FileNoise
from noisylabels_pl.data.noise.instance_noise import InstanceNoise
from noisylabels_pl.data.noise.label_noise import LabelNoise
from noisylabels_pl.data.noise.twin_noise import TwinNoise

__all__ = [
    "AnnotatorNoise",
    "ConfusionNoise",
    "Draw",
    "DrawnNoise",
    "FileNoise",
    "InstanceNoise",
    "LabelNoise",
    "Noise",
    "TwinNoise",
]
