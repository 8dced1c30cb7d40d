"""Plain supervised training, which every method builds on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import lightning as L
import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from noisylabels_pl.core.task import Classification, Regression, Task

LOG_EVERY = 50  # steps


class Supervised(L.LightningModule):
    """A network trained on the observed targets with one criterion.

    Logs ``train/loss`` and, for every validation loader by its name, ``<name>/loss`` and the task's metric.

    Args:
        net: ``(B, ...)`` to ``(B, task.num_outputs)``.
        task: what the outputs are.
        optimizer: called with the parameters.
        scheduler: called with the optimizer; steps once an epoch.
        criterion: ``(output, target)`` to a scalar; the task's own if not given.
    """

    def __init__(
        self,
        net: nn.Module,
        task: Task,
        optimizer: Callable[[Any], Optimizer],
        scheduler: Callable[[Optimizer], LRScheduler] | None = None,
        criterion: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.net = net
        self.task = task
        self.criterion = criterion or task.criterion()
        self.optimizer = optimizer
        self.scheduler = scheduler
        # A metric for each loader, because they are summed up at the same time.
        self._sums: dict[str, tuple[Any, int]] = {}  # of losses that are not logged yet, of how many samples
        self.metrics = nn.ModuleDict({name: task.make_metric() for name in ("val", "test")})

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = self.net(x)
        return output

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, y = batch
        loss: Tensor = self.criterion(self(x), y)
        self.log_means({"train/loss": loss}, len(y), batch_idx)
        return loss

    def log_means(self, losses: dict[str, Tensor], size: int, batch_idx: int) -> None:
        """Log the means over the epoch of a batch of ``size`` samples' losses, many steps at a time.

        ``self.log`` in every step would take as long as a small network's forward pass. Of an epoch that ends early the
        last steps may be missing.
        """
        if batch_idx == 0:
            self._sums = {}  # a fit may have been broken off
        for name, loss in losses.items():
            total, samples = self._sums.get(name, (0.0, 0))
            value = loss.detach().to(torch.promote_types(loss.dtype, torch.float32))
            self._sums[name] = total + size * value, samples + size
        try:
            trainer = self.trainer
        except RuntimeError:  # a step by hand, outside of a fit
            return
        if batch_idx % LOG_EVERY and not trainer.is_last_batch and trainer.global_step + 1 != trainer.max_steps:
            return
        options: dict[str, Any] = {"on_step": False, "on_epoch": True, "sync_dist": True}
        for name, (total, samples) in self._sums.items():
            self.log(name, total / samples, prog_bar=name == "train/loss", batch_size=samples, **options)
        self._sums = {}

    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        loaders = self.trainer.val_dataloaders
        self._evaluate(list(loaders)[dataloader_idx] if isinstance(loaders, dict) else "val", batch)

    def test_step(self, batch: Any, batch_idx: int) -> None:
        self._evaluate("test", batch)

    def on_validation_epoch_end(self) -> None:
        self._report()

    def on_test_epoch_end(self) -> None:
        self._report()

    def _evaluate(self, name: str, batch: Any) -> None:
        x, y = batch
        output = self(x)
        # Validation targets are noisy: a criterion that knows how says what it expects to be observed.
        observed = getattr(self.criterion, "observed", None)
        predicted = observed(output) if observed is not None and name == "val" else output
        self.task.update(self.metrics[name], predicted, y)  # type: ignore[arg-type]
        options: dict[str, Any] = {"on_step": False, "on_epoch": True, "batch_size": len(y), "sync_dist": True}
        self.log(f"{name}/loss", self.criterion(output, y), add_dataloader_idx=False, **options)

    def _report(self) -> None:
        for name, metric in self.metrics.items():
            if metric.update_called:
                self.log_dict(self.task.computed(metric, name), sync_dist=True)  # type: ignore[arg-type]
                metric.reset()  # type: ignore[operator]

    def configure_optimizers(self) -> Any:
        optimizer = self.optimizer([parameter for parameter in self.parameters() if parameter.requires_grad])
        if self.scheduler is None:
            return optimizer
        return {"optimizer": optimizer, "lr_scheduler": self.scheduler(optimizer)}


class Classifier(Supervised):
    """Trains a network to tell classes apart; see :class:`Supervised`.

    Args:
        net: ``(B, ...)`` to ``(B, num_classes)`` logits.
        num_classes: ``C``.
        optimizer: called with the parameters.
        scheduler: called with the optimizer; steps once an epoch.
        criterion: ``(logits, target)`` to a scalar; cross-entropy if not given.
    """

    def __init__(
        self,
        net: nn.Module,
        num_classes: int,
        optimizer: Callable[[Any], Optimizer],
        scheduler: Callable[[Optimizer], LRScheduler] | None = None,
        criterion: nn.Module | None = None,
    ) -> None:
        super().__init__(net, Classification(num_classes), optimizer, scheduler, criterion)


class Regressor(Supervised):
    """Trains a network to predict real numbers; see :class:`Supervised`.

    Logs R2 of each output, against the mean of the evaluated targets, as ``<name>/r2_0`` and so on, and their
    unweighted mean as ``<name>/r2``.

    Args:
        net: ``(B, ...)`` to ``(B, num_outputs)``.
        num_outputs: real numbers to predict for a sample.
        optimizer: called with the parameters.
        scheduler: called with the optimizer; steps once an epoch.
        criterion: ``(prediction, target)`` to a scalar; the mean squared error if not given.
    """

    def __init__(
        self,
        net: nn.Module,
        num_outputs: int,
        optimizer: Callable[[Any], Optimizer],
        scheduler: Callable[[Optimizer], LRScheduler] | None = None,
        criterion: nn.Module | None = None,
    ) -> None:
        super().__init__(net, Regression(num_outputs), optimizer, scheduler, criterion)
