"""A pass of the network over the whole training set, outside of training."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, NamedTuple

import lightning as L
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from noisylabels_pl.data.batch import Batch, IndexedDataset, rebuild_loader
from noisylabels_pl.data.sampler import Selection, SelectionSampler


class Scores(NamedTuple):
    """The network's outputs for all training samples.

    Attributes:
        logits: ``(n, C)``, float32.
        targets: ``(n, ...)``, the observed ones.
    """

    logits: Tensor
    targets: Tensor


def training_loader(trainer: L.Trainer) -> DataLoader[Any]:
    """Return the training loader of a running fit, which must come from :func:`noisylabels_pl.indexed`.

    Raises:
        TypeError: there are several training loaders, or the loader is not indexed.
    """
    loader = trainer.train_dataloader
    if not isinstance(loader, DataLoader) or not isinstance(loader.dataset, IndexedDataset):
        raise TypeError(
            f"the training loader is a {type(loader).__name__} without sample positions; "
            "pass one loader, wrapped: trainer.fit(module, noisylabels_pl.indexed(train_loader))"
        )
    return loader


def score(
    trainer: L.Trainer,
    module: nn.Module,
    loader: DataLoader[Any],
    *,
    rows: Tensor | None = None,
    train_mode: bool = False,
    bf16: bool = False,
) -> Scores:
    """Return the logits and observed targets of the samples of a loader's dataset, in its order, on every rank.

    The pass leaves no trace in training: it restores the modes of all submodules and the random state. In
    ``train_mode``, batch normalization uses batch statistics and updates its running ones, and a
    :class:`~noisylabels_pl.data.NoisyDataModule` augments, as the public code of CRUST does.

    Args:
        trainer: inside ``fit``, or after it.
        module: the LightningModule or a part of it; ``module(x)`` must return ``(B, C)`` logits or log-probabilities.
        loader: an indexed loader; its sampler is not used.
        rows: positions of the samples to score; all if not given. The logits and targets of other samples are 0.
        train_mode: run the network as it is in training, instead of in evaluation mode.
        bf16: run it under autocast to bfloat16, whatever the trainer's precision.

    Raises:
        TypeError: the loader has no positions, or the module does not return ``(B, C)``.
    """
    dataset = loader.dataset
    if not isinstance(dataset, IndexedDataset):
        raise TypeError("the scoring loader has no sample positions; wrap it: noisylabels_pl.indexed(loader)")
    sampler = SelectionSampler(dataset, shuffle=False, pad=False)
    sampler.selection = None if rows is None else Selection(rows)
    batches = _with_progress(trainer, rebuild_loader(loader, dataset, sampler, drop_last=False))
    device = trainer.strategy.root_device
    cuda_devices = [device] if device.type == "cuda" else []
    logits = None
    targets = None
    with (
        torch.random.fork_rng(devices=cuda_devices),
        torch.no_grad(),
        scoring_pass(trainer, module, train_mode, bf16),
        _on_device(module, device),
    ):
        for batch in batches:
            batch = trainer.strategy.batch_to_device(batch)
            output = _checked_output(module, batch)
            if logits is None or targets is None:
                logits = output.new_zeros((len(dataset), output.shape[1]), dtype=torch.float32)
                targets = batch.y.new_zeros((len(dataset), *batch.y.shape[1:]))
            logits[batch.index] = output.to(logits.dtype)
            targets[batch.index] = batch.y
    # Each rank has scored some samples, and holds zeros for the others.
    logits = trainer.strategy.reduce(logits, reduce_op="sum")
    targets = trainer.strategy.reduce(targets, reduce_op="sum")
    scores = Scores(logits, targets)
    # Apple's GPUs have no float64, in which distances are summed.
    return Scores(scores.logits.cpu(), scores.targets.cpu()) if device.type == "mps" else scores


@contextmanager
def scoring_pass(trainer: L.Trainer, module: nn.Module, train_mode: bool, bf16: bool) -> Iterator[None]:
    """Put the network into evaluation mode, unless ``train_mode``, and into the precision of the pass, for a block.

    Args:
        trainer: sets the precision and the device.
        module: its modes are restored after the block.
        train_mode: whether to leave the modes as they are.
        bf16: whether to run under autocast to bfloat16 instead of in the trainer's precision.
    """
    device_type = trainer.strategy.root_device.type
    autocast: AbstractContextManager[Any] = torch.autocast(device_type, torch.bfloat16) if bf16 else nullcontext()
    modes = {} if train_mode else {submodule: submodule.training for submodule in module.modules()}
    with trainer.precision_plugin.forward_context(), autocast:
        if not train_mode:
            module.eval()
        try:
            yield
        finally:
            for submodule, mode in modes.items():
                submodule.training = mode


@contextmanager
def _on_device(module: nn.Module, device: torch.device) -> Iterator[None]:
    """Move the module for a block: after a fit it is on the CPU."""
    previous_device = next((parameter.device for parameter in module.parameters()), device)
    module.to(device)
    try:
        yield
    finally:
        module.to(previous_device)


def _checked_output(module: nn.Module, batch: Any) -> Tensor:
    """Return the module's ``(B, C)`` output for a batch, or raise."""
    if not isinstance(batch, Batch):
        raise TypeError(
            f"a batch transfer hook returned {type(batch).__name__} and lost the sample positions; "
            "set batch.x in place and return batch"
        )
    output = module(batch.x)
    if not isinstance(output, Tensor) or output.ndim != 2:
        returned = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
        raise TypeError(f"forward(x) must return (B, C) logits to be scored, got {returned}")
    return output


def _with_progress(trainer: L.Trainer, loader: DataLoader[Any]) -> Iterable[Any]:
    """Show the loader in the progress bar if that is :class:`noisylabels_pl.callbacks.ProgressBar`."""
    track = getattr(trainer.progress_bar_callback, "track", None)
    return loader if track is None else track(loader, "Scoring")
