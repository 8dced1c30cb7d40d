"""The glue between kernels and Lightning that every method shares."""

from noisylabels_pl.core.criterion import REGRESSION_LOSSES, CriterionCallback, per_sample
from noisylabels_pl.core.filtering import Filter, masked
from noisylabels_pl.core.gradient_callback import GradientCallback
from noisylabels_pl.core.processes import share
from noisylabels_pl.core.robust_loss import RobustLoss
from noisylabels_pl.core.selection import SelectionCallback
from noisylabels_pl.core.stages import Artefacts, Stage, StagedMethod, run_stages
from noisylabels_pl.core.supervised import TASKS, Classifier, Regressor, Supervised, Task, check_task
from noisylabels_pl.core.table import SampleTable, SampleTables
from noisylabels_pl.core.twin import TwinModule, Twins

__all__ = [
    "REGRESSION_LOSSES",
    "TASKS",
    "Artefacts",
    "Classifier",
    "CriterionCallback",
    "Filter",
    "GradientCallback",
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
    "share",
]
