"""Plain supervised classification, which every callback method builds on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import lightning as L
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torchmetrics.classification import MulticlassAccuracy


class Classifier(L.LightningModule):
    """A network trained on the observed labels with one criterion.

    Logs ``train/loss`` and, for every validation loader by its name, ``<name>/loss`` and ``<name>/acc``.

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
        super().__init__()
        self.net = net
        self.criterion = criterion or nn.CrossEntropyLoss()
        self.optimizer = optimizer
        self.scheduler = scheduler
        # A metric for each loader, because they are summed up at the same time.
        self.accuracy = nn.ModuleDict(
            {name: MulticlassAccuracy(num_classes, average="micro") for name in ("val", "test")}
        )

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.net(x)
        return logits

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, y = batch
        loss: Tensor = self.criterion(self(x), y)
        self.log("train/loss", loss, on_step=False, on_epoch=True, prog_bar=True, batch_size=len(y), sync_dist=True)
        return loss

    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        loaders = self.trainer.val_dataloaders
        self._evaluate(list(loaders)[dataloader_idx] if isinstance(loaders, dict) else "val", batch)

    def test_step(self, batch: Any, batch_idx: int) -> None:
        self._evaluate("test", batch)

    def _evaluate(self, name: str, batch: Any) -> None:
        x, y = batch
        logits = self(x)
        accuracy: Any = self.accuracy[name]
        # Validation labels are noisy: a criterion that knows how says what it expects to be observed.
        observed = getattr(self.criterion, "observed", None)
        accuracy.update(observed(logits) if observed is not None and name == "val" else logits, y)
        options: dict[str, Any] = {
            "on_step": False,
            "on_epoch": True,
            "batch_size": len(y),
            "add_dataloader_idx": False,
        }
        self.log(f"{name}/loss", self.criterion(logits, y), sync_dist=True, **options)
        self.log(f"{name}/acc", accuracy, prog_bar=True, **options)

    def configure_optimizers(self) -> Any:
        optimizer = self.optimizer([parameter for parameter in self.parameters() if parameter.requires_grad])
        if self.scheduler is None:
            return optimizer
        return {"optimizer": optimizer, "lr_scheduler": self.scheduler(optimizer)}
