"""Loss correction in stages: the source of T, and training with it, on real digits."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from noisylabels_pl import (
    BackwardCorrection,
    BackwardCorrectionLoss,
    ForwardCorrection,
    ForwardCorrectionLoss,
    indexed,
)
from noisylabels_pl.cli.train import Experiment, train
from noisylabels_pl.functional import (
    backward_correction,
    estimate_transition_matrix,
    forward_correction,
    transition_error,
    transition_matrix,
)
from noisylabels_pl.report.transition import draw_transitions
from tests.helpers import composed, foreign_loader

Make = Callable[..., Any]
PAIRFLIP = transition_matrix("pairflip", 10, 0.3)


def run(folder: Path, *overrides: str) -> Experiment:
    common = ("trainer=cpu", "logger=none", "noise=pairflip", "noise.rate=0.3", "data.train_size=600")
    return train(composed(*common, "trainer.max_epochs=6", "optim.lr=0.3", *overrides), folder)


def test_a_known_T_takes_one_stage(tmp_path: Path) -> None:
    experiment = run(tmp_path, "method=forward", "method.T=known")
    torch.testing.assert_close(experiment.module.criterion.T, PAIRFLIP.float())
    assert not list(tmp_path.glob("cross_entropy*"))
    with pytest.raises(ValueError, match="this run's noise has no T to reveal"):
        train(composed("method=forward", "method.T=known", "noise=none", "trainer=cpu"), tmp_path)


@pytest.mark.parametrize("variant", ["paper", "released"])
def test_an_estimated_T_is_that_of_the_best_validation_epoch(tmp_path: Path, variant: str) -> None:
    experiment = run(tmp_path, f"method=forward_{variant}", "monitor=val/acc")
    best = torch.load(tmp_path / "cross_entropy" / "checkpoints" / "best.ckpt", weights_only=True)
    last = torch.load(tmp_path / "cross_entropy" / "checkpoints" / "last.ckpt", weights_only=True)
    datamodule = experiment.datamodule
    x = datamodule.arrays.x_train[torch.cat([datamodule.train_indices, datamodule.val_indices])].float()
    x = (x - datamodule.arrays.mean) / datamodule.arrays.std
    estimates = []
    for checkpoint in (best, last):
        net = experiment.module.net
        net.load_state_dict({k.removeprefix("net."): v for k, v in checkpoint["state_dict"].items() if k[:4] == "net."})
        with torch.no_grad():
            probs = net.eval()(x).double().softmax(1)
        estimates.append(estimate_transition_matrix(probs, quantile=0.97, strictly_below=variant == "released"))
    torch.testing.assert_close(experiment.artifacts["T"], estimates[0], atol=1e-5, rtol=0)
    assert not torch.allclose(estimates[0], estimates[1], atol=1e-3)
    torch.testing.assert_close(experiment.module.criterion.T, estimates[0].float(), atol=1e-5, rtol=0)


@pytest.mark.parametrize("warm_start", [False, True])
def test_the_second_stage_starts_afresh_unless_warm_start_is_set(tmp_path: Path, warm_start: bool) -> None:
    run(tmp_path, "method=forward", f"method.warm_start={warm_start}", "optim.lr=0", "trainer.max_epochs=1")
    first = torch.load(tmp_path / "cross_entropy" / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    second = torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    assert torch.equal(first["net.1.weight"], second["net.1.weight"])  # lr 0: both are the seed's initial weights
    artifacts = torch.load(tmp_path / "cross_entropy.pt", weights_only=True)
    assert any(name.startswith("weights/") for name in artifacts) == warm_start
    module = nn.Module()
    module.net = nn.Linear(2, 2)
    method = ForwardCorrection(warm_start=warm_start)
    if warm_start:
        with pytest.raises(ValueError, match="left no weights to start from; resume with the options it had"):
            method.stages()[1].initialize(module, {"T": PAIRFLIP})
    handed = {"T": PAIRFLIP, "weights/net.weight": torch.ones(2, 2), "weights/net.bias": torch.ones(2)}
    method.stages()[1].initialize(module, handed)
    assert torch.equal(module.net.weight, torch.ones(2, 2)) == warm_start


def test_validation_accuracy_is_of_what_would_be_observed(tmp_path: Path) -> None:
    """With pair flips of 80 % the network predicts true labels, which the noisy split mostly contradicts."""
    experiment = run(tmp_path, "method=forward", "method.T=known", "noise.rate=0.8", "trainer.max_epochs=30")
    row = experiment.history.rows[-1]
    assert row["test/acc"] > 0.8
    assert row["val/acc"] > 0.6  # at best 0.8; as the network's own predictions it would be about 0.2


@pytest.mark.parametrize(
    ("method", "options", "criterion", "kernel"),
    [
        (ForwardCorrection, {}, ForwardCorrectionLoss, forward_correction),
        (BackwardCorrection, {"mix": 0.2}, BackwardCorrectionLoss, backward_correction),
        (ForwardCorrection, {"base": "square"}, ForwardCorrectionLoss, forward_correction),
        (ForwardCorrection, {"eps": 0.1}, ForwardCorrectionLoss, forward_correction),
    ],
)
def test_the_criterion_is_the_kernel(method: Any, options: dict[str, Any], criterion: Any, kernel: Any) -> None:
    loss = method(T="known", **options).stages()[0].method({"T": PAIRFLIP})
    assert isinstance(loss, criterion)
    logits, target = torch.randn(9, 10, generator=torch.Generator().manual_seed(0)), torch.arange(9)
    torch.testing.assert_close(loss(logits, target), kernel(logits, target, PAIRFLIP, **options).mean())
    torch.testing.assert_close(loss.observed(logits).exp(), logits.softmax(1) @ PAIRFLIP.float())


def saved(folder: Path, name: str, **arrays: Any) -> str:
    np.savez(folder / name, **arrays)
    return str(folder / name)


def test_T_from_files(tmp_path: Path) -> None:
    T = PAIRFLIP.numpy()
    np.save(tmp_path / "T.npy", T)
    np.savetxt(tmp_path / "T.csv", T, delimiter=",")
    for path in (tmp_path / "T.npy", tmp_path / "T.csv", saved(tmp_path, "T.npz", T=T)):
        method = BackwardCorrection(T="file", path=str(path))
        torch.testing.assert_close(method.stages()[0].method({}).T, PAIRFLIP.float())
    clean = np.repeat(np.arange(3), 4)
    pairs = saved(tmp_path, "pairs.npz", clean=clean, observed=np.array([0, 0, 0, 1, 1, 1, 1, 1, 2, 2, 0, 0]))
    trusted = ForwardCorrection(T="trusted", path=pairs)
    expected = torch.tensor([[0.75, 0.25, 0], [0, 1, 0], [0.5, 0, 0.5]])
    torch.testing.assert_close(trusted.stages()[0].method({}).T, expected)
    with pytest.raises(ValueError, match=r"path: .*x.npz must hold T, or clean and observed; it holds x"):
        ForwardCorrection(T="file", path=saved(tmp_path, "x.npz", x=clean)).stages()[0].method({})
    with pytest.raises(FileNotFoundError, match=r"path: there is no file .*gone.npy"):
        ForwardCorrection(T="file", path="gone.npy").stages()[0].method({})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"T": "guessed"}, "T must be one of estimated, known, file, trusted, got 'guessed'"),
        ({"T": "file"}, "path goes with T=file or T=trusted, got T=file and path=None"),
        ({"path": "T.npy"}, "got T=estimated and path=T.npy"),
        ({"quantile": 97}, r"quantile must lie in \(0, 1\], got 97; or set it to auto"),
        ({"quantile": "automatic"}, r"quantile must be a number in \(0, 1\], got 'automatic'; or set it to auto"),
        ({"base": "mae"}, "base must be one of ce, square, got 'mae'"),
        ({"T": "known", "warm_start": True}, "T=known has no such stage"),
    ],
)
@pytest.mark.parametrize("method", [ForwardCorrection, BackwardCorrection])
def test_wrong_options(method: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        method(**options)


def test_mixing_in_the_identity_is_for_the_backward_correction() -> None:
    with pytest.raises(ValueError, match=r"mix must lie in \[0, 1\), got 1.5"):
        BackwardCorrection(mix=1.5)
    with pytest.raises(TypeError, match="mix"):
        ForwardCorrection(mix=0.1)  # type: ignore[call-arg]


def test_T_estimated_on_other_inputs(classifier: Make, make_trainer: Make, digits: Make) -> None:
    datamodule, module = digits(), classifier()
    trainer = make_trainer(max_epochs=1)
    trainer.fit(module, datamodule=datamodule)
    others = datamodule.test_dataloader()
    method = ForwardCorrection(loader=others, quantile=1.0)
    x = torch.cat([batch[0] for batch in others])
    with torch.no_grad():
        probs = module.eval()((x.float() - datamodule.arrays.mean) / datamodule.arrays.std).double().softmax(1)
    found = method.stages()[0].outputs(trainer, module)["T"]
    torch.testing.assert_close(found, estimate_transition_matrix(probs, quantile=1.0), atol=1e-6, rtol=0)


@pytest.mark.parametrize("named", [True, False])
def test_T_is_estimated_on_training_and_validation_samples(
    named: bool, classifier: Make, make_trainer: Make, digits: Make
) -> None:
    """Also where the only validation loader has no name."""
    datamodule, module, trainer = digits(), classifier(), make_trainer(max_epochs=1)
    train_loader, held_out = indexed(foreign_loader(datamodule)), foreign_loader(datamodule)
    trainer.fit(module, train_loader, {"val": held_out} if named else held_out)
    loaders = ForwardCorrection()._scoring_loaders(trainer)
    assert [len(loader.dataset) for loader in loaders] == [len(datamodule.train_indices)] * 2  # type: ignore[arg-type]


def test_T_from_a_file_is_reported(tmp_path: Path) -> None:
    np.save(tmp_path / "T.npy", PAIRFLIP.numpy())
    experiment = run(tmp_path, "method=forward", "method.T=file", f"method.path={tmp_path / 'T.npy'}")
    torch.testing.assert_close(experiment.artifacts["T"], PAIRFLIP.float())


def test_the_report_says_how_far_off_T_is(cli: Callable[..., Path], capsys: pytest.CaptureFixture[str]) -> None:
    folder = cli("method=forward", "noise=pairflip", "trainer=cpu", "trainer.max_epochs=2", "data.train_size=300")
    result = json.loads((folder / "result.json").read_text())["transition"]
    T = torch.load(folder / "cross_entropy.pt", weights_only=True)["T"]
    assert result["T"] == T.tolist()
    configured = torch.from_numpy(np.load(folder / "noise.npz")["T"])
    assert result["error"] == pytest.approx(float((T - configured).abs().sum() / 20))
    assert f"{100 * result['error']:.1f} %" in next(s for s in capsys.readouterr().out.splitlines() if "T as used" in s)
    with Image.open(folder / "transition.png") as image:
        assert image.width > 1.5 * image.height


def test_error_and_picture_of_a_transition_matrix(tmp_path: Path) -> None:
    assert transition_error(PAIRFLIP, PAIRFLIP) == 0
    assert transition_error(torch.eye(10), PAIRFLIP) == pytest.approx(0.3)
    hundred: dict[str, Tensor] = {"T": torch.eye(100)}
    draw_transitions(hundred, "a run", tmp_path / "T.png")
    assert (tmp_path / "T.png").stat().st_size > 5000
