"""What a network predicts, and how it is judged."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torchmetrics import Metric, R2Score
from torchmetrics.classification import MulticlassAccuracy

from noisylabels_pl.functional import check_choice


class Task(ABC):
    """What a network predicts, how it is judged, and the loss it is trained with by default.

    Attributes:
        metric: by which predictions are judged; higher is better.
        num_outputs: values that the network gives for a sample.
    """

    metric: ClassVar[str]

    def __init__(self, num_outputs: int) -> None:
        self.num_outputs = num_outputs

    @abstractmethod
    def criterion(self) -> nn.Module:
        """The plain loss."""

    @abstractmethod
    def make_metric(self) -> Metric:
        """Counts up predictions and targets."""

    @abstractmethod
    def update(self, metric: Metric, output: Tensor, target: Tensor) -> None:
        """Count a batch."""

    @abstractmethod
    def computed(self, metric: Metric, loader: str) -> dict[str, Any]:
        """What to log of an epoch's metric, by name."""


class Classification(Task):
    """One class out of ``num_outputs``, judged by accuracy."""

    metric = "acc"

    def criterion(self) -> nn.Module:
        return nn.CrossEntropyLoss()

    def make_metric(self) -> Metric:
        return MulticlassAccuracy(self.num_outputs, average="micro")

    def update(self, metric: Metric, output: Tensor, target: Tensor) -> None:
        metric.update(output, target)

    def computed(self, metric: Metric, loader: str) -> dict[str, Any]:
        return {f"{loader}/acc": metric.compute()}


class Regression(Task):
    """``num_outputs`` real numbers, judged by R2: of each, and their unweighted mean as ``r2``."""

    metric = "r2"

    def criterion(self) -> nn.Module:
        return nn.MSELoss()

    def make_metric(self) -> Metric:
        return R2Score(multioutput="raw_values")

    def update(self, metric: Metric, output: Tensor, target: Tensor) -> None:
        if output.shape != target.shape or output.shape[1:] != (self.num_outputs,):
            raise ValueError(
                f"the network gives {tuple(output.shape)} for targets {tuple(target.shape)}; both must be "
                f"(B, {self.num_outputs}), as num_outputs has it"
            )
        # Sums of squares of targets far from 0 leave nothing of a float32; Apple's GPUs have no other.
        if output.device.type != "mps":
            output, target = output.double(), target.double()
            metric.set_dtype(torch.float64)
        metric.update(output, target)

    def computed(self, metric: Metric, loader: str) -> dict[str, Any]:
        each = metric.compute().flatten()
        values = {f"{loader}/r2": each.mean()}
        return values | ({f"{loader}/r2_{i}": value for i, value in enumerate(each)} if len(each) > 1 else {})


TASKS: dict[str, type[Task]] = {"classification": Classification, "regression": Regression}


def check_task(method: str, tasks: Sequence[str], task: str) -> None:
    """Check that a method is made for a task.

    Args:
        method: its name, for the message.
        tasks: the tasks that it is made for.
        task: the task of the data, a key of :data:`TASKS`.

    Raises:
        ValueError: there is no such task, or the method is not made for it.

    Example:
        >>> check_task("Crust", ("classification",), "classification")
        >>> check_task("Crust", ("classification",), "regression")
        Traceback (most recent call last):
        ...
        ValueError: Crust is for classification, but the data is for regression
    """
    check_choice("task", task, TASKS)
    if task not in tasks:
        raise ValueError(f"{method} is for {' and '.join(tasks)}, but the data is for {task}")
