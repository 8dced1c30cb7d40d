"""Searching hyper-parameters on the noisy validation split."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from noisylabels_pl.cli.cells import SweepCell
from noisylabels_pl.cli.search import _suggest, main, open_study, validation_score

optuna = pytest.importorskip("optuna", reason="needs optuna: pip install optuna")


def parse(*overrides: str) -> list[object]:
    return OverridesParser.create().parse_overrides(list(overrides))  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("override", "low", "high", "is_whole"),
    [
        ("optim.lr=interval(0.1,0.3)", 0.1, 0.3, False),
        ("optim.lr=tag(log,interval(0.001,1))", 0.001, 1.0, False),
        ("method.warmup_epochs=int(interval(1,5))", 1, 5, True),
        ("data.batch_size=16,32", 16, 32, True),
        ("method.warmup_epochs=range(1,4)", 1, 3, True),
    ],
)
def test_values_come_from_the_set(override: str, low: float, high: float, is_whole: bool, tmp_path: Path) -> None:
    (parsed,) = parse(override)
    study = open_study(tmp_path, [parsed])  # type: ignore[list-item]
    values = []
    for _ in range(12):
        key, _, value = _suggest(study.ask(), parsed).partition("=")  # type: ignore[arg-type]
        assert key == override.partition("=")[0]
        values.append(float(value))
        assert value.isdigit() == is_whole
    assert low <= min(values) < max(values) <= high


def test_an_interrupted_trial_is_tried_again(tmp_path: Path) -> None:
    space = parse("optim.lr=interval(0.1,0.3)")
    _suggest(interrupted := open_study(tmp_path, space).ask(), space[0])  # type: ignore[arg-type]
    again = open_study(tmp_path, space).ask()  # type: ignore[arg-type]
    _suggest(again, space[0])  # type: ignore[arg-type]
    assert again.params == interrupted.params


def test_the_score_is_of_the_noisy_validation_split(tmp_path: Path) -> None:
    def save(**history: list[float | None]) -> SweepCell:
        (tmp_path / "result.json").write_text(json.dumps({"metric": "acc", "history": history}))
        return SweepCell(("method=ce",), tmp_path)

    assert validation_score(save(**{"val/acc": [0.1, None, 0.3, 0.2], "test/acc": [0.9, 0.9, 0.9, 0.9]})) == 0.3
    with pytest.raises(ValueError, match=r"no validation split to choose by; set data\.val_fraction"):
        validation_score(save(**{"test/acc": [0.9]}))


def test_the_command_goes_on_where_it_was(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["method=ce", "trainer.max_epochs=2", "data.train_size=100", "threads=1", "optim.lr=interval(0.01,0.3)"]
    arguments.insert(1, f"--folder={tmp_path}")  # options may stand between overrides
    main([*arguments, "--trials=1"])
    first = capsys.readouterr().out
    assert first.count("finished: ") == 1
    assert "python -m noisylabels_pl method=ce trainer.max_epochs=2 data.train_size=100 threads=1 optim.lr=0." in first
    main([*arguments, "--trials=2"])
    second = capsys.readouterr().out
    assert second.count("finished: ") == 1
    assert "best of 2 trials" in second
    scores = [float(line.split()[2]) for line in (first + second).splitlines() if line.startswith("trial ")]
    assert f"noisy-validation score {max(scores):.4f}" in second


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["method=ce"], "there is nothing to choose; give an option a set of values"),
        (
            ["method=ce", "optim.lr=interval(0.1,0.4)"],
            "has the search method=ce optim.lr=interval(0.1,0.3); name",
        ),
        (["optim.lr=interval(0.1"], "error: "),
    ],
)
def test_a_mistake_is_one_line(arguments: list[str], message: str, tmp_path: Path) -> None:
    open_study(tmp_path, parse("method=ce", "optim.lr=interval(0.1,0.3)"))  # type: ignore[arg-type]
    with pytest.raises(SystemExit) as error:
        main([*arguments, f"--folder={tmp_path}"])
    assert message in str(error.value)
    assert "\n" not in str(error.value)
