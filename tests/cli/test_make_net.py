"""Networks that a configuration names: this library's, and any callable."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pytest
import torch
import torchvision
from omegaconf import OmegaConf
from torch import Tensor, nn

from noisylabels_pl.cli.make_net import make_net
from noisylabels_pl.core import Classifier, FineTuning
from tests.helpers import ROOT, composed, options

Make = Callable[..., Any]
Cli = Callable[..., Path]


class Knows(nn.Sequential):
    """Takes both facts about the data, by name."""

    def __init__(self, num_classes: int, input_shape: tuple[int, ...], width: int = 3) -> None:
        features = int(np.prod(input_shape))
        super().__init__(nn.Flatten(), nn.Linear(features, width), nn.Linear(width, num_classes))


class KnowsNothing(nn.Sequential):
    """Fits digits by its own options."""

    def __init__(self, classes: int = 10, hidden: list[int] | None = None) -> None:
        assert hidden is None or type(hidden) is list
        super().__init__(nn.Flatten(), nn.Linear(64, classes))


def of_classes(num_classes: int) -> nn.Module:
    return KnowsNothing(num_classes)


def hands_on(**options: Any) -> nn.Module:
    return of_classes(**options)


def takes_all(**options: Any) -> nn.Module:
    return Knows(**options)


class TwoOutputs(KnowsNothing):
    def forward(self, x: Tensor) -> Any:  # type: ignore[override]
        return super().forward(x), x


def made(digits: Make, target: str, **options: Any) -> nn.Module:
    config = composed("data=digits")
    config.net = OmegaConf.create({"_target_": target if "." in target else f"{__name__}.{target}", **options})
    return make_net(config, digits())


@pytest.mark.parametrize("target", ["Knows", "KnowsNothing", "of_classes", "hands_on", "takes_all"])
def test_any_callable(digits: Make, target: str) -> None:
    net = made(digits, target)
    assert net.training
    assert net(torch.rand(5, 1, 8, 8)).shape == (5, 10)


def test_options_reach_the_callable(digits: Make) -> None:
    assert made(digits, "Knows", width=7)[1].out_features == 7  # type: ignore[index]
    made(digits, "KnowsNothing", hidden=[3, 4])


def test_networks_of_torch(digits: Make) -> None:
    """Layers with _args_, a lazy layer, and a function of torchvision with ``**kwargs``."""
    layers = [{"_target_": "torch.nn.Flatten"}, {"_target_": "torch.nn.LazyLinear", "out_features": 10}]
    net = made(digits, "torch.nn.Sequential", _args_=layers)
    assert net[1].weight.shape == (10, 64)  # type: ignore[index]
    config = composed("data=digits")
    config.net = OmegaConf.create({"_target_": "torchvision.models.resnet18"})
    data = digits()
    data.arrays.__dict__["x_train"] = torch.zeros(300, 3, 32, 32)  # frozen
    assert make_net(config, data).fc.out_features == 10


@pytest.mark.parametrize(
    ("target", "options", "message"),
    [
        (
            "KnowsNothing",
            {"classes": 7},
            r"KnowsNothing returns \(2, 7\) for 2 samples of shape \(1, 8, 8\), but the da",
        ),
        ("TwoOutputs", {}, r"TwoOutputs returns tuple, not a tensor; it must return its logits alone$"),
        (
            "torch.nn.Linear",
            {"in_features": 3, "out_features": 10},
            r"Linear fails on samples of shape \(1, 8, 8\): mat1",
        ),
    ],
)
def test_networks_that_do_not_fit(digits: Make, target: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=rf"^net: [\w.]*{message}"):
        made(digits, target, **options)


def test_what_is_no_network(digits: Make) -> None:
    with pytest.raises(TypeError, match=r"^net\._target_=builtins\.dict must make a torch\.nn\.Module, got dict$"):
        made(digits, "builtins.dict")


def test_the_check_leaves_modes_and_statistics_alone(digits: Make) -> None:
    net = made(digits, "noisylabels_pl.nets.small_cnn", width=4)
    assert all(module.training for module in net.modules())
    assert all(not module.num_batches_tracked for module in net.modules() if isinstance(module, nn.BatchNorm2d))


# What a network needs besides its name, and what keeps it small. tests/nets has the size of the large ones.
SMALL = {
    "resnet50": ["net.name=resnet18"],
    "inception_resnet_v2": ["net.name=resnet10t"],
    "wrn28_10": ["net.depth=10", "net.width=1"],
    "embedding_lstm": ["net.hidden_size=8", "net.embedding_size=8"],
    "torchvision": ["net.name=resnet18"],
    "timm": ["net.name=resnet10t"],
}
TEXTS = ("embedding_flat", "embedding_lstm", "embedding_mean", "hf")


@pytest.mark.parametrize("name", [name for name in options("net") if name != "custom"])
def test_every_network_takes_a_step(name: str, digits: Make, make_trainer: Make, tmp_path: Path) -> None:
    overrides = SMALL.get(name, [])
    if name in ("timm", "inception_resnet_v2"):
        pytest.importorskip("timm")
    if name == "resnet50_pretrained":
        torch.save(torchvision.models.resnet18(weights=None).state_dict(), tmp_path / "weights.pt")
        overrides = ["net.name=resnet18", f"net.weights={tmp_path / 'weights.pt'}"]
    if name == "hf":
        small = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
        pytest.importorskip("transformers").BertConfig(vocab_size=50, **small).save_pretrained(tmp_path)
        overrides = [f"net.name={tmp_path}"]
    x = torch.randint(1, 50, (4, 9)) if name in TEXTS else torch.rand(4, 3, 28, 28)
    data = digits()
    data.arrays.__dict__["x_train"] = data.arrays.__dict__["x_test"] = x  # frozen
    net = make_net(composed("data=digits", f"net={name}", *overrides), data)
    module = Classifier(net, 10, FineTuning(lr=0.01))
    before = {name: parameter.detach().clone() for name, parameter in net.named_parameters()}
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, torch.arange(4)), batch_size=4)
    trainer: L.Trainer = make_trainer(max_steps=1)
    trainer.fit(module, loader)
    assert trainer.callback_metrics["train/loss"].isfinite()
    assert any(not torch.equal(parameter, before[name]) for name, parameter in net.named_parameters())


def test_a_module_of_the_working_directory(cli: Cli, tmp_path: Path) -> None:
    """The console script finds it, too: it starts Python without the working directory in its path."""
    (tmp_path / "my_net.py").write_text(
        "from torch import nn\n\ndef net(width):\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(64, width), nn.ReLU(), nn.Linear(width, 10))\n"
    )
    script = "import sys; sys.path.remove(''); from noisylabels_pl.cli.main import main; sys.exit(main())"
    command = [sys.executable, "-c", script, "net=custom", "net._target_=my_net.net", "+net.width=7", "method=ce"]
    short = ["trainer=cpu", "trainer.max_epochs=1", "data.train_size=100", "hydra.run.dir=run"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    subprocess.run([*command, *short], cwd=tmp_path, env=environment, check=True, timeout=120, capture_output=True)
    assert (tmp_path / "run" / "result.json").is_file()


def test_an_own_network_in_a_folder_of_configurations(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "conf" / "net").mkdir(parents=True)
    (tmp_path / "conf" / "net" / "mine.yaml").write_text(f"_target_: {__name__}.Knows\nwidth: 5\n")
    short = ["trainer=cpu", "trainer.max_epochs=1", "data.train_size=100", "method=co_teaching"]
    folder = cli(f"--config-dir={tmp_path / 'conf'}", "net=mine", "net.width=4", *short)
    saved = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    assert saved["net.second.1.weight"].shape == (4, 64)


def test_fine_tuning_from_a_checkpoint_of_a_run(cli: Cli, tmp_path: Path) -> None:
    short = ["trainer=cpu", "data.train_size=100", "net=torchvision", "net.name=resnet18"]
    first = cli("method=ce", "trainer.max_epochs=1", *short, folder="first")
    weights = f"net.weights={first / 'checkpoints' / 'last.ckpt'}"
    second = cli(
        "experiment=finetune/elr",
        "trainer.max_epochs=1",
        "optim.lr=0",
        weights,
        "net.name=resnet18",
        "data.normalization=standardize",
        *short[:2],
    )
    before, after = (
        torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"] for folder in (first, second)
    )
    assert torch.equal(before["net.layer4.1.conv2.weight"], after["net.layer4.1.conv2.weight"])
    assert "head_lr_factor: 10.0" in (second / "config.yaml").read_text()


def test_an_error_is_one_line(cli: Cli, tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as ended:
        cli("net=custom", f"net._target_={__name__}.KnowsNothing", "+net.classes=7", "trainer=cpu")
    (line, _) = str(ended.value).splitlines()
    assert line.startswith(f"error: net: {__name__}.KnowsNothing returns (2, 7) for 2 samples")
    with pytest.raises(SystemExit) as ended:
        cli("net=resnet50_pretrained", "trainer=cpu")
    assert str(ended.value).startswith("error: net.weights has no value; set it: net.weights=VALUE\n")
