"""CRUST: coresets for robust training against noisy labels (Mirzasoleiman, Cao and Leskovec, NeurIPS 2020)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, Literal

import lightning as L
import numpy as np
import torch
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor, nn
from torch.utils.data import DataLoader

from noisylabels_pl.core import Scores, SelectionCallback, find_head, run_sharded
from noisylabels_pl.core.bad_samples import listed
from noisylabels_pl.core.scoring import training_loader, transferred
from noisylabels_pl.data import Batch, IndexedLoader, Positions, Selection, SelectionSampler
from noisylabels_pl.data.batch import mix_samples, mixable_tensors
from noisylabels_pl.functional import (
    Coreset,
    centrality,
    check_choice,
    check_range,
    cluster_partners,
    distributed_greedy,
    facility_location,
    logit_gradient,
    mix,
    same_label_partners,
    stochastic_greedy,
)

Selector = Literal["centrality", "facility_location", "stochastic_greedy", "distributed_greedy"]
Partition = Literal["predicted", "observed"]
Embedding = Literal["logits", "head"]
Weights = Literal["uniform", "cluster", "class"]
Partner = Literal["none", "cluster", "same_label"]
MixupScope = Literal["pair", "batch"]

_SELECTORS: dict[Selector, Callable[..., Coreset]] = {
    "centrality": centrality,
    "facility_location": facility_location,
    "stochastic_greedy": stochastic_greedy,
    "distributed_greedy": distributed_greedy,
}
_RANDOM_SELECTORS = ("stochastic_greedy", "distributed_greedy")


class Crust(SelectionCallback):
    r"""Trains each epoch on a coreset: in each class, the samples that are central in gradient space.

    `Coresets for Robust Training of Neural Networks against Noisy Labels <https://arxiv.org/abs/2011.07451>`_. Samples
    with right labels have similar gradients, so a sample far from the others of its class probably has a wrong label.
    A class with :math:`n_c` samples keeps :math:`k = \lfloor \text{fraction} \cdot n_c \rfloor` of them. The paper
    keeps the medoids (eq. 6), found greedily:

    .. math::
        S^* = \arg\min_{|S| \le k} \sum_i \min_{j \in S} \lVert g_i - g_j \rVert, \qquad g_i = p_i - y_i

    Each kept sample is mixed with a partner (eq. 11). The defaults are this library's variant, which filters wrong
    labels. Two other variants have configurations of their own:

    - ``crust_paper``, Algorithm 1 of the paper: ``selector="facility_location"``, ``weights="cluster"``,
      ``warmup_epochs=0``. It spends its budget on outliers and does not filter wrong labels.
    - ``crust_released``, the authors' public code: ``partition="observed"``, ``embedding="head"``, ``train_mode=True``,
      ``weights="class"``, ``partner="same_label"``, ``mixup_beta=0.1``, ``mixup_scope="batch"``,
      ``mixup_start_epoch=6``.

    Args:
        fraction: fraction of each class to keep, in ``(0, 1]``.
        min_per_class: keep at least so many samples of each class, or all of a smaller one. With 0, the paper's, a
            class with fewer than ``1 / fraction`` samples keeps none and is not trained, which a warning says. That is
            the default because among so few samples a wrong label does not stand out.
        selector: ``"centrality"`` keeps the samples with the smallest mean distance to their class, and
            ``"facility_location"`` the greedy medoids (eq. 10). ``"stochastic_greedy"`` and ``"distributed_greedy"``
            approximate the latter for classes of more than about 50,000 samples.
        partition: the classes to select in: those that the network predicts (``"predicted"``) or the observed labels
            (``"observed"``).
        embedding: gradient of the loss with respect to the logits (``"logits"``), ``p - y``, or to the input of the
            linear head (``"head"``), ``(p - y) W``.
        train_mode: score the samples in training mode, with augmentation, instead of in evaluation mode.
        bf16_scoring: score the samples under autocast to bfloat16, whatever the trainer's precision.
        weights: weigh the losses of all kept samples alike (``"uniform"``), by the sizes of their clusters, scaled to
            mean 1 (``"cluster"``, eq. 8), or by the sizes of their classes, scaled to mean 1 in each batch
            (``"class"``).
        partner: mix each kept sample with a random other member of its cluster (``"cluster"``), with a sample of the
            whole training set that has the same label (``"same_label"``), or with none (``"none"``). A sample that is
            its own partner trains unmixed.
        mixup_alpha: positive; mixing coefficients are drawn from Beta(``mixup_alpha``, ``mixup_beta``).
        mixup_beta: positive; see ``mixup_alpha``.
        mixup_scope: draw one mixing coefficient for each ``"pair"`` or for each ``"batch"``.
        mixup_start_epoch: first epoch that mixes, counted from 0.
        warmup_epochs: epochs on all samples before the first selection.
        head: for ``embedding="head"``, the name of the linear head in the module, such as ``"net.fc"``; the last
            ``nn.Linear`` if not given.
        scoring_loader: see :class:`~noisylabels_pl.core.SelectionCallback`.
        criterion: see :class:`~noisylabels_pl.core.CriterionCallback`.
        seed: seed of selections, partners and mixing coefficients.

    Raises:
        ValueError: a number is out of range, or a choice unknown.

    Example:
        >>> import lightning as L
        >>> from noisylabels_pl import Crust
        >>> trainer = L.Trainer(max_epochs=60, callbacks=[Crust()], logger=False, enable_checkpointing=False)
    """

    needs = replace(
        SelectionCallback.needs,
        alternative="; or, without mixing and weights, Crust(partner='none', weights='uniform')",
    )

    def __init__(
        self,
        fraction: float = 0.5,
        *,
        min_per_class: int = 0,
        selector: Selector = "centrality",
        partition: Partition = "predicted",
        embedding: Embedding = "logits",
        train_mode: bool = False,
        bf16_scoring: bool = False,
        weights: Weights = "uniform",
        partner: Partner = "cluster",
        mixup_alpha: float = 1.0,
        mixup_beta: float = 1.0,
        mixup_scope: MixupScope = "pair",
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
        check_range("fraction", fraction, "(0, 1]")
        check_range("min_per_class", min_per_class, "[0, inf)", integer=True)
        check_choice("selector", selector, Selector)
        check_choice("partition", partition, Partition)
        check_choice("embedding", embedding, Embedding)
        check_choice("weights", weights, Weights)
        check_choice("partner", partner, Partner)
        check_range("mixup_alpha", mixup_alpha, "(0, inf)")
        check_range("mixup_beta", mixup_beta, "(0, inf)")
        check_choice("mixup_scope", mixup_scope, MixupScope)
        check_range("mixup_start_epoch", mixup_start_epoch, "[0, inf)", integer=True)
        check_range("seed", seed, "[0, inf)", integer=True)
        self.fraction = fraction
        self.min_per_class = int(min_per_class)
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
        self._mixing_coefficients: Tensor | None = None  # of this batch
        self._has_warned = False  # in this fit, of classes that keep no sample
        mixes_samples = partner != "none"
        changes_losses = mixes_samples or weights != "uniform"
        self.needs = replace(
            self.needs,
            criterion=changes_losses,
            mixes_samples=mixes_samples,
            depends_on_batch=weights == "class",
        )

    def select(self, module: L.LightningModule, scores: Scores, epoch: int) -> Selection:
        classes = self._classes(scores)
        coresets = self._coresets(module, scores, classes, epoch)
        classes = [members.cpu() for members in classes]
        indices = torch.cat([members[coreset.indices] for members, coreset in zip(classes, coresets, strict=True)])
        weights = self._sample_weights(coresets)
        if self.partner == "none" or epoch < self.mixup_start_epoch:
            return Selection(indices, weights)
        rng = np.random.default_rng([self.seed, epoch])
        generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
        if self.partner == "same_label":
            partners = same_label_partners(indices, scores.targets.cpu(), generator=generator)
        else:
            partners = _cluster_partners(classes, coresets, generator)
        coefficients = None
        if self.mixup_scope == "pair":
            draws = rng.beta(self.mixup_alpha, self.mixup_beta, size=len(indices))
            coefficients = torch.from_numpy(draws).float()
        return Selection(indices, weights, partners, coefficients, scores.targets.cpu()[partners])

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        super().setup(trainer, pl_module, stage)
        self._has_warned = False

    def check_budget(self, epochs: float, steps: float) -> list[str]:
        warnings = super().check_budget(epochs, steps)
        if self.partner != "none" and epochs <= self.mixup_start_epoch:
            warnings.append(f"nothing is mixed: mixup_start_epoch={self.mixup_start_epoch} is after {epochs} epochs")
        return warnings

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        super().on_train_start(trainer, pl_module)
        loader = training_loader(trainer)
        if self.partner != "none" and not loader.as_batches:
            self._check_inputs(trainer, loader)

    def _check_inputs(self, trainer: L.Trainer, loader: IndexedLoader) -> None:
        """Refuse batches without inputs that can be mixed, before the warm-up."""
        device = trainer.strategy.root_device
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            batch, positions = next(loader.read_all(SelectionSampler(loader.dataset, shuffle=False, pad=False)))
            batch = transferred(trainer, batch)  # a hook may make floating-point numbers of bytes
        if not any(len(values) == len(positions.index) for values in mixable_tensors(batch)):
            raise TypeError(
                f"Crust mixes inputs, but a batch ({type(batch).__name__}) has no floating-point tensor with one "
                "row a sample; use partner='none'"
            )

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        super().on_train_batch_start(trainer, pl_module, batch, batch_idx)
        self._mixing_coefficients = None
        positions = self._batch
        if positions is None or positions.partner is None:
            return
        coefficients = self.values_for("lam", positions)
        if coefficients is None:  # one for the batch
            rng = np.random.default_rng([self.seed, trainer.current_epoch, batch_idx])
            coefficient = rng.beta(self.mixup_alpha, self.mixup_beta)
            coefficients = torch.full(positions.index.shape, coefficient, device=positions.index.device)
        coefficients = coefficients.masked_fill(positions.partner.index == positions.index, 1.0)
        if isinstance(positions, Positions):
            self._replaced = mix_samples(batch, transferred(trainer, positions.partner_data), coefficients)
        else:
            _check_can_be_mixed(batch.x)
            batch.x = mix(batch.x, batch.partner.x, coefficients)
        self._mixing_coefficients = coefficients

    def adjust_losses(self, losses: Tensor, logits: Tensor, target: Tensor, batch: Batch | Positions) -> Tensor:
        partner_targets = self.values_for("partner_targets", batch)
        if self._mixing_coefficients is not None and partner_targets is not None:
            partner_losses = self.losses_for(logits, partner_targets)
            losses = mix(losses, partner_losses, self._mixing_coefficients)
        weights = self.values_for("weights", batch)
        if self.weights == "class" and weights is not None:
            losses = losses / weights.mean()
        return super().adjust_losses(losses, logits, target, batch)

    def _gradients(self, module: L.LightningModule, scores: Scores, members: Tensor) -> Tensor:
        """Return ``(n_c, d)``: the gradients that represent the members of a class."""
        gradients = logit_gradient(scores.logits[members], scores.targets[members])
        if self.embedding == "logits":
            return gradients
        head = _find_head(module, self.head)
        return gradients @ head.weight.detach().float().to(gradients.device)

    def _classes(self, scores: Scores) -> list[Tensor]:
        """Return for each class the positions ``(n_c,)`` of its members, without classes too small to keep a sample."""
        labels = scores.logits.argmax(1) if self.partition == "predicted" else scores.targets
        classes = []
        emptied = []
        for label in torch.unique(labels).tolist():
            members = (labels == label).nonzero().squeeze(1)
            if self._budget(len(members)) > 0:
                classes.append(members)
            else:
                emptied.append(label)
        if not classes:
            raise ValueError(f"fraction={self.fraction} of {len(labels)} samples keeps none in any class; raise it")
        if emptied and not self._has_warned:
            self._has_warned = True
            rank_zero_warn(
                f"Crust keeps no sample of {len(emptied)} of {len(emptied) + len(classes)} {self.partition} classes "
                f"({listed('label', torch.tensor(emptied))}), because fraction={self.fraction} of their samples is "
                "less than one; set min_per_class=1, or raise fraction"
            )
        return classes

    def _budget(self, class_size: int) -> int:
        """Return the number of samples to keep of a class."""
        budget = int(self.fraction * class_size + 1e-9)  # 0.29 * 100 is 28.999...
        return min(class_size, max(budget, self.min_per_class))

    def _coresets(self, module: L.LightningModule, scores: Scores, classes: list[Tensor], epoch: int) -> list[Coreset]:
        """Return the coreset of each class, on the CPU; processes and threads share the work, class by class."""
        numbers = range(len(classes))
        largest_first = sorted(numbers, key=lambda number: -len(classes[number]))
        # Results lie in memory that is allocated before. Small ones between large temporary tensors would leave gaps
        # that no tensor of the next class fits into: half a table with 1,000 classes.
        places = [torch.empty(3, len(members), dtype=torch.int64) for members in classes]

        def select_in_class(number: int) -> Coreset:
            # Made here, so that only the classes in work have gradients in memory, beside the one table of logits.
            gradients = self._gradients(module, scores, classes[number])
            return _moved_to(places[number], self._coreset(gradients, epoch, number))

        tasks = [partial(select_in_class, number) for number in largest_first]
        # Distances to all points take all threads already; greedy's steps take one.
        takes_one_thread = scores.logits.device.type == "cpu" and self.selector != "centrality"
        coresets = run_sharded(tasks, torch.get_num_threads() if takes_one_thread else 1)
        coreset_of = dict(zip(largest_first, coresets, strict=True))
        return [coreset_of[number] for number in numbers]

    def _coreset(self, gradients: Tensor, epoch: int, number: int) -> Coreset:
        """Return the coreset of the class with this number, on the CPU."""
        options: dict[str, Any] = {}
        if self.selector in _RANDOM_SELECTORS:
            seed = np.random.default_rng([self.seed, epoch, number]).integers(2**62)
            options["generator"] = torch.Generator().manual_seed(int(seed))
        return _SELECTORS[self.selector](gradients, self._budget(len(gradients)), **options).cpu()

    def _sample_weights(self, coresets: list[Coreset]) -> Tensor | None:
        """Return the weights ``(k,)`` of all kept samples, with mean 1, or ``None`` if they weigh alike."""
        if self.weights == "uniform":
            return None
        if self.weights == "cluster":
            sizes = torch.cat([coreset.cluster_sizes for coreset in coresets]).float()
        else:
            sizes = torch.cat([torch.full((len(c.indices),), float(len(c.assignment))) for c in coresets])
        return sizes / sizes.mean()


def _moved_to(place: Tensor, coreset: Coreset) -> Coreset:
    """Return the coreset with its tensors copied to a place ``(3, n)``."""
    k = len(coreset.indices)
    return replace(
        coreset,
        indices=place[0, :k].copy_(coreset.indices),
        assignment=place[1].copy_(coreset.assignment),
        cluster_sizes=place[2, :k].copy_(coreset.cluster_sizes),
    )


def _cluster_partners(classes: list[Tensor], coresets: list[Coreset], generator: torch.Generator) -> Tensor:
    """Return ``(k,)``: for each kept sample the position of its partner, a random other member of its cluster."""
    partners = []
    for members, coreset in zip(classes, coresets, strict=True):
        partners.append(members[cluster_partners(coreset, generator=generator)])
    return torch.cat(partners)


def _check_can_be_mixed(inputs: Any) -> None:
    """Raise ``TypeError`` unless the inputs are one floating-point tensor."""
    if isinstance(inputs, Tensor) and inputs.is_floating_point():
        return
    found = inputs.dtype if isinstance(inputs, Tensor) else type(inputs).__name__
    raise TypeError(f"Crust mixes inputs, which must be one float tensor, got {found}; or use partner='none'")


def _find_head(module: nn.Module, name: str | None) -> nn.Linear:
    """Return the named linear layer, or the last one."""
    head = find_head(module) if name is None else dict(module.named_modules()).get(name)
    if isinstance(head, nn.Linear):
        return head
    raise TypeError(
        f"embedding='head' needs the linear layer that makes the logits, got {type(head).__name__}; "
        "name it: head='net.fc', or use embedding='logits'"
    )
