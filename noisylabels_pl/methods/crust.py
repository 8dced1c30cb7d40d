"""CRUST: coresets for robust training against noisy labels (Mirzasoleiman, Cao, Leskovec; NeurIPS 2020)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import lightning as L
import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from noisylabels_pl.core import Scores, SelectionCallback, run_sharded
from noisylabels_pl.data import Batch, Selection
from noisylabels_pl.functional import (
    Coreset,
    centrality,
    check_choice,
    cluster_partners,
    distributed_greedy,
    facility_location,
    logit_gradient,
    mix,
    same_label_partners,
    stochastic_greedy,
)

SELECTORS: dict[str, Callable[..., Coreset]] = {
    "centrality": centrality,
    "facility_location": facility_location,
    "stochastic_greedy": stochastic_greedy,
    "distributed_greedy": distributed_greedy,
}


class Crust(SelectionCallback):
    """Every epoch, trains on samples that are central in gradient space, class by class.

    The defaults are this library's variant, which filters wrong labels. The paper's Algorithm 1 (``selector=
    "facility_location"``, ``weights="cluster"``, ``warmup_epochs=0``) spends its budget on outliers and does not; the
    authors' public code (``partition="observed"``, ``embedding="head"``, ``train_mode=True``, ``partner="same_label"``,
    ``mixup_beta=0.1``, ``mixup_scope="batch"``, ``mixup_start_epoch=6``) is a third. See docs/architecture.md.

    Args:
        fraction: share of each class that is kept, ``k`` in the paper.
        selector: ``centrality`` (smallest mean distance) or ``facility_location`` (greedy k-medoids, eq. 10), which for
            classes of more than some 50,000 samples has the approximations ``stochastic_greedy`` and
            ``distributed_greedy``.
        partition: the classes to select in, ``predicted`` or ``observed``.
        embedding: gradient of the loss with respect to the ``logits``, ``p - y``, or to the input of the linear
            ``head``, ``(p - y) W``.
        train_mode: score in training mode, augmented, instead of in evaluation mode.
        bf16_scoring: score under autocast to bfloat16, whatever the trainer's precision.
        weights: ``uniform``, or ``cluster`` for cluster sizes (eq. 8) scaled to mean 1.
        partner: with which sample each one is mixed: one of its own ``cluster``, one of the whole training set with the
            ``same_label``, or ``none``. A sample that is its own partner trains unmixed.
        mixup_alpha: the coefficient of mixing is drawn from Beta(alpha, beta).
        mixup_beta: see ``mixup_alpha``.
        mixup_scope: one coefficient per ``pair`` or per ``batch``.
        mixup_start_epoch: first epoch that mixes.
        warmup_epochs: epochs on all samples before the first selection.
        head: name of the linear head, such as ``"net.fc"``; the last ``nn.Linear`` if not given.
        scoring_loader: see :class:`~noisylabels_pl.core.SelectionCallback`.
        criterion: see :class:`~noisylabels_pl.core.CriterionCallback`.
        seed: of partners and mixing coefficients.
    """

    needs = replace(
        SelectionCallback.needs,
        alternative="; or, without mixing and weights, Crust(partner='none', weights='uniform')",
    )

    def __init__(
        self,
        fraction: float = 0.5,
        *,
        selector: str = "centrality",
        partition: str = "predicted",
        embedding: str = "logits",
        train_mode: bool = False,
        bf16_scoring: bool = False,
        weights: str = "uniform",
        partner: str = "cluster",
        mixup_alpha: float = 1.0,
        mixup_beta: float = 1.0,
        mixup_scope: str = "pair",
        mixup_start_epoch: int = 0,
        warmup_epochs: int = 5,
        head: str | None = None,
        scoring_loader: DataLoader[Any] | None = None,
        criterion: str | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(
            warmup_epochs=warmup_epochs,
            scoring_loader=scoring_loader,
            train_mode=train_mode,
            bf16_scoring=bf16_scoring,
            criterion=criterion,
        )
        check_choice("selector", selector, SELECTORS)
        check_choice("partition", partition, ("predicted", "observed"))
        check_choice("embedding", embedding, ("logits", "head"))
        check_choice("weights", weights, ("uniform", "cluster"))
        check_choice("partner", partner, ("none", "cluster", "same_label"))
        check_choice("mixup_scope", mixup_scope, ("pair", "batch"))
        if not 0 < fraction <= 1:
            raise ValueError(f"fraction must lie in (0, 1], got {fraction}")
        if mixup_alpha <= 0 or mixup_beta <= 0:
            raise ValueError(f"mixup_alpha and mixup_beta must be positive, got {mixup_alpha} and {mixup_beta}")
        self.fraction = fraction
        self.selector = selector
        self.partition = partition
        self.embedding = embedding
        self.weights = weights
        self.partner = partner
        self.mixup_alpha = mixup_alpha
        self.mixup_beta = mixup_beta
        self.mixup_scope = mixup_scope
        self.mixup_start_epoch = mixup_start_epoch
        self.head = head
        self.seed = seed
        mixes = partner != "none"
        self.needs = replace(self.needs, criterion=mixes or weights != "uniform", mixes_samples=mixes)

    def select(self, module: L.LightningModule, scores: Scores, epoch: int) -> Selection:
        gradients = logit_gradient(scores.logits, scores.targets)
        if self.embedding == "head":
            gradients = gradients @ self._head_weight(module, gradients.device)
        classes = scores.logits.argmax(1) if self.partition == "predicted" else scores.targets
        members = [(classes == label).nonzero().squeeze(1) for label in torch.unique(classes)]
        members = [rows for rows in members if self._budget(rows)]
        if not members:
            raise ValueError(f"fraction={self.fraction} of {len(classes)} samples keeps none in any class; raise it")
        rng = np.random.default_rng([self.seed, epoch])
        generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
        coresets = self._coresets([gradients[rows] for rows in members], epoch)
        rows_of = list(zip(coresets, (rows.cpu() for rows in members), strict=True))
        chosen = torch.cat([rows[coreset.indices] for coreset, rows in rows_of])
        cluster_sizes = torch.cat([coreset.cluster_sizes for coreset in coresets]).float()
        weights = cluster_sizes / cluster_sizes.mean() if self.weights == "cluster" else None
        if self.partner == "none" or epoch < self.mixup_start_epoch:
            return Selection(chosen, weights)
        if self.partner == "same_label":
            partner = same_label_partners(chosen, scores.targets.cpu(), generator=generator)
        else:
            partner = torch.cat([rows[cluster_partners(coreset, generator=generator)] for coreset, rows in rows_of])
        lam = rng.beta(self.mixup_alpha, self.mixup_beta, size=len(chosen)) if self.mixup_scope == "pair" else None
        return Selection(chosen, weights, partner, None if lam is None else torch.from_numpy(lam).float())

    def _budget(self, rows: Tensor) -> int:
        return int(self.fraction * len(rows) + 1e-9)  # 0.29 * 100 is 28.999...

    def _coresets(self, classes: list[Tensor], epoch: int) -> list[Coreset]:
        """Of each class's gradients ``(n_c, d)``, on the CPU."""

        def task(i: int) -> Coreset:
            options = {}
            if "greedy" in self.selector:
                seed = np.random.default_rng([self.seed, epoch, i]).integers(2**62)
                options["generator"] = torch.Generator().manual_seed(int(seed))
            return SELECTORS[self.selector](classes[i], self._budget(classes[i]), **options).cpu()

        longest_first = sorted(range(len(classes)), key=lambda i: -len(classes[i]))
        # Distances to all points take all threads already; greedy's steps take one.
        by_steps = classes[0].device.type == "cpu" and self.selector != "centrality"
        threads = torch.get_num_threads() if by_steps else 1
        found = run_sharded([partial(task, i) for i in longest_first], threads)
        return [found[longest_first.index(i)] for i in range(len(classes))]

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        super().on_train_batch_start(trainer, pl_module, batch, batch_idx)
        if batch.partner is None:
            return
        lam = self.values_for("lam", batch)
        if lam is None:
            rng = np.random.default_rng([self.seed, trainer.current_epoch, batch_idx])
            lam = torch.full(batch.index.shape, rng.beta(self.mixup_alpha, self.mixup_beta), device=batch.index.device)
        self._lam = lam.masked_fill(batch.partner.index == batch.index, 1.0)
        if not isinstance(batch.x, Tensor) or not batch.x.is_floating_point():
            what = batch.x.dtype if isinstance(batch.x, Tensor) else type(batch.x).__name__
            raise TypeError(f"Crust mixes inputs, which must be one float tensor, got {what}; or use partner='none'")
        batch.x = mix(batch.x, batch.partner.x, self._lam)

    def adjust_losses(self, losses: Tensor, logits: Tensor, target: Tensor, batch: Batch) -> Tensor:
        if batch.partner is not None:
            losses = mix(losses, self.losses_for(logits, batch.partner.y), self._lam)
        return super().adjust_losses(losses, logits, target, batch)

    def _head_weight(self, module: L.LightningModule, device: torch.device) -> Tensor:
        if self.head is not None:
            head = dict(module.named_modules()).get(self.head)
        else:
            head = next((layer for layer in reversed([*module.modules()]) if isinstance(layer, nn.Linear)), None)
        if not isinstance(head, nn.Linear):
            raise TypeError(
                f"embedding='head' needs the linear layer that makes the logits, got {type(head).__name__}; "
                "name it: head='net.fc', or use embedding='logits'"
            )
        return head.weight.detach().float().to(device)
