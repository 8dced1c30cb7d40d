"""Callbacks that belong to no method: history, label quality, progress bar."""

from noisylabels_pl.callbacks.history import History
from noisylabels_pl.callbacks.label_quality import LabelQuality
from noisylabels_pl.callbacks.progress_bar import ProgressBar

__all__ = ["History", "LabelQuality", "ProgressBar"]
