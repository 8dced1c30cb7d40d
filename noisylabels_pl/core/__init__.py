"""The glue between kernels and Lightning that every method shares."""

from noisylabels_pl.core.criterion import CriterionCallback, per_sample
from noisylabels_pl.core.filtering import Filter, masked
from noisylabels_pl.core.gradient_callback import GradientCallback
from noisylabels_pl.core.robust_loss import RobustLoss
from noisylabels_pl.core.selection import SelectionCallback
from noisylabels_pl.core.stages import Artefacts, Stage, StagedMethod, run_stages
from noisylabels_pl.core.supervised import (
    Classification,
    Classifier,
    Regression,
    Regressor,
    Supervised,
    Task,
    check_task,
)
from noisylabels_pl.core.table import SampleTable, SampleTables
from noisylabels_pl.core.twin import TwinModule, Twins

__all__ = [
    "Artefacts",
    "Classification",
    "Classifier",
    "CriterionCallback",
    "Filter",
    "GradientCallback",
    "Regression",
    "Regressor",
    "RobustLoss",
    "SampleTable",
    "SampleTables",
    "SelectionCallback",
    "Stage",
    "StagedMethod",
    "Supervised",
    "Task",
    "TwinModule",
    "Twins",
    "check_task",
    "masked",
    "per_sample",
    "run_stages",
]
