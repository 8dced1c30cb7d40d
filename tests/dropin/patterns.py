"""Which method is expected to work with which pattern; the tests and the table in the documents follow it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import lightning as L
import torch

from noisylabels_pl import ELR, SOP, SPL, Crust, GCELoss, Mixup, PRLGradient, PRLLossLayer, RobustLoss, TruncatedGCE
from noisylabels_pl.core import CriterionCallback
from tests.dropin import modules

FORGET_RATE = 0.25

METHODS: dict[str, Callable[..., CriterionCallback]] = {
    "ELR": lambda **options: ELR(**options),
    "SOP": lambda **options: SOP(**options),
    "Crust": lambda **options: Crust(warmup_epochs=1, **options),
    "Crust without mixing": lambda **options: Crust(warmup_epochs=1, partner="none", **options),
    "PRLLossLayer": lambda **options: PRLLossLayer(FORGET_RATE, **options),
    "PRLGradient": lambda **options: PRLGradient(FORGET_RATE, **options),
    "SPL": lambda **options: SPL(FORGET_RATE, **options),
    "TruncatedGCE": lambda **options: TruncatedGCE(k=0.2, start_epoch=1, every=1, **options),
    "Mixup": lambda **options: Mixup(**options),
    "RobustLoss(GCELoss())": lambda **options: RobustLoss(GCELoss(), **options),
}
CRUSTS = ("Crust", "Crust without mixing")


@dataclass(frozen=True)
class Refusal:
    """Why a method cannot work with a pattern.

    Attributes:
        message: regular expression that the error matches.
        reason: for the table.
    """

    message: str
    reason: str


@dataclass(frozen=True, eq=False)
class Pattern:
    """A way in which people write their modules.

    Attributes:
        module: an example of it.
        meaning: for the table.
        refusals: the methods that cannot work with it.
        options: of the callbacks.
        is_exact: whether a callback that changes nothing trains the same weights to the bit. A loss of several numbers
            a sample is averaged in two steps, which rounds otherwise.
        steps_per_batch: how often the optimizer runs the training step.
    """

    module: type[modules.Project]
    meaning: str
    refusals: dict[str, Refusal] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    is_exact: bool = True
    steps_per_batch: int = 1

    @property
    def name(self) -> str:
        return self.module.__name__


def refused(methods: tuple[str, ...], message: str, reason: str) -> dict[str, Refusal]:
    return {method: Refusal(message, reason) for method in methods}


ALL = tuple(METHODS)
INTERCEPTING = tuple(method for method in METHODS if method != "Crust without mixing")
JUDGING = ("Crust", "PRLLossLayer", "PRLGradient", "SPL", "Mixup")
RECORDING = ("ELR", "SOP", "TruncatedGCE")
NEED_CLASSES = (*RECORDING, *CRUSTS, "PRLLossLayer", "RobustLoss(GCELoss())")

NOTHING_TO_MIX = refused(
    ("Crust", "Mixup"),
    r"no floating-point tensor.*(use partner='none'|leave Mixup out)",
    "the batch has no real-valued inputs to mix",
)
SOFT_LABELS = refused(
    ("SOP", *CRUSTS, "PRLLossLayer", "TruncatedGCE", "RobustLoss(GCELoss())"),
    r"called with class probabilities as targets, but .* is for one class per sample.*; leave it out",
    "it needs one class per sample",
)
ONLY_LOGGED = "only logged; compute a loss for the log under torch.no_grad"

PATTERNS = [
    # 1
    Pattern(modules.FunctionalLoss, "`F.cross_entropy` in the step, a metric object"),
    Pattern(modules.LogProbabilities, "`F.nll_loss` of log-probabilities"),
    Pattern(modules.AudioClassifier, "dict batch with strings; a second loss is logged after the trained one"),
    Pattern(modules.LogsWithoutGradients, "a second loss is logged under `no_grad`"),
    Pattern(
        modules.LogsAnotherLossFirst,
        "a second loss with gradients is logged before the trained one",
        refused(RECORDING, ONLY_LOGGED, "which loss is trained is not known yet; log it under `no_grad`"),
    ),
    # 2
    Pattern(modules.LossInModel, "`self.model(**batch).loss` (Hugging Face)", NOTHING_TO_MIX),
    # 3
    Pattern(modules.ImageDict, '`{"image", "label"}` (torchgeo)'),
    Pattern(modules.TabularDict, '`{"continuous", "target"}` (pytorch-tabular)'),
    Pattern(modules.GraphClassifier, "graph batches (PyG)", NOTHING_TO_MIX),
    Pattern(modules.ListBatch, "`isinstance(batch, (list, tuple))`"),
    Pattern(modules.NamedTupleBatch, "a named tuple"),
    Pattern(modules.EncodingBatch, "a tokenizer's mapping", NOTHING_TO_MIX),
    # 4
    Pattern(modules.ForwardDict, "`forward` returns a dict"),
    Pattern(modules.ForwardTuple, "`forward` returns a tuple"),
    Pattern(modules.ForwardWithLabels, "`forward(images, labels)`"),
    Pattern(modules.TwoHeads, "two heads, two criteria, one of them named", options={"criterion": "digit_loss"}),
    Pattern(
        modules.AuxiliaryLoss,
        "the sum of two functions",
        refused(
            INTERCEPTING,
            r"a step is trained with F\.cross_entropy and F\.mse_loss.*name it: criterion=",
            "which of the two losses is meant is not known; make one a criterion, and name it",
        ),
    ),
    Pattern(modules.CosineHead, "a criterion that scales the logits"),
    # 5
    Pattern(modules.ColumnLabels, "labels `(B, 1)`"),
    Pattern(modules.OneHotLabels, "one-hot labels"),
    Pattern(modules.LabelsFromOne, "labels 1 to C"),
    Pattern(modules.FloatLabels, "labels as floats"),
    Pattern(modules.ByteLabels, "labels as `uint8`"),
    Pattern(modules.Int32Labels, "labels as `int32`"),
    Pattern(modules.MappedLabels, "labels mapped by a table in the step"),
    Pattern(modules.SoftMixup, "soft labels of a mixup of one's own", SOFT_LABELS),
    Pattern(
        modules.TwoCallMixup,
        "a mixup of one's own by two losses",
        refused(RECORDING, r"several times in a step", "it keeps a record of one loss per sample")
        | refused(JUDGING, r"different targets.*leave one of the two out", "no sample has one label"),
    ),
    # 6
    Pattern(modules.NormalizedInStep, "inputs normalized in the step"),
    Pattern(modules.BytesInStep, "inputs that are bytes until the step", NOTHING_TO_MIX),
    Pattern(modules.NormalizedAfterTransfer, "inputs normalized in `on_after_batch_transfer`"),
    Pattern(modules.AugmentedInTraining, "augmentation guarded by `self.trainer.training` (kornia)"),
    Pattern(modules.CompiledNet, "a compiled network"),
    Pattern(modules.CompiledCriterion, "a compiled criterion"),
    # 8
    Pattern(modules.Binary, "`BCEWithLogitsLoss` with one output"),
    Pattern(modules.BinaryColumn, "`F.binary_cross_entropy_with_logits`, `(B, 1)`"),
    Pattern(
        modules.MultiLabel,
        "`BCEWithLogitsLoss` with several outputs",
        refused(NEED_CLASSES, r"called with several labels per sample.*leave it out", "it needs one class per sample"),
        is_exact=False,
    ),
    # 9
    Pattern(
        modules.Segmentation,
        "dense prediction with `ignore_index`",
        refused(
            (*NEED_CLASSES, "Mixup"),
            r"called with a class for every pixel.*leave it out",
            "it needs one class per sample",
        ),
        is_exact=False,
    ),
    # 10
    Pattern(modules.ReplacedCriterion, "a criterion that is replaced during the fit"),
    Pattern(
        modules.LoggedCriterion,
        "a criterion that is only logged",
        refused(INTERCEPTING, ONLY_LOGGED, "the criterion is not trained; log it under `no_grad`"),
    ),
    Pattern(modules.UnusedCriterion, "a criterion for validation only"),
    Pattern(modules.MetricWithReduction, "a metric with a `reduction`"),
    Pattern(
        modules.OwnFormula,
        "a loss without a call, written down in the step",
        refused(ALL, r"computes no loss that .*compute it by F\.cross_entropy", "there is no loss to be seen"),
    ),
    Pattern(
        modules.LogsCrossEntropy,
        "the same, with `F.cross_entropy` in the log",
        refused(INTERCEPTING, ONLY_LOGGED, "the loss that is seen is not trained"),
    ),
    # 11
    Pattern(modules.ClosureOptimizer, "an optimizer that runs the step twice by a closure (SAM)", steps_per_batch=2),
    Pattern(
        modules.SharpnessAware,
        "manual optimization with two passes (SAM)",
        refused(RECORDING, r"several times in a step", "it keeps a record of one loss per sample"),
    ),
    Pattern(modules.TwoOptimizers, "manual optimization with two optimizers"),
]


def make_module(pattern: Pattern) -> modules.Project:
    """The same weights at every call."""
    torch.manual_seed(0)
    return pattern.module()


def make_trainer(*callbacks: L.Callback, **options: Any) -> L.Trainer:
    """A quiet trainer on the CPU."""
    quiet: dict[str, Any] = {
        "accelerator": "cpu",
        "logger": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "enable_checkpointing": False,
        "num_sanity_val_steps": 0,
        "max_epochs": 3,
    }
    return L.Trainer(callbacks=list(callbacks), **(quiet | options))
