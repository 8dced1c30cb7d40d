"""Plain supervised training, the base of every method that brings its own module."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import lightning as L
import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from noisylabels_pl.core.bad_samples import BadSamples
from noisylabels_pl.core.fine_tuning import FineTuning, find_head
from noisylabels_pl.core.scoring import positions_of
from noisylabels_pl.core.task import Classification, Regression, Task
from noisylabels_pl.data import IndexedLoader
from noisylabels_pl.functional import at_least_float32

LOG_EVERY_N_STEPS = 50


class Supervised(L.LightningModule):
    """Trains a network on the observed targets with one criterion.

    Logs ``train/loss`` and, for every validation loader by its name, ``<name>/loss`` and the task's metric.

    Args:
        net: ``(B, ...)`` to ``(B, task.num_outputs)``.
        task: the meaning of the outputs.
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
        # One metric for each loader, because Lightning evaluates both loaders in one pass.
        self.metrics = nn.ModuleDict({name: task.make_metric() for name in ("val", "test")})
        # Losses that are not logged yet, by name: their sum over the samples, and the number of samples.
        self._loss_sums: dict[str, tuple[Any, int]] = {}
        self._bad_samples = BadSamples()

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = self.net(x)
        return output

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, y = batch
        loss: Tensor = self.criterion(self(x), y)
        self.name_bad_samples(loss, batch, batch_idx)
        self.log_means({"train/loss": loss}, len(y), batch_idx)
        return loss

    def name_bad_samples(self, loss: Tensor, batch: Any, batch_idx: int) -> None:
        """Raise an error that names the samples which make the loss NaN or infinite, if such samples do.

        Args:
            loss: a scalar.
            batch: as the training step gets it.
            batch_idx: its number in the epoch.

        Raises:
            ValueError: inputs or targets of this batch are not finite. On a GPU, it may be one of the last 50 batches.
        """
        if batch_idx == 0:
            self._bad_samples.forget()  # an earlier fit may have been interrupted
        index = torch.empty(0, dtype=torch.int64)
        if self._fit_trainer() is not None:
            index = positions_of(self.trainer, batch, batch_idx, required=False).index
        self._bad_samples.add(~loss.detach().isfinite(), batch, index=index)

    def on_train_start(self) -> None:
        if isinstance(self.trainer.train_dataloader, IndexedLoader):
            self.trainer.train_dataloader.start_fit(self.trainer)

    def on_train_epoch_end(self) -> None:
        self._bad_samples.read()

    def log_means(self, losses: dict[str, Tensor], batch_size: int, batch_idx: int) -> None:
        """Log the mean of some losses over the epoch; call ``self.log`` in every 50th step only.

        ``self.log`` in every step would take as long as the forward pass of a small network. In an epoch that ends
        early, the last steps may be missing from the mean.

        Args:
            losses: scalars of this batch, by name.
            batch_size: samples in the batch.
            batch_idx: number of the batch in its epoch.
        """
        if batch_idx == 0:
            self._loss_sums = {}  # an earlier fit may have been interrupted
        for name, loss in losses.items():
            total, num_samples = self._loss_sums.get(name, (0.0, 0))
            total = total + batch_size * at_least_float32(loss.detach())
            self._loss_sums[name] = (total, num_samples + batch_size)
        if self._is_logging_step(batch_idx):
            options: dict[str, Any] = {"on_step": False, "on_epoch": True, "sync_dist": True}
            for name, (total, num_samples) in self._loss_sums.items():
                mean = total / num_samples
                self.log(name, mean, prog_bar=name == "train/loss", batch_size=num_samples, **options)
            self._loss_sums = {}

    def _is_logging_step(self, batch_idx: int) -> bool:
        trainer = self._fit_trainer()
        if trainer is None:
            return False
        is_last = trainer.is_last_batch or trainer.global_step + 1 == trainer.max_steps
        return is_last or batch_idx % LOG_EVERY_N_STEPS == 0

    def _fit_trainer(self) -> L.Trainer | None:
        """Return the trainer, or ``None`` for a step by hand, outside of a fit."""
        try:
            return self.trainer
        except RuntimeError:
            return None

    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        loaders = self.trainer.val_dataloaders
        name = list(loaders)[dataloader_idx] if isinstance(loaders, dict) else "val"
        self._evaluate(name, batch)

    def test_step(self, batch: Any, batch_idx: int) -> None:
        self._evaluate("test", batch)

    def predict_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, _ = batch
        return self(x)  # type: ignore[no-any-return]

    def on_validation_epoch_end(self) -> None:
        self._log_metrics()

    def on_test_epoch_end(self) -> None:
        self._log_metrics()

    def _evaluate(self, name: str, batch: Any) -> None:
        x, y = batch
        output = self(x)
        predicted = output
        if name not in self.metrics:  # a loader with a name of the user's
            self.metrics[name] = self.task.make_metric().to(self.device)
        # Most validation labels are noisy. A loss correction knows the distribution of the labels that are observed.
        observed = getattr(self.criterion, "observed", None)
        datamodule: Any = self.trainer.datamodule  # type: ignore[attr-defined]
        is_clean = name != "val" or getattr(datamodule, "has_clean_validation", False)
        if observed is not None and not is_clean:
            predicted = observed(output)
        self.task.update(self.metrics[name], predicted, y)  # type: ignore[arg-type]
        options: dict[str, Any] = {"on_step": False, "on_epoch": True, "batch_size": len(y), "sync_dist": True}
        self.log(f"{name}/loss", self.criterion(output, y), add_dataloader_idx=False, **options)

    def _log_metrics(self) -> None:
        for name, metric in self.metrics.items():
            if metric.update_called:
                self.log_dict(self.task.compute(metric, name), sync_dist=True)  # type: ignore[arg-type]
                metric.reset()  # type: ignore[operator]

    def networks(self) -> list[nn.Module]:
        """Return the networks that are trained."""
        return [self.net]

    def configure_optimizers(self) -> Any:
        parameters = [parameter for parameter in self.parameters() if parameter.requires_grad]
        if isinstance(self.optimizer, FineTuning):
            optimizer = self.optimizer(parameters, heads=[find_head(net) for net in self.networks()])
        else:
            optimizer = self.optimizer(parameters)
        if self.scheduler is None:
            return optimizer
        return {"optimizer": optimizer, "lr_scheduler": self.scheduler(optimizer)}


class Classifier(Supervised):
    """Trains a network to predict classes; see :class:`Supervised`.

    Args:
        net: ``(B, ...)`` to ``(B, num_classes)`` logits.
        num_classes: ``C``.
        optimizer: called with the parameters.
        scheduler: called with the optimizer; steps once an epoch.
        criterion: ``(logits, target)`` to a scalar; cross-entropy if not given.

    Example:
        >>> import torch
        >>> module = Classifier(nn.Linear(4, 3), 3, torch.optim.SGD)
        >>> module(torch.zeros(2, 4)).shape
        torch.Size([2, 3])
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

    Logs the R2 of each output, against the mean of the evaluated targets, as ``<name>/r2_0`` and so on, and their
    unweighted mean as ``<name>/r2``.

    Args:
        net: ``(B, ...)`` to ``(B, num_outputs)``.
        num_outputs: real numbers to predict for a sample.
        optimizer: called with the parameters.
        scheduler: called with the optimizer; steps once an epoch.
        criterion: ``(prediction, target)`` to a scalar; the mean squared error if not given.

    Example:
        >>> import torch
        >>> Regressor(nn.Linear(4, 2), 2, torch.optim.SGD).criterion
        MSELoss()
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
