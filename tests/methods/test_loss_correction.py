"""Loss correction in stages: where T comes from, and what is done with it, on real digits."""

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

from noisylabels_pl import BackwardCorrectionLoss, ForwardCorrectionLoss, LossCorrection
from noisylabels_pl.cli.train import Experiment, train
from noisylabels_pl.functional import backward_correction, estimate_transition_matrix, forward_correction
from noisylabels_pl.functional.transition import transition_matrix
from noisylabels_pl.methods.loss_correction import read_transition
from noisylabels_pl.report.transition import draw_transitions, transition_error
from tests.helpers import composed

Make = Callable[..., Any]
PAIRFLIP = transition_matrix("pairflip", 10, 0.3)


def run(folder: Path, *overrides: str) -> Experiment:
    common = ("trainer=cpu", "logger=none", "noise=pairflip", "noise.rate=0.3", "data.train_size=600")
    return train(composed(*common, "trainer.max_epochs=6", "optim.lr=0.3", *overrides), folder)


def test_a_known_T_takes_one_stage(tmp_path: Path) -> None:
    experiment = run(tmp_path, "method=forward", "method.T=known")
    torch.testing.assert_close(experiment.module.criterion.T, PAIRFLIP.float())
    assert not list(tmp_path.glob("cross_entropy*"))
    with pytest.raises(ValueError, match="this run's noise has no T that could be told"):
        train(composed("method=forward", "method.T=known", "noise=none", "trainer=cpu"), tmp_path)


def test_an_estimated_T_is_that_of_the_best_validation_epoch(tmp_path: Path) -> None:
    experiment = run(tmp_path, "method=forward", "method.quantile=0.97", "monitor=val/acc")
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
            estimates.append(estimate_transition_matrix(net.eval()(x).double().softmax(1), quantile=0.97))
    torch.testing.assert_close(experiment.artifacts["T"], estimates[0], atol=1e-5, rtol=0)
    assert not torch.allclose(estimates[0], estimates[1], atol=1e-3)
    torch.testing.assert_close(experiment.module.criterion.T, estimates[0].float(), atol=1e-5, rtol=0)


@pytest.mark.parametrize("warm_start", [False, True])
def test_the_second_stage_starts_afresh_unless_told_not_to(tmp_path: Path, warm_start: bool) -> None:
    run(tmp_path, "method=forward", f"method.warm_start={warm_start}", "optim.lr=0", "trainer.max_epochs=1")
    first = torch.load(tmp_path / "cross_entropy" / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    second = torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    assert torch.equal(first["net.1.weight"], second["net.1.weight"])  # lr 0: both are the seed's initial weights
    artifacts = torch.load(tmp_path / "cross_entropy.pt", weights_only=True)
    assert any(name.startswith("weights/") for name in artifacts) == warm_start
    module = nn.Module()
    module.net = nn.Linear(2, 2)
    method = LossCorrection(warm_start=warm_start)
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
    ("options", "expected"),
    [
        ({"correction": "forward"}, ForwardCorrectionLoss),
        ({"correction": "backward", "mix": 0.2}, BackwardCorrectionLoss),
        ({"correction": "forward", "base": "square"}, ForwardCorrectionLoss),
    ],
)
def test_the_criterion_is_the_kernel(options: dict[str, Any], expected: type[nn.Module]) -> None:
    loss = LossCorrection(T="known", **options).stages()[0].method({"T": PAIRFLIP})
    assert isinstance(loss, expected)
    logits, target = torch.randn(9, 10, generator=torch.Generator().manual_seed(0)), torch.arange(9)
    base = options.get("base", "ce")
    if expected is ForwardCorrectionLoss:
        wanted = forward_correction(logits, target, PAIRFLIP, base=base).mean()
    else:
        wanted = backward_correction(logits, target, PAIRFLIP, base=base, mix=0.2).mean()
    torch.testing.assert_close(loss(logits, target), wanted)
    torch.testing.assert_close(loss.observed(logits).exp(), logits.softmax(1) @ PAIRFLIP.float())


def test_backward_has_a_lower_bound_and_warns(caplog: pytest.LogCaptureFixture) -> None:
    T = torch.tensor([[0.51, 0.49], [0.49, 0.51]])
    loss = BackwardCorrectionLoss(T)
    assert "condition number 50" not in caplog.text
    BackwardCorrectionLoss(torch.tensor([[0.501, 0.499], [0.499, 0.501]]))
    assert "condition number 500; mix the identity in" in caplog.text
    values = [float(loss(torch.tensor([[0.0, scale]]), torch.tensor([1]))) for scale in (1e2, 1e4)]
    assert values[0] == values[1] < -300  # 25 times log 1e-7


def saved(folder: Path, name: str, **arrays: Any) -> str:
    np.savez(folder / name, **arrays)
    return str(folder / name)


def test_T_from_files(tmp_path: Path) -> None:
    T = PAIRFLIP.numpy()
    np.save(tmp_path / "T.npy", T)
    np.savetxt(tmp_path / "T.csv", T, delimiter=",")
    for path in (tmp_path / "T.npy", tmp_path / "T.csv", saved(tmp_path, "T.npz", T=T)):
        method = LossCorrection("backward", T="file", path=str(path))
        torch.testing.assert_close(method.stages()[0].method({}).T, PAIRFLIP.float())
    clean = np.repeat(np.arange(3), 4)
    pairs = saved(tmp_path, "pairs.npz", clean=clean, observed=np.array([0, 0, 0, 1, 1, 1, 1, 1, 2, 2, 0, 0]))
    method = LossCorrection("forward", T="trusted", path=pairs)
    expected = torch.tensor([[0.75, 0.25, 0], [0, 1, 0], [0.5, 0, 0.5]])
    torch.testing.assert_close(method.stages()[0].method({}).T, expected)
    with pytest.raises(ValueError, match="must hold T, or clean and observed; it holds x"):
        read_transition(saved(tmp_path, "x.npz", x=clean))
    with pytest.raises(FileNotFoundError, match=r"method.path: there is no file .*gone.npy"):
        read_transition("gone.npy")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"correction": "sideways"}, "method.correction must be one of forward, backward, got 'sideways'"),
        ({"T": "guessed"}, "method.T must be one of estimated, known, file, trusted, got 'guessed'"),
        ({"T": "file"}, "method.path goes with method.T=file or trusted, got T=file and path=None"),
        ({"path": "T.npy"}, "got T=estimated and path=T.npy"),
        ({"correction": "backward", "mix": 1.5}, r"method.mix must lie in \[0, 1\), got 1.5"),
        ({"quantile": 97}, r"method.quantile must lie in \(0, 1\] or be auto, got 97"),
        ({"quantile": "automatic"}, "or be auto, got automatic"),
        ({"base": "mae"}, "method.base must be one of ce, square, got 'mae'"),
        ({"T": "known", "warm_start": True}, "there is none with T=known"),
        ({"mix": 0.1}, r"method.mix is for the backward correction, got 0.1 with forward"),
    ],
)
def test_wrong_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LossCorrection(**options)


def test_T_that_cannot_be() -> None:
    with pytest.raises(ValueError, match="label 1 is never observed"):
        ForwardCorrectionLoss([[1.0, 0.0], [1.0, 0.0]])
    with pytest.raises(ValueError, match="condition number"):
        BackwardCorrectionLoss([[0.5, 0.5], [0.5, 0.5]])
    with pytest.raises(ValueError, match=r"T\[0\] must sum to 1"):
        ForwardCorrectionLoss([[0.5, 0.4], [0.0, 1.0]])


def test_T_estimated_on_other_inputs(classifier: Make, make_trainer: Make, digits: Make) -> None:
    datamodule, module = digits(), classifier()
    trainer = make_trainer(max_epochs=1)
    trainer.fit(module, datamodule=datamodule)
    others = datamodule.test_dataloader()
    method = LossCorrection(loader=others, quantile=1.0)
    x = torch.cat([batch[0] for batch in others])
    with torch.no_grad():
        probs = module.eval()((x.float() - datamodule.arrays.mean) / datamodule.arrays.std).double().softmax(1)
    found = method.stages()[0].outputs(trainer, module)["T"]
    torch.testing.assert_close(found, estimate_transition_matrix(probs, quantile=1.0), atol=1e-6, rtol=0)


def test_T_of_another_number_of_classes() -> None:
    for loss in (ForwardCorrectionLoss(torch.eye(9)), BackwardCorrectionLoss(torch.eye(9))):
        with pytest.raises(ValueError, match="T has 9 classes, but the network 10; give a T of as many"):
            loss(torch.zeros(2, 10), torch.tensor([9, 0]))


def test_half_precision_does_not_round_T() -> None:
    for loss in (ForwardCorrectionLoss(PAIRFLIP), BackwardCorrectionLoss(PAIRFLIP)):
        logits, target = torch.zeros(10, 10), torch.arange(10)
        expected = loss(logits, target)
        assert torch.equal(loss.bfloat16()(logits, target), expected)
        assert not loss.state_dict()


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
