"""What fits of several stages hand on, and what of it survives an interruption."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from torch import nn

from noisylabels_pl.core import Artifacts, Stage, run_stages

Make = Callable[..., Any]
NAMES = ("estimate", "clean", "train")


class PowerError(Exception):
    """Fails."""


class Run:
    """Three stages whose artifacts are the value of the run, plus the sum of those that they were given."""

    def __init__(self, folder: Path, make_trainer: Make, classifier: Make, digits: Make) -> None:
        self.folder, self.make_trainer, self.classifier, self.digits = folder, make_trainer, classifier, digits
        self.fitted: list[str] = []
        self.given: dict[str, Artifacts] = {}

    def __call__(self, value: float, *, resume: bool = False, fails: str = "", when: str = "fit") -> Artifacts:
        """The stage ``fails`` raises, in its ``fit`` or while it would ``outputs``."""
        self.fitted, self.given = [], {}

        def stage(name: str) -> Stage:
            def outputs(trainer: L.Trainer, module: L.LightningModule) -> Artifacts:
                if (name, when) == (fails, "outputs"):
                    raise PowerError
                assert trainer.lightning_module is module
                return {f"{name} result": torch.tensor(value) + sum(self.given[name].values())}

            return Stage(name, lambda artifacts: nn.CrossEntropyLoss(), outputs)

        def fit(stage: Stage, artifacts: Artifacts) -> tuple[L.Trainer, L.LightningModule]:
            self.fitted.append(stage.name)
            self.given[stage.name] = dict(artifacts)
            trainer, module = self.make_trainer(max_epochs=1), self.classifier(criterion=stage.method(artifacts))
            trainer.fit(module, datamodule=self.digits())
            if (stage.name, when) == (fails, "fit"):
                raise PowerError
            return trainer, module

        return run_stages([stage(name) for name in NAMES], self.folder, fit, resume=resume)

    def interrupted(self, value: float, **options: Any) -> None:
        with pytest.raises(PowerError):
            self(value, **options)


@pytest.fixture
def run(tmp_path: Path, make_trainer: Make, classifier: Make, digits: Make) -> Run:
    (tmp_path / "run").mkdir()
    return Run(tmp_path / "run", make_trainer, classifier, lambda: digits(train_size=50))


def numbers(artifacts: Artifacts) -> dict[str, float]:
    return {name.removesuffix(" result"): float(value) for name, value in artifacts.items()}


def test_every_stage_is_given_what_all_stages_before_it_handed_on(run: Run) -> None:
    artifacts = run(1)
    assert run.fitted == list(NAMES)
    assert [numbers(run.given[name]) for name in NAMES] == [{}, {"estimate": 1}, {"estimate": 1, "clean": 2}]
    assert numbers(artifacts) == {"estimate": 1, "clean": 2, "train": 4}
    assert numbers(torch.load(run.folder / "estimate.pt", weights_only=True)) == {"estimate": 1}
    assert numbers(torch.load(run.folder / "clean.pt", weights_only=True)) == {"clean": 2}


@pytest.mark.parametrize("when", ["fit", "outputs"])
@pytest.mark.parametrize("fails", NAMES)
def test_resuming_fits_what_is_not_finished(run: Run, fails: str, when: str) -> None:
    run.interrupted(1, fails=fails, when=when)
    done = NAMES.index(fails)
    assert [name for name in NAMES if (run.folder / f"{name}.pt").exists()] == list(NAMES[:done])
    artifacts = run(10, resume=True)
    assert run.fitted == list(NAMES[done:])
    expected = [[10, 20, 40], [1, 11, 22], [1, 2, 13]][done]
    assert numbers(artifacts) == dict(zip(NAMES, expected, strict=True))
    assert numbers(run.given["train"]) == dict(zip(NAMES[:2], expected, strict=False))


@pytest.mark.parametrize("resume", [True, False])
def test_after_a_finished_run(run: Run, resume: bool) -> None:
    run(1)
    artifacts = run(10, resume=resume)
    assert run.fitted == (["train"] if resume else list(NAMES))
    assert list(numbers(artifacts).values()) == ([1, 2, 13] if resume else [10, 20, 40])
    assert numbers(torch.load(run.folder / "clean.pt")) == ({"clean": 2} if resume else {"clean": 20})


@pytest.mark.parametrize("fails", NAMES[:2])
def test_resuming_a_new_run_takes_nothing_of_an_older_run_in_its_folder(run: Run, fails: str) -> None:
    run(1)
    run.interrupted(10, fails=fails)
    assert numbers(run(10, resume=True)) == {"estimate": 10, "clean": 20, "train": 40}
    assert run.fitted == list(NAMES[NAMES.index(fails) :])


def test_a_file_that_was_written_in_half_is_no_finished_stage(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    save = torch.save

    def half(value: Any, file: Any, *args: Any, **options: Any) -> None:
        whole = io.BytesIO()
        save(value, whole, *args, **options)
        written = whole.getvalue()[: len(whole.getvalue()) // 2]
        file.write(written) if hasattr(file, "write") else Path(file).write_bytes(written)
        raise PowerError

    with monkeypatch.context() as patched:
        patched.setattr(torch, "save", half)
        run.interrupted(1)
    assert run.fitted == ["estimate"]
    assert numbers(run(10, resume=True)) == {"estimate": 10, "clean": 20, "train": 40}


@pytest.mark.parametrize(
    ("names", "artifact", "message", "fitted"),
    [
        (("first", "second", "first"), "of {}", "first", 0),
        (("first", "second", "third"), "soft labels", "second.*soft labels", 2),
    ],
    ids=["stages", "artifacts"],
)
def test_names_are_used_once(run: Run, names: Sequence[str], artifact: str, message: str, fitted: int) -> None:
    fits: list[str] = []

    def stage(name: str) -> Stage:
        return Stage(name, lambda artifacts: None, lambda trainer, module: {artifact.format(name): torch.ones(2)})

    def fit(stage: Stage, artifacts: Artifacts) -> tuple[L.Trainer, L.LightningModule]:
        fits.append(stage.name)
        return run.make_trainer(), run.classifier()

    with pytest.raises(ValueError, match=message):
        run_stages([stage(name) for name in names], run.folder, fit)
    assert len(fits) == fitted
    assert not (run.folder / "second.pt").exists()  # or it would pass for finished once the name is put right
