"""Classification and regression: the outputs of a network, its metric, and the plain loss."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torchmetrics import Metric, R2Score
from torchmetrics.classification import MulticlassAccuracy

from noisylabels_pl.functional import check_choice

TaskName = Literal["classification", "regression"]
_LEAST_FOR_TOP5 = 50  # classes; among fewer, five guesses say little


class Task(ABC):
    """The outputs of a network, the metric that judges them, and the loss that trains them by default.

    Args:
        num_outputs: values that the network returns for a sample.

    Attributes:
        metric: name of the metric; higher is better.
    """

    metric: ClassVar[str]

    def __init__(self, num_outputs: int) -> None:
        self.num_outputs = num_outputs

    @abstractmethod
    def criterion(self) -> nn.Module:
        """Return the plain loss."""

    @abstractmethod
    def make_metric(self) -> Metric:
        """Return a new metric of predictions and targets."""

    @abstractmethod
    def update(self, metric: Metric, output: Tensor, target: Tensor) -> None:
        """Add a batch to the metric."""

    @abstractmethod
    def compute(self, metric: Metric, loader: str) -> dict[str, Any]:
        """Return the values to log at the end of an epoch, by name; ``loader`` is ``val`` or ``test``."""


class TopAccuracies(Metric):
    """The fractions of samples whose label is the largest logit, and of those whose label is among the five largest.

    Example:
        >>> metric = TopAccuracies()
        >>> metric.update(torch.arange(6.0).repeat(2, 1), torch.tensor([5, 0]))
        >>> metric.compute()
        tensor([0.5000, 0.5000])
    """

    higher_is_better = True
    num_correct: Tensor
    num_samples: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("num_correct", torch.zeros(2, dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("num_samples", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, logits: Tensor, target: Tensor) -> None:
        """Add a batch of logits ``(B, C)``, ``C >= 5``, and labels ``(B,)``."""
        is_first = logits.argmax(1) == target
        is_in_five = (logits.topk(5, dim=1).indices == target[:, None]).any(1)
        self.num_correct += torch.stack([is_first.sum(), is_in_five.sum()])
        self.num_samples += len(target)

    def compute(self) -> Tensor:
        """Return the top-1 and the top-5 accuracy, ``(2,)``."""
        return self.num_correct / self.num_samples


class Classification(Task):
    """One class out of ``num_outputs``, judged by the accuracy ``acc``; for 50 classes or more also ``acc_top5``.

    Example:
        >>> task = Classification(3)
        >>> metric = task.make_metric()
        >>> task.update(metric, torch.tensor([[0.1, 0.8, 0.1], [0.6, 0.2, 0.2]]), torch.tensor([1, 2]))
        >>> task.compute(metric, "val")
        {'val/acc': tensor(0.5000)}
    """

    metric = "acc"

    def criterion(self) -> nn.Module:
        return nn.CrossEntropyLoss()

    def make_metric(self) -> Metric:
        if self.num_outputs >= _LEAST_FOR_TOP5:
            return TopAccuracies()
        return MulticlassAccuracy(self.num_outputs, average="micro")

    def update(self, metric: Metric, output: Tensor, target: Tensor) -> None:
        metric.update(output, target)

    def compute(self, metric: Metric, loader: str) -> dict[str, Any]:
        accuracy: Tensor = metric.compute()
        if isinstance(metric, TopAccuracies):
            return {f"{loader}/{self.metric}": accuracy[0], f"{loader}/{self.metric}_top5": accuracy[1]}
        return {f"{loader}/{self.metric}": accuracy}


class Regression(Task):
    """``num_outputs`` real numbers, judged by the R2 of each, and their unweighted mean ``r2``."""

    metric = "r2"

    def criterion(self) -> nn.Module:
        return nn.MSELoss()

    def make_metric(self) -> Metric:
        return R2Score(multioutput="raw_values")

    def update(self, metric: Metric, output: Tensor, target: Tensor) -> None:
        if output.shape != target.shape or output.shape[1:] != (self.num_outputs,):
            raise ValueError(
                f"the network returns {tuple(output.shape)} for targets {tuple(target.shape)}; both must be "
                f"(B, {self.num_outputs}), as num_outputs says"
            )
        # In float32 the sums of squares of targets far from 0 lose all digits. Apple's GPUs have no float64.
        if output.device.type != "mps":
            output = output.double()
            target = target.double()
            metric.set_dtype(torch.float64)
        metric.update(output, target)

    def compute(self, metric: Metric, loader: str) -> dict[str, Any]:
        scores = metric.compute().flatten()
        values = {f"{loader}/{self.metric}": scores.mean()}
        if len(scores) > 1:
            values |= {f"{loader}/{self.metric}_{i}": score for i, score in enumerate(scores)}
        return values


TASKS: dict[TaskName, type[Task]] = {"classification": Classification, "regression": Regression}


def check_task(method: str, tasks: Sequence[str], task: str) -> None:
    """Check that a method is made for a task.

    Args:
        method: name of the method, for the message.
        tasks: the tasks that it is for.
        task: ``classification`` or ``regression``.

    Raises:
        ValueError: there is no such task, or the method is not for it.

    Example:
        >>> check_task("ELR", ("classification",), "regression")
        Traceback (most recent call last):
        ...
        ValueError: ELR is for classification, but the data is for regression
    """
    check_choice("task", task, TaskName)
    if task not in tasks:
        raise ValueError(f"{method} is for {' and '.join(tasks)}, but the data is for {task}")
