"""Who may import whom (docs/architecture.md)."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1] / "noisylabels_pl"
ALLOWED = {
    "functional": set(),
    "losses": {"functional"},
    "metrics": {"functional"},
    "nets": {"functional"},
    "data": {"functional"},
    "core": {"functional", "data", "metrics"},
    "methods": {"core", "functional", "data", "losses"},
    "callbacks": {"metrics", "data", "functional"},
    "report": {"callbacks", "metrics", "data", "functional"},
}
FILES = sorted(path for path in ROOT.rglob("*.py") if path.parent != ROOT or path.stem in ALLOWED)


def imported(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module or "")
    return names


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_layers(path: Path) -> None:
    layer = path.relative_to(ROOT).parts[0].removesuffix(".py")
    names = imported(path)
    own = {name.split(".")[1] for name in names if name.startswith("noisylabels_pl.")} - {layer}
    if layer != "cli":
        assert own <= ALLOWED[layer]
        assert not any(name.split(".")[0] in ("hydra", "omegaconf") for name in names)
    if layer == "methods":
        siblings = {name.split(".")[2] for name in names if name.startswith("noisylabels_pl.methods.")}
        assert path.stem == "__init__" or not siblings
    if layer == "functional":
        foreign = {name.split(".")[0] for name in names} - {"noisylabels_pl"}
        assert foreign <= {"torch", "numba", *sys.stdlib_module_names}


def run(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def test_functional_works_without_lightning() -> None:
    printed = run(
        "import sys; sys.modules.update({n: None for n in ('lightning', 'torchmetrics', 'hydra', 'sklearn')});"
        "from noisylabels_pl.functional import centrality; import torch;"
        "print(len(centrality(torch.rand(9, 2), 3).indices))"
    )
    assert printed.strip() == "3"


@pytest.mark.parametrize(
    ("module", "unwanted"),
    [
        ("noisylabels_pl", "torch"),
        ("noisylabels_pl.cli.run", "torch"),
        ("noisylabels_pl.data", "wandb"),
        ("noisylabels_pl.data", "sklearn.datasets"),
        ("noisylabels_pl.report.curves", "matplotlib"),
    ],
)
def test_heavy_imports_happen_where_they_are_used(module: str, unwanted: str) -> None:
    assert run(f"import sys, {module}; print({unwanted!r} in sys.modules)").strip() == "False"


def test_public_names() -> None:
    import noisylabels_pl

    for name in noisylabels_pl.__all__:
        assert getattr(noisylabels_pl, name) is not None
    with pytest.raises(AttributeError, match="nonsense"):
        _ = noisylabels_pl.nonsense
