"""Co-teaching (Han et al., NeurIPS 2018)."""

from __future__ import annotations

from torch import Tensor

from noisylabels_pl.core import FilterTwin, per_sample_losses


class CoTeaching(FilterTwin):
    """Co-teaching: each network trains on the samples of a batch with the smallest losses of its peer.

    Args:
        *args: see :class:`~noisylabels_pl.core.FilterTwin`.
        **options: see :class:`~noisylabels_pl.core.FilterTwin`.
    """

    def scores(self, output: Tensor, target: Tensor) -> Tensor:
        return per_sample_losses(self.criterion, output, target)
