"""The statement of a callback about itself: its role and its needs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from noisylabels_pl.core.loss_call import LossKind
from noisylabels_pl.core.task import TaskName
from noisylabels_pl.functional import check_choice

Role = Literal["loss", "mixing", "weights", "samples"]
ROLE_ORDER: tuple[Role, ...] = get_args(Role)
ROLE_MEANING: dict[Role, str] = {
    "loss": "replace the loss of each sample",
    "mixing": "mix samples",
    "weights": "weight the samples of a batch",
    "samples": "choose the samples of an epoch",
}


@dataclass(frozen=True)
class Needs:
    """The effect of a :class:`~noisylabels_pl.core.CriterionCallback` on the losses, and its needs.

    Attributes:
        role: ``loss`` replaces the loss of each sample, ``mixing`` mixes samples, ``weights`` weights the samples of a
            batch, ``samples`` chooses the samples of an epoch. Callbacks on one criterion act in this order, and no two
            may have the same role.
        tasks: the tasks that it is for.
        kinds: the kinds of losses that it can change, see :class:`~noisylabels_pl.core.loss_call.LossCall`.
        criterion: whether it changes losses at all; if not, no criterion is looked for.
        positions: whether it reads ``batch.index``, for which the training loader must be ``indexed``.
        gradient_norms: whether it asks for per-sample gradient norms
            (:class:`~noisylabels_pl.core.GradientCallback`).
        separate_samples: whether it judges each sample, and so cannot work beside a callback that mixes samples.
        mixes_samples: whether it mixes samples, and asks for the losses of other targets
            (:meth:`~noisylabels_pl.core.CriterionCallback.losses_for`).
        depends_on_batch: whether splitting a batch across ranks changes the result, as a top-k per rank does.
        alternative: options that do without a criterion, for the message that there is none.
    """

    role: Role = "loss"
    tasks: tuple[TaskName, ...] = ("classification",)
    kinds: tuple[LossKind, ...] = ("classes", "binary")
    criterion: bool = True
    positions: bool = True
    gradient_norms: bool = False
    separate_samples: bool = False
    mixes_samples: bool = False
    depends_on_batch: bool = False
    alternative: str = ""

    def __post_init__(self) -> None:
        check_choice("role", self.role, Role)
