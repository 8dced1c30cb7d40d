"""What the pages tell people to run, runs: Python blocks, commands and configurations."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import pytest
from hydra import compose, initialize_config_dir

from noisylabels_pl.cli.cells import make_cells
from tests.helpers import CONF, ROOT, composed

DOCS = ROOT / "docs"
# tests/test_recipe.py follows the recipe, and the blocks of testing.md are for files of tests.
PAGES = sorted({*DOCS.rglob("*.md")} - {DOCS / "add_a_method.md", DOCS / "testing.md"})
WITH_PYTHON = [page for page in PAGES if "```python" in page.read_text()]


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)


def _unbroken(block: str) -> list[str]:
    return block.replace("\\\n", " ").splitlines()


def commands() -> list[str]:
    """The lines that start this package's command line, without comments."""
    lines = [line for page in PAGES for block in blocks(page, "bash") for line in _unbroken(block)]
    return sorted({line for line in lines if re.search(r"-m noisylabels_pl(\.noise|\.sweep|\.search)? ", line)})


@pytest.fixture
def short_fits(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Trainers of six epochs, the last of which CRUST selects, in an empty folder."""
    make_trainer = L.Trainer

    def make_short_trainer(**options: Any) -> L.Trainer:
        quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
        return make_trainer(**options | quiet | {"max_epochs": 6, "accelerator": "cpu", "enable_model_summary": False})

    monkeypatch.setattr(L, "Trainer", make_short_trainer)
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("page", WITH_PYTHON, ids=lambda page: str(page.relative_to(DOCS)))
@pytest.mark.usefixtures("short_fits")
def test_python_blocks_run_one_after_the_other(page: Path) -> None:
    namespace: dict[str, Any] = {"__name__": "page"}
    for block in blocks(page, "python"):
        exec(compile(block, str(page), "exec"), namespace)


@pytest.mark.parametrize("command", commands())
def test_commands_compose(command: str) -> None:
    _, arguments = command.split("-m noisylabels_pl", 1)  # in front of it, options of srun and torchrun
    words = shlex.split(arguments, comments=True)
    overrides = [word for word in words if "=" in word and not word.startswith(("-", "hydra"))]
    if words[0] == ".search":  # its values are sets to choose from
        composed(*(override for override in overrides if not re.search(r"[(,]", override)))
    elif words[0] == ".sweep" or "-m" in words:
        assert make_cells(overrides, Path("sweeps"))
    else:
        composed(*overrides)


def test_the_configuration_of_a_new_dataset_composes(tmp_path: Path) -> None:
    (text,) = blocks(DOCS / "add_a_dataset.md", "yaml")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "wine.yaml").write_text(text)
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("config", ["data=wine", f"hydra.searchpath=[file://{tmp_path}]"])
    assert config.keys() == composed().keys()
    assert config.data.keys() == composed("data=base").data.keys()


def _written(page: Path, folder: Path) -> list[str]:
    """Write the files that a page shows, each after its path in backticks; return the names of the configurations."""
    named = re.compile(r"`([\w/]+\.(?:yaml|py))`[^`]*```\w+\n(.*?)^```$", re.MULTILINE | re.DOTALL)
    for name, text in named.findall(page.read_text()):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return sorted(path.stem for path in folder.glob("my_conf/data/*.yaml"))


@pytest.mark.parametrize(
    ("page", "names"), [("torch_datasets", ["fake", "spirals"]), ("own_configuration", ["pets", "wine"])]
)
def test_files_of_your_own(
    page: str, names: list[str], cli: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    assert _written(DOCS / f"{page}.md", tmp_path) == names
    (tmp_path / "wine.py").write_text(blocks(DOCS / "add_a_dataset.md", "python")[0])
    (tmp_path / "pets.csv").write_text("species,weight\n" + "cat,4\ndog,20\n" * 20)
    for name in names:
        folder = cli(
            "--config-dir", "my_conf", f"data={name}", "method=ce", "noise=sym", "data.num_workers=0",
            "trainer.max_epochs=1", "trainer=cpu", folder=name,
        )  # fmt: skip
        result = json.loads((folder / "result.json").read_text())
        assert result["epochs"] == 1
        assert result["data"]["train_samples"] > 20
