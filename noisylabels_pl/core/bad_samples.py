"""Naming the training samples that would make all weights NaN."""

from __future__ import annotations

from typing import Any

import torch
from lightning_utilities.core.apply_func import apply_to_collection
from torch import Tensor

from noisylabels_pl.data import Batch

READ_EVERY_N_STEPS = 50
LARGEST_NUMBER = 1e18  # the square of a larger one is infinite in float32; files mark missing numbers by such values
_MOST_NAMED = 5


class BadSamples:
    """Raises an error that names the samples whose inputs or targets are not finite, once their loss is not either.

    On the CPU it raises before the backward pass, so the weights stay as they are. Each question to a GPU would make
    the step wait, so there it raises within 50 steps, and at the end of the epoch at the latest.

    Example:
        >>> bad_samples = BadSamples()
        >>> inputs = torch.tensor([[1.0], [float("nan")]])
        >>> bad_samples.add(torch.tensor([False, True]), inputs, index=torch.tensor([4, 7]))
        Traceback (most recent call last):
        ...
        ValueError: the loss is not finite, because inputs or targets of training sample 7 are not, or are larger than \
1e+18; mend the data or leave the sample out
    """

    def __init__(self) -> None:
        self._unread: list[tuple[Tensor, Tensor, str]] = []  # masks of bad samples, positions, and remedies

    def add(self, is_suspect: Tensor, batch: Any, *, index: Tensor, remedy: str = "") -> None:
        """Note the suspects of a batch whose inputs or targets are not finite.

        Args:
            is_suspect: ``(B,)`` bool, the samples whose losses are not finite; or ``()``, for the loss of all.
            batch: any collection of tensors.
            index: ``(B,)`` positions in the training set; empty if they are not known.
            remedy: added to the message.

        Raises:
            ValueError: there is such a sample; on a GPU, perhaps in an earlier batch.
        """
        waits_for_device = reading_waits(is_suspect.device)
        if not waits_for_device and not is_suspect.any():
            return
        for is_bad in _bad_rows(batch):
            if is_suspect.ndim == 0 or len(is_suspect) == len(is_bad):
                self._unread.append((is_suspect & is_bad, index, remedy))
        if not waits_for_device or len(self._unread) >= READ_EVERY_N_STEPS:
            self.read()

    def add_dropped(self, is_dropped: Tensor, outputs: Tensor, batch: Any, *, index: Tensor, remedy: str) -> None:
        """Note the dropped samples that a loss of 0 does not keep out of the weights' gradients.

        Where activations are not finite, the gradient of a weight is NaN, also after a gradient of 0: ``0 * inf``.

        Args:
            is_dropped: ``(B,)`` bool.
            outputs: ``(B, ...)`` of the network.
            batch: see :meth:`add`.
            index: see :meth:`add`.
            remedy: see :meth:`add`.
        """
        is_finite = outputs.detach().reshape(len(outputs), -1).isfinite().all(1)
        self.add(is_dropped & ~is_finite, batch, index=index, remedy=remedy)

    def read(self) -> None:
        """Wait for the device, and raise if a sample was noted.

        Raises:
            ValueError: a sample was noted.
        """
        unread, self._unread = self._unread, []
        if not unread or not torch.stack([is_bad.any() for is_bad, _, _ in unread]).any():
            return
        for is_bad, index, remedy in unread:
            if is_bad.any():
                raise ValueError(_message(is_bad, index, remedy))

    def forget(self) -> None:
        """Forget all notes."""
        self._unread = []


def reading_waits(device: torch.device) -> bool:
    """Return True if reading a value of a tensor waits for the device to finish its work.

    Example:
        >>> reading_waits(torch.device("cpu")), reading_waits(torch.device("cuda"))
        (False, True)
    """
    return device.type != "cpu"


def listed(kind: str, numbers: Tensor) -> str:
    """Return the first few numbers of things in words.

    Example:
        >>> listed("sample", torch.tensor([3])), listed("sample", torch.arange(7))
        ('sample 3', 'samples 0, 1, 2, 3, 4 and 2 more')
    """
    named = ", ".join(map(str, numbers[:_MOST_NAMED].tolist()))
    if len(numbers) > _MOST_NAMED:
        named += f" and {len(numbers) - _MOST_NAMED} more"
    return f"{kind} {named}" if len(numbers) == 1 else f"{kind}s {named}"


def _bad_rows(batch: Any) -> list[Tensor]:
    """Return the rows ``(B,)`` of each floating-point tensor of a batch that hold an unusable number, as masks."""
    masks: list[Tensor] = []

    def add_mask(values: Tensor) -> Tensor:
        if values.is_floating_point() and values.ndim and values.numel():
            lowest, highest = values.detach().reshape(len(values), -1).aminmax(dim=1)  # of NaN, both are NaN
            is_usable = (lowest >= -LARGEST_NUMBER) & (highest <= LARGEST_NUMBER)
            masks.append(~is_usable)
        return values

    apply_to_collection((batch.x, batch.y) if isinstance(batch, Batch) else batch, Tensor, add_mask)
    return masks


def _message(is_bad: Tensor, index: Tensor, remedy: str) -> str:
    rows = is_bad.nonzero().squeeze(1)
    if len(index) == len(is_bad):
        kind, numbers = "training sample", index[rows].sort().values
    else:
        kind, numbers = "row", rows
        remedy = f" (noisylabels_pl.indexed(loader) tells its position in the training set){remedy}"
    return (
        f"the loss is not finite, because inputs or targets of {listed(kind, numbers)} are not, or are larger than "
        f"{LARGEST_NUMBER}; mend the data or leave the sample out{remedy}"
    )
