"""Every combination of options composes, and what it composes to."""

from __future__ import annotations

from functools import partial
from itertools import product
from typing import Any

import lightning as L
import pytest
import torch
from hydra.errors import ConfigCompositionException
from hydra.utils import instantiate
from torch import nn

from noisylabels_pl.core import StagedMethod
from noisylabels_pl.functional import TARGET_CORRUPTIONS
from tests.helpers import composed, options


@pytest.mark.parametrize(("data", "noise"), list(product(options("data"), options("noise"))))
def test_data_and_noise(data: str, noise: str) -> None:
    config = composed(f"data={data}", f"noise={noise}")
    assert config.noise == composed(f"noise={noise}").noise
    classes = {
        "annotators": "AnnotatorNoise",
        "confusions": "ConfusionNoise",
        "file": "FileNoise",
        "instance": "InstanceNoise",
        "twin": "TwinNoise",
    }
    assert config.noise._target_ == f"noisylabels_pl.data.{classes.get(noise, 'LabelNoise')}"
    assert config.noise.get("kind") == (None if noise in classes else noise)


@pytest.mark.parametrize("method", options("method"))
@pytest.mark.parametrize("data", options("data"))
def test_every_method_gets_the_same_network_and_budget(method: str, data: str) -> None:
    config, plain = composed(f"method={method}", f"data={data}"), composed("method=ce", f"data={data}")
    for group in ("net", "optim", "schedule", "trainer", "data"):
        assert config[group] == plain[group]


@pytest.mark.parametrize("method", options("method"))
def test_methods_can_be_made(method: str) -> None:
    made = instantiate(composed(f"method={method}").method)
    assert isinstance(made, (L.Callback, nn.Module, StagedMethod, partial))


@pytest.mark.parametrize("loss", options("method.loss"))
def test_a_loss_inside_a_method_has_the_options_that_it_has_as_a_method(loss: str) -> None:
    assert composed("method=spl", f"method.loss={loss}").method.loss == composed(f"method={loss}").method
    assert isinstance(instantiate(composed(f"method={loss}").method), nn.Module)


def test_every_loss_can_be_inside_a_method() -> None:
    criteria = {
        name for name in options("method") if isinstance(instantiate(composed(f"method={name}").method), nn.Module)
    }
    assert set(options("method.loss")) == criteria - {"ce", "mse"}  # which are the modules' own


@pytest.mark.parametrize("group", ["net", "optim", "schedule", "trainer", "logger"])
@pytest.mark.parametrize("data", options("data"))
def test_other_groups(group: str, data: str) -> None:
    for option in options(group):
        config = composed(f"data={data}", f"{group}={option}")
        if group in ("optim", "schedule"):  # nothing of the default option is left over
            assert config[group] == composed(f"{group}={option}")[group]


@pytest.mark.parametrize("experiment", options("experiment"))
def test_experiments_yield_to_the_command_line(experiment: str) -> None:
    overrides = ["method=ce", "data=digits", "net=small_cnn", "noise=sym", "noise.rate=0.1"]
    config = composed(f"experiment={experiment}", *overrides)
    assert config.noise.rate == 0.1
    assert isinstance(instantiate(config.method), nn.CrossEntropyLoss)  # no option of the experiment's own is left over
    assert "Digits" in config.data._target_
    assert "small_cnn" in config.net._target_


def test_the_papers_recipe() -> None:
    config = composed("method=crust", "noise=sym", "data=cifar10")
    assert "resnet32_cifar" in config.net._target_
    assert (config.optim.lr, config.optim.momentum, config.optim.weight_decay) == (0.1, 0.9, 5e-4)
    assert (list(config.schedule.milestones), config.schedule.gamma) == ([80, 100], 0.1)
    assert (config.trainer.max_epochs, config.data.batch_size) == (120, 128)
    assert (config.data.crop_padding, config.data.flip, config.data.val_fraction) == (4, True, 0.0)
    assert config.method.fraction == 0.5


# The variants differ in exactly these options.
VARIANTS = {
    "crust": ("centrality", "predicted", "logits", False, "uniform", "cluster", 1.0, 1.0, "pair", 0, 5),
    "crust_paper": ("facility_location", "predicted", "logits", False, "cluster", "cluster", 1.0, 1.0, "pair", 0, 0),
    "crust_released": ("centrality", "observed", "head", True, "class", "same_label", 1.0, 0.1, "batch", 6, 5),
}
KEYS = (
    "selector",
    "partition",
    "embedding",
    "train_mode",
    "weights",
    "partner",
    "mixup_alpha",
    "mixup_beta",
    "mixup_scope",
    "mixup_start_epoch",
    "warmup_epochs",
)


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_three_variants(variant: str) -> None:
    method = composed(f"method={variant}").method
    assert tuple(method[key] for key in KEYS) == VARIANTS[variant]
    assert method.fraction == 0.5


@pytest.mark.parametrize(
    ("experiment", "overrides", "kind", "rate"),
    [
        ("cifar10_sym", [], "sym", 0.5),
        ("cifar10_sym", ["noise.rate=0.2"], "sym", 0.2),
        ("cifar10_sym", ["noise.rate=0.5"], "sym", 0.5),
        ("cifar10_sym", ["noise.rate=0.8"], "sym", 0.8),
        ("cifar10_asym", [], "asym", 0.4),
    ],
)
def test_the_papers_noise_levels(experiment: str, overrides: list[str], kind: str, rate: float) -> None:
    config = composed(f"experiment=crust/{experiment}", *overrides)
    assert (config.noise.kind, config.noise.rate, config.noise.seed) == (kind, rate, 0)
    assert config.noise.get("map") == {"sym": None, "asym": "crust_released"}[kind]
    assert "CIFAR10" in config.data._target_
    assert config.method.embedding == "head"


def test_your_own_data_is_not_corrupted_unless_you_say_so() -> None:
    assert composed("data=npz").noise.kind == "none"
    assert composed("data=npz", "noise=sym").noise.kind == "sym"


def test_misspelt_keys_and_options_are_errors() -> None:
    with pytest.raises(ConfigCompositionException, match=r"Could not override 'method\.fractoin'"):
        composed("method.fractoin=0.3")
    with pytest.raises(Exception, match="crusty"):
        composed("method=crusty")


def test_the_recipe_of_fine_tuning() -> None:
    config = composed("experiment=finetune/elr", "data=npz", "net.weights=mine.pt")
    assert (config.method.lam, config.method.beta) == (3.0, 0.7)
    assert (config.net.name, config.net.weights) == ("resnet50", "mine.pt")
    assert (config.optim.lr, config.optim.head_lr_factor, config.optim.weight_decay) == (0.002, 10.0, 1e-3)
    assert (list(config.schedule.milestones), config.trainer.max_epochs, config.data.batch_size) == ([7], 15, 64)
    assert config.noise.kind == "none"
    optimizer = instantiate(config.optim)([nn.Parameter(torch.zeros(2))])
    assert isinstance(optimizer, torch.optim.SGD)
    assert optimizer.defaults["momentum"] == 0.9


@pytest.mark.parametrize(
    ("experiment", "method", "net", "noise", "optim", "schedule", "epochs"),
    [
        ("elr/cifar10_sym", (3.0, 0.7), "resnet34_cifar", "sym_inclusive", (0.02, 1e-3), ([40, 80], 0.01), 120),
        ("elr/cifar10_asym", (1.0, 0.9), "resnet34_cifar", "asym", (0.02, 1e-3), ([40, 80], 0.01), 120),
        ("elr/cifar10_sym_cosine", (3.0, 0.7), "resnet34_cifar", "sym_inclusive", (0.02, 1e-3), (10, 1e-3), 150),
        ("elr/cifar10_asym_cosine", (1.0, 0.9), "resnet34_cifar", "asym", (0.02, 1e-3), (10, 1e-3), 150),
        ("elr/cifar10_sym_plus", (3.0, 0.7), "preact_resnet18", "sym_inclusive", (0.02, 5e-4), ([150], 0.1), 200),
        ("elr/cifar10_asym_plus", (1.0, 0.9), "preact_resnet18", "asym", (0.02, 5e-4), ([150], 0.1), 200),
        ("loss_correction/mnist_asym", None, "mlp", "asym", (0.01, 0.0), None, 40),
        ("loss_correction/cifar10_resnet14_sym", None, "preact_resnet14", "sym", (0.1, 2e-4), ([41, 81], 0.1), 120),
        ("loss_correction/cifar10_resnet32_asym", None, "preact_resnet32", "asym", (0.1, 2e-4), ([41, 81], 0.1), 120),
    ],
)
def test_the_recipes_of_elr_and_loss_correction(
    experiment: str, method: Any, net: str, noise: str, optim: Any, schedule: Any, epochs: int
) -> None:
    config = composed(f"experiment={experiment}")
    assert config.net._target_.endswith(net)
    assert config.noise.kind == noise
    assert (config.optim.lr, config.optim.weight_decay) == optim
    assert config.trainer.max_epochs == epochs
    assert config.data.val_fraction == 0.1
    if method is not None:
        assert (config.method.lam, config.method.beta) == method
    if schedule is not None:
        names = ("milestones", "gamma") if "milestones" in config.schedule else ("T_0", "eta_min")
        assert tuple(config.schedule[name] for name in names) == schedule


@pytest.mark.parametrize("noise", ["sym", "asym"])
@pytest.mark.parametrize(
    ("variant", "dropout", "method"), [("", 0.5, "forward_paper"), ("_released", 0.2, "forward_released")]
)
def test_mnist_as_in_the_paper_and_as_in_the_public_code(noise: str, variant: str, dropout: float, method: str) -> None:
    config = composed(f"experiment=loss_correction/mnist_{noise}{variant}")
    assert config.method == composed(f"method={method}").method
    assert (config.net.dropout, config.net.init, list(config.net.hidden)) == (dropout, "he", [128, 128])
    assert (config.data.normalization, config.data.val_fraction, config.data.batch_size) == ("unit", 0.1, 128)
    assert (config.optim.lr, config.optim.eps, config.trainer.max_epochs) == (0.01, 1e-6, 40)
    assert (config.noise.kind, config.monitor) == (noise, "val/loss")


@pytest.mark.parametrize(
    ("method", "strictly_below", "eps"),
    [
        ("forward_paper", False, 0.0),
        ("forward_released", True, 1e-7),
        ("backward_paper", False, 1e-7),
        ("backward_released", True, 1e-7),
    ],
)
def test_the_variants_of_loss_correction(method: str, strictly_below: bool, eps: float) -> None:
    config = composed(f"method={method}").method
    assert (config.quantile, config.strictly_below, config.eps) == (0.97, strictly_below, eps)


def test_cifar10_of_loss_correction_subtracts_the_mean_of_each_pixel() -> None:
    config = composed("experiment=loss_correction/cifar10_resnet32_asym")
    assert config.data.normalization == "pixel_mean"


@pytest.mark.parametrize(
    ("experiment", "overrides", "method", "net", "noise", "lr", "epochs"),
    [
        *(("celeba", [f"noise={kind}"], "prl_l_paper", "mlp", kind, 3e-4, 100) for kind in TARGET_CORRUPTIONS),
        ("cifar10_sym", [], "prl_l_released", "cnn9", "sym", 1e-3, 49),
        ("cifar10_pairflip", [], "prl_l_released", "cnn9", "pairflip", 1e-3, 49),
        ("cifar10_sym", ["method=co_prl_l_released"], "co_prl_l_released", "cnn9", "sym", 1e-3, 49),
        ("cifar10_pairflip", ["method=prl_g_paper", "net=cnn9_gn"], "prl_g_paper", "cnn9_gn", "pairflip", 1e-3, 49),
    ],
)
def test_the_recipes_of_prl(
    experiment: str, overrides: list[str], method: str, net: str, noise: str, lr: float, epochs: int
) -> None:
    config = composed(f"experiment=prl/{experiment}", *overrides, "noise.rate=0.3")
    assert config.method == composed(f"method={method}", "noise.rate=0.3").method
    assert config.method.forget_rate == 0.3  # as in the paper, which knows the noise rate
    assert config.net._target_.endswith(f".{net}")
    assert config.noise.kind == noise
    if experiment == "celeba":
        assert config.noise.count == "exact"
    assert config.optim.lr == lr
    assert config.optim.betas == [0.9, 0.999]
    assert config.trainer.max_epochs == epochs
    assert config.data.batch_size == (512 if experiment.startswith("celeba") else 128)
    assert config.data.val_fraction == 0
    assert not config.data.get("flip")
    if experiment.startswith("cifar10"):  # as in the public code
        assert (config.data.normalization, config.data.drop_last) == ("unit", True)
        assert bool(config.net.get("dropout_at_test")) == (net == "cnn9")


# The paper's text (paper), and its public code (released).
@pytest.mark.parametrize(
    ("method", "target", "ramp", "schedule", "second_forward"),
    [
        ("prl_l_paper", "PRLLossLayer", 0, "paper", False),
        ("prl_g_paper", "PRLGradient", 0, "paper", False),
        ("prl_l_released", "PRLLossLayer", 10, "released", True),
        ("spl_released", "SPL", 10, "released", False),
        ("co_prl_l_paper", "CoPRL", 10, "paper", False),
        ("co_prl_l_released", "CoPRL", 10, "released", True),
        ("co_teaching_released", "CoTeaching", 10, "released", False),
    ],
)
def test_the_variants_of_prl(method: str, target: str, ramp: int, schedule: str, second_forward: bool) -> None:
    config = composed(f"method={method}", "noise.rate=0.3").method
    assert config._target_ == f"noisylabels_pl.{target}"
    assert (config.ramp_epochs, config.schedule, config.second_forward) == (ramp, schedule, second_forward)
    assert config.forget_rate == 0.3


@pytest.mark.parametrize("method", ["prl_l", "prl_g", "spl", "co_prl_l", "co_teaching"])
def test_no_method_gets_the_rate_silently(method: str) -> None:
    rates = {composed(f"method={method}", f"noise.rate={rate}").method.forget_rate for rate in (0.1, 0.3)}
    assert rates == {0.2}
