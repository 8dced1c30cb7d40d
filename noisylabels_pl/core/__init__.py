"""The glue between kernels and Lightning that every method shares."""

from noisylabels_pl.core.batch_filter import BatchFilter, FilterOptions, masked_losses
from noisylabels_pl.core.criterion_callback import CriterionCallback
from noisylabels_pl.core.distributed import run_sharded
from noisylabels_pl.core.filter_callback import FilterCallback
from noisylabels_pl.core.filter_twin import FilterTwin
from noisylabels_pl.core.fine_tuning import FineTuning, find_head
from noisylabels_pl.core.gradient_callback import GradientCallback
from noisylabels_pl.core.loss_call import REGRESSION_LOSSES, LossCall, per_sample_losses
from noisylabels_pl.core.needs import Needs
from noisylabels_pl.core.robust_loss import RobustLoss
from noisylabels_pl.core.scoring import (
    Scores,
    measured_samples,
    score,
    score_batches,
    score_losses,
    scoring_pass,
    training_loader,
)
from noisylabels_pl.core.selection_callback import SelectionCallback
from noisylabels_pl.core.stages import Artifacts, Stage, StagedMethod, run_stages
from noisylabels_pl.core.supervised import Classifier, Regressor, Supervised
from noisylabels_pl.core.tables import SampleTable, SampleTables
from noisylabels_pl.core.task import TASKS, Task, check_task
from noisylabels_pl.core.twin import TwinModule, Twins

__all__ = [
    "REGRESSION_LOSSES",
    "TASKS",
    "Artifacts",
    "BatchFilter",
    "Classifier",
    "CriterionCallback",
    "FilterCallback",
    "FilterOptions",
    "FilterTwin",
    "FineTuning",
    "GradientCallback",
    "LossCall",
    "Needs",
    "Regressor",
    "RobustLoss",
    "SampleTable",
    "SampleTables",
    "Scores",
    "SelectionCallback",
    "Stage",
    "StagedMethod",
    "Supervised",
    "Task",
    "TwinModule",
    "Twins",
    "check_task",
    "find_head",
    "masked_losses",
    "measured_samples",
    "per_sample_losses",
    "run_sharded",
    "run_stages",
    "score",
    "score_batches",
    "score_losses",
    "scoring_pass",
    "training_loader",
]
