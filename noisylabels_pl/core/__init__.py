"""The glue between kernels and Lightning that every method shares."""

from noisylabels_pl.core.classifier import Classifier
from noisylabels_pl.core.criterion import CriterionCallback
from noisylabels_pl.core.robust_loss import RobustLoss
from noisylabels_pl.core.selection import SelectionCallback
from noisylabels_pl.core.stages import Artefacts, Stage, StagedMethod, run_stages
from noisylabels_pl.core.table import SampleTable, SampleTables
from noisylabels_pl.core.twin import TwinModule, Twins

__all__ = [
    "Artefacts",
    "Classifier",
    "CriterionCallback",
    "RobustLoss",
    "SampleTable",
    "SampleTables",
    "SelectionCallback",
    "Stage",
    "StagedMethod",
    "TwinModule",
    "Twins",
    "run_stages",
]
