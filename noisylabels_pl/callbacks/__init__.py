"""Helpers that belong to no method."""

from noisylabels_pl.callbacks.history import History
from noisylabels_pl.callbacks.labels import LabelQuality
from noisylabels_pl.callbacks.progress import ProgressBar

__all__ = ["History", "LabelQuality", "ProgressBar"]
