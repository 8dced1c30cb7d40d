"""Learning rates for fine-tuning: a small one for a pretrained body, a larger one for its new head."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Literal

import torch
from torch import nn
from torch.optim import Optimizer

from noisylabels_pl.functional import check_choice, check_range

OptimizerName = Literal["SGD", "Adam", "AdamW"]


class FineTuning:
    """Makes an optimizer with one learning rate for the head of a network and a smaller one for the rest.

    The head is new, so it must move far; the body is pretrained, and large steps towards wrong labels would destroy it.
    A module of this library (:class:`Supervised`) names the heads: the last linear layer of each of its networks.
    Schedules multiply both learning rates alike.

    Args:
        optimizer: a class of ``torch.optim``.
        lr: the learning rate of the body.
        head_lr_factor: the head's learning rate is this multiple of ``lr``. With 1 all parameters have the same.
        **options: of the optimizer.

    Raises:
        ValueError: ``optimizer`` is unknown, or a number is out of range.

    Example:
        >>> net = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 2))
        >>> optimizer = FineTuning("SGD", lr=0.1, head_lr_factor=10.0)(net.parameters(), heads=[net[1]])
        >>> [(group["lr"], len(group["params"])) for group in optimizer.param_groups]
        [(0.1, 2), (1.0, 2)]
    """

    def __init__(
        self, optimizer: OptimizerName = "SGD", *, lr: float = 1e-3, head_lr_factor: float = 10.0, **options: Any
    ) -> None:
        check_choice("optimizer", optimizer, OptimizerName)
        check_range("lr", lr, "[0, inf)")
        check_range("head_lr_factor", head_lr_factor, "[0, inf)")
        self.optimizer_class: type[Optimizer] = getattr(torch.optim, optimizer)
        self.lr = lr
        self.head_lr_factor = head_lr_factor
        self.options = options

    def __call__(self, parameters: Iterable[nn.Parameter], heads: Sequence[nn.Module | None] = ()) -> Optimizer:
        """Return the optimizer.

        Args:
            parameters: all that are trained.
            heads: the modules whose parameters get the larger learning rate; ``None`` for a network without one.

        Raises:
            TypeError: a network has no head.
        """
        of_heads: set[int] = set()
        for head in heads:
            if head is None:
                raise TypeError("fine-tuning needs a network with a linear layer as head; take another optim= or net=")
            of_heads |= {id(parameter) for parameter in head.parameters()}
        groups: dict[bool, list[nn.Parameter]] = {False: [], True: []}
        for parameter in parameters:
            groups[id(parameter) in of_heads].append(parameter)
        rates = {False: self.lr, True: self.lr * self.head_lr_factor}
        return self.optimizer_class(
            [{"params": group, "lr": rates[is_head]} for is_head, group in groups.items() if group], **self.options
        )


def find_head(net: nn.Module) -> nn.Linear | None:
    """Return the head of a network: its last linear layer; ``None`` if it has none.

    Example:
        >>> find_head(nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2)))
        Linear(in_features=8, out_features=2, bias=True)
    """
    layers = [module for module in net.modules() if isinstance(module, nn.Linear)]
    return layers[-1] if layers else None
