"""Callbacks that belong to no method: divergence, progress, history, label quality."""

from noisylabels_pl.callbacks.divergence_check import DivergedError, DivergenceCheck
from noisylabels_pl.callbacks.epoch_lines import EpochLines
from noisylabels_pl.callbacks.history import History
from noisylabels_pl.callbacks.label_quality import LabelQuality
from noisylabels_pl.callbacks.progress_bar import ProgressBar

__all__ = ["DivergedError", "DivergenceCheck", "EpochLines", "History", "LabelQuality", "ProgressBar"]
