"""The glue between kernels and Lightning that every method shares."""

from noisylabels_pl.core.classifier import Classifier
from noisylabels_pl.core.criterion import CriterionCallback
from noisylabels_pl.core.selection import SelectionCallback

__all__ = ["Classifier", "CriterionCallback", "SelectionCallback"]
