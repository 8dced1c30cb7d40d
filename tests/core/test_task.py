"""Tasks: their metrics, and the methods that do not fit them."""

from __future__ import annotations

import pytest
import torch
from torchmetrics.functional.classification import multiclass_accuracy

from noisylabels_pl.core import TASKS, check_task
from noisylabels_pl.core.task import Classification, Regression


def test_metrics_have_the_name_that_is_logged() -> None:
    for make, target in ((Classification, torch.tensor([0, 1])), (Regression, torch.rand(2, 3))):
        task = make(3)
        metric = task.make_metric()
        task.update(metric, torch.rand(2, 3), target)
        assert f"val/{task.metric}" in task.compute(metric, "val")
    assert {name: task.metric for name, task in TASKS.items()} == {"classification": "acc", "regression": "r2"}


def test_a_single_output_has_one_r2() -> None:
    task = Regression(1)
    metric = task.make_metric()
    task.update(metric, torch.tensor([[0.0], [1.0]]), torch.tensor([[0.0], [2.0]]))
    assert task.compute(metric, "test") == {"test/r2": pytest.approx(0.5)}


def test_outputs_of_another_shape() -> None:
    task = Regression(2)
    with pytest.raises(ValueError, match=r"the network returns \(4, 3\) for targets \(4, 3\); both must be \(B, 2\)"):
        task.update(task.make_metric(), torch.rand(4, 3), torch.rand(4, 3))


def test_methods_for_another_task() -> None:
    check_task("PRL", ("classification", "regression"), "regression")
    with pytest.raises(ValueError, match="ELR is for classification, but the data is for regression"):
        check_task("ELR", ("classification",), "regression")
    with pytest.raises(ValueError, match="task must be one of classification, regression, got 'ranking'"):
        check_task("ELR", ("classification",), "ranking")


def test_top_five_of_many_classes_are_those_of_torchmetrics() -> None:
    generator = torch.Generator().manual_seed(0)
    logits, target = torch.randn(200, 60, generator=generator), torch.randint(0, 60, (200,), generator=generator)
    logits[torch.arange(200), target] += 1.5
    task = Classification(60)
    metric = task.make_metric()
    for part in (slice(150), slice(150, 200)):
        task.update(metric, logits[part], target[part])
    values = task.compute(metric, "imagenet")
    assert list(values) == ["imagenet/acc", "imagenet/acc_top5"]
    for name, k in (("acc", 1), ("acc_top5", 5)):
        expected = multiclass_accuracy(logits, target, 60, average="micro", top_k=k)
        assert values[f"imagenet/{name}"] == expected
    metric.reset()
    task.update(metric, logits[:1], logits[:1].argmax(1))
    assert task.compute(metric, "test") == {"test/acc": 1.0, "test/acc_top5": 1.0}


def test_few_classes_have_no_top_five() -> None:
    task = Classification(49)
    metric = task.make_metric()
    task.update(metric, torch.eye(49), torch.arange(49))
    assert list(task.compute(metric, "val")) == ["val/acc"]
