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
            PRL does; that of Co-teaching takes those of the first pass.
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
        reforward: bool = False,
        scope: str = "rank",
        **parts: Any,
    ) -> None:
        super().__init__(*args, **parts)
        check_choice("score", score, ("loss_layer", "loss"))
        self.filter = Filter(forget_rate, ramp_epochs, schedule, scope, reforward)
        self.score = score
        self.reforward = reforward
        self.depends_on_batch = scope == "rank"

    def losses(self, batch: Batch) -> tuple[Tensor, Tensor]:
        (x, y), nets = batch, (self.net.first, self.net.second)
        with torch.set_grad_enabled(not self.reforward):
            outputs = [net(x) for net in nets]
        chosen = [self.filter.keep(self._scores(output.detach(), y), self.current_epoch) for output in outputs]
        peers = chosen[::-1]
        batch.kept = tuple(kept for kept, _ in peers)
        first, second = (
            self.criterion(net(x[kept]), y[kept])
            if self.reforward
            else masked(per_sample(self.criterion, output, y), kept, share).mean()
            for net, output, (kept, share) in zip(nets, outputs, peers, strict=True)
        )
        return first, second

    def _scores(self, output: Tensor, target: Tensor) -> Tensor:
        if self.score == "loss":
            return per_sample(self.criterion, output, target)
        return loss_layer_gradient_norm(output, target, "ce" if self.task.metric == "acc" else "mse")
