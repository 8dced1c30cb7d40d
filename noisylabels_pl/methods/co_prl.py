"""Two networks that choose each other's samples: Co-teaching (Han et al., NeurIPS 2018) and Co-PRL(L)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from noisylabels_pl.core import Filter, TwinModule, masked, per_sample
from noisylabels_pl.data import Batch
from noisylabels_pl.functional import check_choice, loss_layer_gradient_norm


class CoPRL(TwinModule):
    """Each network trains on the samples of a batch that its peer finds easy.

    Args:
        *args: see :class:`~noisylabels_pl.core.TwinModule`.
        forget_rate: share of each batch that is dropped after the ramp, in ``[0, 1]``; the papers' ``tau``, and there
            the true rate of corruption. At least one sample stays.
        score: ``loss_layer`` (Co-PRL(L), Algorithm 4) drops the largest gradients of cross-entropy, or the squared
            error, at the network's output; ``loss`` (Co-teaching) the largest losses.
        ramp_epochs: epochs in which the share rises, the papers' ``T_k``; 0 for no ramp.
        schedule: of the ramp, see :func:`~noisylabels_pl.functional.forget_rate_at`.
        reforward: train on the outputs of a second forward pass, of the chosen samples alone, as the public code of
            PRL does; that of Co-teaching takes those of the first pass. ``"auto"`` does so in epochs that drop more
            than a third of the samples, where it is faster, with at least two left.
        train_mode: run the pass that scores in training mode instead of in evaluation mode, where a second one follows.
        bf16_scoring: run that pass under autocast to bfloat16, whatever the trainer's precision.
        scope: under DDP the largest scores are those of each process's part of the batch (``rank``), or of the whole
            batch (``global``), which equals a single process.
        **parts: see :class:`~noisylabels_pl.core.TwinModule`.

    Raises:
        ValueError: a number is out of range, an option unknown, or options do not go together.
    """

    tasks = ("classification", "regression")

    def __init__(
        self,
        *args: Any,
        forget_rate: float,
        score: str = "loss_layer",
        ramp_epochs: int = 10,
        schedule: str = "paper",
        reforward: bool | str = "auto",
        train_mode: bool = True,
        bf16_scoring: bool = False,
        scope: str = "rank",
        **parts: Any,
    ) -> None:
        super().__init__(*args, **parts)
        check_choice("score", score, ("loss_layer", "loss"))
        self.filter = Filter(forget_rate, ramp_epochs, schedule, scope, reforward, train_mode, bf16_scoring)
        self.score = score
        self.depends_on_batch = scope == "rank"

    def losses(self, batch: Batch) -> tuple[Tensor, Tensor]:
        if self.filter.reforwards(self.current_epoch, len(batch.index)):
            return self._of_second_pass(batch)
        outputs = [net(batch.x) for net in (self.net.first, self.net.second)]
        chosen = [self.filter.keep(self._scores(output.detach(), batch.y), self.current_epoch) for output in outputs]
        peers = chosen[::-1]
        batch.kept = tuple(kept for kept, _ in peers)
        first, second = (
            masked(per_sample(self.criterion, output, batch.y), kept, share).mean()
            for output, (kept, share) in zip(outputs, peers, strict=True)
        )
        return first, second

    def _of_second_pass(self, batch: Batch) -> tuple[Tensor, Tensor]:
        (x, y), nets = batch, (self.net.first, self.net.second)
        with torch.no_grad(), self.filter.scoring_pass(self.trainer, self.net):
            scores = [self._scores(net(x), y) for net in nets]
        peers = [self.filter.smallest(score, self.current_epoch) for score in scores[::-1]]
        none = torch.zeros_like(batch.index, dtype=torch.bool)
        batch.kept = tuple(none.index_fill(0, kept, True) for kept in peers)
        first, second = (self.criterion(net(x[kept]), y[kept]) for net, kept in zip(nets, peers, strict=True))
        return first, second

    def _scores(self, output: Tensor, target: Tensor) -> Tensor:
        if self.score == "loss":
            return per_sample(self.criterion, output, target)
        return loss_layer_gradient_norm(output, target, "ce" if self.task.metric == "acc" else "mse")
