"""A pass of the network over the whole training set, outside of training."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any, NamedTuple

import lightning as L
import torch
from lightning.pytorch.trainer.states import RunningStage
from torch import Tensor, nn
from torch.utils.data import DataLoader

from noisylabels_pl.core.loss_recorder import LossRecorder
from noisylabels_pl.data import Batch, IndexedLoader, Positions, Selection, SelectionSampler


class Scores(NamedTuple):
    """The network's outputs for all training samples.

    Attributes:
        logits: ``(n, C)``, float32.
        targets: ``(n, ...)``, the observed ones.
    """

    logits: Tensor
    targets: Tensor


def training_loader(trainer: L.Trainer) -> IndexedLoader:
    """Return the training loader of a running fit, which must come from :func:`noisylabels_pl.indexed`.

    Raises:
        TypeError: there are several training loaders, or the loader is not indexed.
    """
    loader = trainer.train_dataloader
    if not isinstance(loader, IndexedLoader):
        raise TypeError(
            f"the training loader is a {type(loader).__name__} without sample positions; "
            "pass one loader, wrapped: trainer.fit(module, noisylabels_pl.indexed(train_loader))"
        )
    return loader


def positions_of(trainer: L.Trainer, batch: Any, batch_idx: int, *, required: bool) -> Batch | Positions:
    """Return the positions of a training batch, which may be the batch itself.

    Args:
        trainer: in a fit.
        batch: as the training step gets it.
        batch_idx: its number in the epoch.
        required: whether to raise where there are none.

    Raises:
        TypeError: positions are required, and the training loader has none.
    """
    if isinstance(batch, Batch):
        return batch
    loader = trainer.train_dataloader
    if isinstance(loader, IndexedLoader) and not loader.as_batches:
        return loader.positions((trainer.current_epoch, batch_idx), trainer.strategy.root_device)
    if required:
        training_loader(trainer)  # raises where the loader is not indexed
        raise TypeError(
            f"a training batch is a {type(batch).__name__} without sample positions; let batch transfer hooks set "
            "batch.x in place and return batch"
        )
    return Positions(torch.empty(0, dtype=torch.int64))


def score(
    trainer: L.Trainer,
    module: nn.Module,
    loader: DataLoader[Any],
    *,
    train_mode: bool = False,
    bf16: bool = False,
) -> Scores:
    """Return the outputs of ``module(x)`` and the observed targets of a loader's samples, in order, on every rank.

    The pass leaves no trace in training: it restores the modes of all submodules and the random state. In
    ``train_mode``, batch normalization uses batch statistics and updates its running ones, and a
    :class:`~noisylabels_pl.data.NoisyDataModule` augments, as the public code of CRUST does.

    Args:
        trainer: inside ``fit``, or after it.
        module: the LightningModule or a part of it; ``module(x)`` must return ``(B, C)`` logits or log-probabilities.
        loader: an indexed loader of ``(x, y)``; its sampler is not used.
        train_mode: run the network as it is in training, instead of in evaluation mode.
        bf16: run it under autocast to bfloat16, whatever the trainer's precision.

    Raises:
        TypeError: the loader has no positions, or the module does not return ``(B, C)``.
    """
    with scoring_pass(trainer, module, train_mode, bf16), _on_device(trainer, module):
        return _collect(trainer, loader, partial(_output_and_target, module))


def measured_samples(num_samples: int, max_samples: int) -> Tensor:
    """Return the positions of the samples to measure where all would take too long: always the same random ones.

    Args:
        num_samples: of the training set.
        max_samples: to measure.

    Returns:
        ``(min(num_samples, max_samples),)`` int64, ascending.

    Example:
        >>> measured_samples(3, 5000)
        tensor([0, 1, 2])
    """
    shuffled = torch.randperm(num_samples, generator=torch.Generator().manual_seed(0))
    return shuffled[:max_samples].sort().values


def score_batches(
    trainer: L.Trainer,
    module: nn.Module,
    loader: DataLoader[Any],
    consume: Callable[[Tensor, Tensor, Tensor], None],
    *,
    rows: Tensor | None = None,
    recorder: LossRecorder | None = None,
) -> None:
    """Hand the outputs of ``module(x)`` to a function batch by batch, in evaluation mode, without keeping them.

    Each rank scores its part of the samples, each sample once. Like :func:`score`, the pass leaves no trace.

    Args:
        trainer: inside ``fit``, or after it.
        module: as for :func:`score`.
        loader: as for :func:`score`.
        consume: is called with the positions ``(B,)``, logits ``(B, C)`` and observed targets ``(B, ...)`` of a batch,
            all on the training device.
        rows: positions of the samples to score; all if not given.
        recorder: of the module in training: hand over what its loss is given, instead of the outputs of ``module(x)``,
            as :func:`score_losses` does.

    Raises:
        TypeError: the loader has no positions, or the module does not return ``(B, C)``.
    """
    outputs_of = partial(_output_and_target, module) if recorder is None else partial(_loss_arguments, recorder)
    block: AbstractContextManager[Any] = nullcontext() if recorder is None else recorder
    with scoring_pass(trainer, module, train_mode=False, bf16=False), _on_device(trainer, module), block:
        for index, output, target in _scored(trainer, loader, outputs_of, rows):
            consume(index, output, target)


def score_losses(
    trainer: L.Trainer,
    recorder: LossRecorder,
    loader: DataLoader[Any],
    *,
    train_mode: bool = False,
    bf16: bool = False,
    max_batches: int | None = None,
) -> Scores:
    """Return the logits and targets that the training step's loss is given, in the dataset's order, on every rank.

    The module's own ``training_step`` runs up to its loss, without gradients. So the scores are by construction
    those of what is trained, whatever the batch, the model and the step look like.

    Args:
        trainer: inside ``fit``.
        recorder: of the module in training.
        loader: an indexed loader; its sampler is not used.
        train_mode: run the step in training mode, instead of in evaluation mode.
        bf16: run it under autocast to bfloat16, whatever the trainer's precision.
        max_batches: stop after so many; the scores of other samples are 0.

    Raises:
        TypeError: the loader has no positions, or the step computes no loss of these kinds.
    """
    with scoring_pass(trainer, recorder.module, train_mode, bf16), recorder:
        return _collect(trainer, loader, partial(_loss_arguments, recorder), max_batches)


def _loss_arguments(recorder: LossRecorder, batch: Any, batch_idx: int) -> tuple[Tensor, Tensor]:
    """Return the logits and targets that the training step's loss is given for a batch."""
    call = recorder.record(batch, batch_idx)
    return call.logits, call.target


def _output_and_target(module: nn.Module, batch: Any, batch_idx: int) -> tuple[Tensor, Tensor]:
    """Return the logits and observed targets of a batch ``(x, y)``."""
    x, y = batch
    output = module(x)
    if not isinstance(output, Tensor) or output.ndim != 2:
        returned = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
        raise TypeError(f"forward(x) must return (B, C) logits to be scored, got {returned}")
    return output, y


def _collect(
    trainer: L.Trainer,
    loader: DataLoader[Any],
    outputs_of: Callable[[Any, int], tuple[Tensor, Tensor]],
    max_batches: int | None = None,
) -> Scores:
    """Collect logits and targets of a loader's samples by position, from all ranks."""
    logits = None
    targets = None
    for index, output, target in _scored(trainer, loader, outputs_of, max_batches=max_batches):
        if logits is None or targets is None:
            num_samples = len(loader.dataset)  # type: ignore[arg-type]
            logits = output.new_zeros((num_samples, output.shape[1]), dtype=torch.float32)
            targets = target.new_zeros((num_samples, *target.shape[1:]))
        logits[index] = output.to(logits.dtype)
        targets[index] = target
    # Each rank has scored some samples, and holds zeros for the others.
    logits = trainer.strategy.reduce(logits, reduce_op="sum")
    targets = trainer.strategy.reduce(targets, reduce_op="sum")
    # Apple's GPUs have no float64, in which distances are summed.
    is_on_mps = trainer.strategy.root_device.type == "mps"
    return Scores(logits.cpu(), targets.cpu()) if is_on_mps else Scores(logits, targets)


def _scored(
    trainer: L.Trainer,
    loader: DataLoader[Any],
    outputs_of: Callable[[Any, int], tuple[Tensor, Tensor]],
    rows: Tensor | None = None,
    max_batches: int | None = None,
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Yield the positions, outputs and targets of each batch of this rank; read it to its end, without gradients."""
    if not isinstance(loader, IndexedLoader):
        raise TypeError("the scoring loader has no sample positions; wrap it: noisylabels_pl.indexed(loader)")
    sampler = SelectionSampler(loader.dataset, shuffle=False, pad=False)
    if rows is None:  # a selection even of all samples: none may be alone in a batch of a pass in training mode
        rows = torch.arange(len(loader.dataset))  # type: ignore[arg-type]
    sampler.selection = Selection(rows)
    device = trainer.strategy.root_device
    cuda_devices = [device] if device.type == "cuda" else []
    num_batches = -(-len(sampler) // (loader.batch_size or 1))
    with torch.random.fork_rng(devices=cuda_devices), torch.no_grad():
        batches = _with_progress(trainer, loader.read_all(sampler), num_batches)
        for batch_idx, (batch, positions) in enumerate(batches):
            if batch_idx == max_batches:
                break
            output, target = outputs_of(transferred(trainer, batch), batch_idx)
            yield positions.index.to(output.device), output, target


def transferred(trainer: L.Trainer, batch: Any) -> Any:
    """Bring a batch to the device as Lightning does in training."""
    had_positions = isinstance(batch, Batch)
    batch = trainer.precision_plugin.convert_input(batch)
    batch = trainer.strategy.batch_to_device(batch)
    if had_positions and not isinstance(batch, Batch):
        raise TypeError(
            f"a batch transfer hook returned {type(batch).__name__} and lost the sample positions; "
            "set batch.x in place and return batch"
        )
    return batch


@contextmanager
def scoring_pass(trainer: L.Trainer, module: nn.Module, train_mode: bool, bf16: bool) -> Iterator[None]:
    """Put the network into evaluation mode, unless ``train_mode``, and into the precision of the pass, for a block.

    In evaluation mode the Trainer validates, so that a transfer hook that asks ``self.trainer.training`` before it
    augments does not.

    Args:
        trainer: sets the precision and the device.
        module: its modes are restored after the block.
        train_mode: whether to leave the modes as they are.
        bf16: whether to run under autocast to bfloat16 instead of in the trainer's precision.
    """
    device_type = trainer.strategy.root_device.type
    autocast: AbstractContextManager[Any] = torch.autocast(device_type, torch.bfloat16) if bf16 else nullcontext()
    modes = {} if train_mode else {submodule: submodule.training for submodule in module.modules()}
    stage = trainer.state.stage
    with trainer.precision_plugin.forward_context(), autocast:
        if not train_mode:
            module.eval()
            trainer.state.stage = RunningStage.VALIDATING
        try:
            yield
        finally:
            trainer.state.stage = stage
            for submodule, mode in modes.items():
                submodule.training = mode


@contextmanager
def _on_device(trainer: L.Trainer, module: nn.Module) -> Iterator[None]:
    """Move the module to the training device for a block: after a fit it is on the CPU."""
    device = trainer.strategy.root_device
    previous_device = next((parameter.device for parameter in module.parameters()), device)
    module.to(device)
    try:
        yield
    finally:
        module.to(previous_device)


def _with_progress(trainer: L.Trainer, batches: Iterable[Any], num_batches: int) -> Iterable[Any]:
    """Show the batches in the progress bar if that is :class:`noisylabels_pl.callbacks.ProgressBar`."""
    track = getattr(trainer.progress_bar_callback, "track", None)
    return batches if track is None else track(batches, "Scoring", num_batches)
