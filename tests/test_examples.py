"""Every example runs as it is, leaves nothing behind, and its method resists wrong labels."""

from __future__ import annotations

import ast
import json
import logging
import runpy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from noisylabels_pl import Crust
from noisylabels_pl.core import Scores
from noisylabels_pl.functional import centrality, logit_gradient

EXAMPLES = Path(__file__).parents[1] / "examples"
ONE_FILE = EXAMPLES / "crust_cifar10_in_one_file.py"
NOTEBOOK = EXAMPLES / "notebook.ipynb"
SCRIPTS = sorted(path.name for path in EXAMPLES.glob("*.py") if path != ONE_FILE)


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(logging.getLogger("lightning.pytorch"), "level", logging.WARNING)
    return tmp_path


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script(name: str, empty_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if name == "hugging_face.py":
        pytest.importorskip("transformers", reason="needs transformers: pip install transformers")
    script = runpy.run_path(str(EXAMPLES / name), run_name="__main__")
    if name == "kernels_only.py":
        assert script["precision"] > script["share_right"] + 0.2
        assert abs(script["estimated"].diagonal().mean() - script["T"].diagonal().mean()) < 0.15
    else:
        assert script.get("robust", script.get("pair")) > script["plain"]
    assert capsys.readouterr().out.strip()
    assert not list(empty_folder.iterdir())


@pytest.mark.parametrize("name", [*SCRIPTS, ONE_FILE.name])
def test_a_script_says_how_to_run_it(name: str) -> None:
    source = (EXAMPLES / name).read_text()
    assert f"python examples/{name}" in (ast.get_docstring(ast.parse(source)) or "")
    assert len(source.splitlines()) <= (190 if name == ONE_FILE.name else 75)


def test_the_index_names_every_example() -> None:
    index = (EXAMPLES / "README.md").read_text()
    for path in EXAMPLES.iterdir():
        if path.suffix in (".py", ".ipynb"):
            assert f"| [{path.name}]({path.name}) | " in index


# CRUST in one file ------------------------------------------------------------------------------------


@pytest.fixture
def one_file(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The functions of the file, on the CPU."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    return runpy.run_path(str(ONE_FILE))


def make_scores(scale: float) -> tuple[Tensor, Tensor]:
    """Logits that agree with most labels, and some samples twice; class 9 is never predicted."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(9, (1500,), generator=generator)
    logits = torch.randn(1500, 10, generator=generator) + 2 * torch.eye(10)[labels]
    logits[:, 9] = -5.0
    logits *= scale
    logits[100:200] = logits[:100]
    labels[100:200] = labels[:100]
    return logits, torch.where(torch.rand(1500, generator=generator) < 0.3, (labels + 1) % 10, labels)


@pytest.mark.parametrize("scale", [1.0, 4.0])
@pytest.mark.parametrize("fraction", [0.5, 0.29])
def test_the_one_file_selects_what_the_library_selects(one_file: dict[str, Any], scale: float, fraction: float) -> None:
    logits, labels = make_scores(scale)
    selected, _ = one_file["select"](logits, labels, fraction)
    selection = Crust(fraction).select(torch.nn.Identity(), Scores(logits, labels), epoch=5)
    # With larger logits, mean distances differ by less than float32 resolves, and rounding would decide the order.
    assert selected.tolist() == selection.indices.tolist()


def test_the_one_file_draws_partners_from_the_same_clusters(one_file: dict[str, Any]) -> None:
    logits, labels = make_scores(1.0)
    selected, partners = one_file["select"](logits, labels)
    selection = Crust().select(torch.nn.Identity(), Scores(logits, labels), epoch=5)
    assert (partners == selected).tolist() == (selection.partners == selection.indices).tolist()
    assert (partners != selected).float().mean() > 0.05
    for label in range(9):
        members = torch.where(logits.argmax(1) == label)[0]
        coreset = centrality(logit_gradient(logits, labels)[members], len(members) // 2)
        drawn = partners[torch.isin(selected, members)]
        assert coreset.assignment[torch.searchsorted(members, drawn)].tolist() == [*range(len(drawn))]


def test_the_one_file_trains(one_file: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    torch.manual_seed(0)
    train_set, test_set = one_file["make_pictures"]()
    noisy = one_file["with_wrong_labels"](train_set[1])
    assert 0.4 < (noisy != train_set[1]).float().mean() < 0.6
    options = {"epochs": 10, "blocks_per_stage": 1, "crust": True}
    accuracy = one_file["train"](train_set, noisy, test_set, **options)
    lines = capsys.readouterr().out.splitlines()
    share_right = [float(line.split("samples, ")[1].split("%")[0]) for line in lines]
    assert len(lines) == 10
    assert share_right[-1] > share_right[0] + 20
    assert accuracy > 0.3  # chance is 0.1


def test_the_one_file_reads_cifar10(one_file: dict[str, Any]) -> None:
    class Tiny:
        def __init__(self, folder: str, *, train: bool, download: bool) -> None:
            size = 3 if train else 2
            self.data = torch.arange(size * 32 * 32 * 3).view(size, 32, 32, 3).to(torch.uint8).numpy()
            self.targets = [7] * size

    one_file["load_cifar10"].__globals__["CIFAR10"] = Tiny
    (images, labels), (test_images, _) = one_file["load_cifar10"]("data")
    assert images.shape == (3, 3, 32, 32)
    assert images[1, 2, 3, 4] == (1 * 32 * 32 * 3 + 3 * 32 * 3 + 4 * 3 + 2) % 256
    assert labels.tolist() == [7, 7, 7]
    assert test_images.shape == (2, 3, 32, 32)
    network = one_file["resnet"](blocks_per_stage=5)
    assert one_file["predict"](network, images).shape == (3, 10)
    assert sum(isinstance(module, (torch.nn.Conv2d, torch.nn.Linear)) for module in network.modules()) == 32


def test_the_one_file_crops_and_flips(one_file: dict[str, Any]) -> None:
    torch.manual_seed(0)
    image = torch.arange(1, 1 + 3 * 16 * 16).view(1, 3, 16, 16)
    padded = torch.nn.functional.pad(image, (2, 2, 2, 2))[0]
    crops = [padded[:, row : row + 16, column : column + 16] for row in range(5) for column in range(5)]
    possible = {tuple(variant.flatten().tolist()) for crop in crops for variant in (crop, crop.flip(2))}
    augmented = one_file["crop_and_flip"](image.expand(400, -1, -1, -1))
    assert {tuple(variant.flatten().tolist()) for variant in augmented} == possible


# The notebook -----------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_the_cells_of_the_notebook_run_as_a_script() -> None:
    import matplotlib.pyplot as plt

    plt.switch_backend("agg")
    cells = json.loads(NOTEBOOK.read_text())["cells"]
    code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    names: dict[str, Any] = {"__name__": "__main__"}
    exec(compile("\n\n".join(code), str(NOTEBOOK), "exec"), names)
    plt.close("all")
    assert names["robust"].test_accuracy[-1] > names["plain"].test_accuracy[-1]
    is_wrong = names["is_wrong"]
    assert is_wrong[names["suspects"]].float().mean() > is_wrong.float().mean() + 0.3


def test_the_notebook_runs_in_jupyter() -> None:
    nbclient = pytest.importorskip("nbclient", reason="needs Jupyter: pip install nbclient ipykernel")
    pytest.importorskip("ipykernel", reason="needs Jupyter: pip install nbclient ipykernel")
    nbformat = pytest.importorskip("nbformat")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbclient.NotebookClient(notebook, timeout=300, kernel_name="python3").execute()
    assert "with ELR" in notebook.cells[-1].outputs[0].text


def test_the_notebook_is_stored_without_outputs() -> None:
    for cell in json.loads(NOTEBOOK.read_text())["cells"]:
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None
