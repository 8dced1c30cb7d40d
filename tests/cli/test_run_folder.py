"""What may change when a run goes on, and which folders a run may use."""

from __future__ import annotations

from pathlib import Path

import pytest
from omegaconf import OmegaConf

from noisylabels_pl.cli.build import to_json
from noisylabels_pl.cli.run_folder import (
    Job,
    changed_keys,
    check_is_free,
    check_split,
    may_change,
    read_job,
    save_config,
    save_origin,
)
from tests.helpers import composed


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("optim.lr=0.5",), r"optim.lr=0.1, now optim.lr=0.5; start a new run, or leave all as it was but for resume,"),
        (("seed=1",), r"seed=0, now seed=1; .*data.seed=0, now data.seed=1"),
        (("noise.rate=0.2",), r"noise.rate=0.4, now noise.rate=0.2"),
        (("data.batch_size=64",), r"data.batch_size=32, now data.batch_size=64"),
        (("method=ce",), r"method._target_=noisylabels_pl.Crust, now method._target_=torch.nn.*and \d+ keys more"),
        (("+trainer.gradient_clip_val=1",), r"trainer.gradient_clip_val=\(not set\), now trainer.gradient_clip_val=1"),
        (("monitor=val/loss",), "monitor=val/acc, now monitor=val/loss"),
    ],
)
def test_what_differs_is_refused_with_both_values(overrides: tuple[str, ...], message: str) -> None:
    saved = to_json(composed())
    with pytest.raises(ValueError, match=f"^resume: run was trained with .*{message}") as info:
        changed_keys(composed(*overrides), saved, "run")
    assert "\n" not in str(info.value)


def test_what_may_change() -> None:
    saved = to_json(composed())
    overrides = ("trainer=cpu", "trainer.max_epochs=99", "logger=none", "threads=2", "data.num_workers=2", "name=x")
    keys = {"trainer.accelerator", "trainer.max_epochs", "threads", "data.num_workers", "name", "logger", "logger.csv"}
    assert changed_keys(composed(*overrides), saved, "run") == keys
    assert not may_change("trainer.max_epochs_")
    assert not may_change("data.path")


def test_the_number_of_processes_may_change_where_that_changes_nothing() -> None:
    check_split({"trainer.devices"}, depends_on_batch=False)
    check_split({"trainer.max_epochs"}, depends_on_batch=True)
    with pytest.raises(ValueError, match=r"trainer.devices, trainer.strategy must not change with this method"):
        check_split({"trainer.strategy", "trainer.devices"}, depends_on_batch=True)


def test_a_new_run_overwrites_no_other(tmp_path: Path) -> None:
    check_is_free(tmp_path / "new")
    (tmp_path / "count" / "checkpoints").mkdir(parents=True)
    check_is_free(tmp_path)
    (tmp_path / "count" / "checkpoints" / "last.ckpt").touch()
    with pytest.raises(ValueError, match=r"holds an interrupted run, .*hydra.sweep.dir\), or go on with it by resume"):
        check_is_free(tmp_path)
    (tmp_path / "result.json").touch()
    with pytest.raises(ValueError, match="holds a finished run, which a new one would overwrite; delete the folder"):
        check_is_free(tmp_path)


def test_paths_into_a_moved_folder_follow(tmp_path: Path) -> None:
    folder = tmp_path / "before"
    config = OmegaConf.create(
        {"seed": 1, "logger": {"csv": "metrics.csv", "a": {"dirs": [str(folder / "logs"), f"{folder}2"]}}}
    )
    save_origin(Job(folder, {"method": "ce", "hydra/launcher": "basic"}))
    save_config(config, folder)
    moved = folder.rename(tmp_path / "after")
    read, job, started_in = read_job(moved)
    assert read.logger == {"csv": "metrics.csv", "a": {"dirs": [str(moved / "logs"), f"{folder}2"]}}
    assert (job.folder, job.names, started_in) == (moved, {"method": "ce"}, Path.cwd())


@pytest.mark.parametrize("content", [b"", b"a: [1", b"\xff\xfe\x00", b"- 1"])
def test_damaged_configurations_are_named(content: bytes, tmp_path: Path) -> None:
    save_origin(Job(tmp_path, {}))
    with pytest.raises(ValueError, match=r"is not the folder of a run: it has no config.yaml"):
        read_job(tmp_path)
    (tmp_path / "config.yaml").write_bytes(content)
    with pytest.raises(ValueError, match=r"config.yaml is damaged: ") as info:
        read_job(tmp_path)
    assert "\n" not in str(info.value)
