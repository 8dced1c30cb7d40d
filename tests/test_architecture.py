"""Who may import whom (docs/architecture.md)."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1] / "noisylabels_pl"
DRAWN = (ROOT.parent / "docs" / "architecture.md").read_text()
PICTURE = re.findall(r"^  (\w+) --> (\w+)$", DRAWN, re.MULTILINE)
DOORS = (
    "noise",
    "resume",
    "search",
    "sweep",
    "table",
)  # of the package, for python -m; each hands over to a module of cli
LAYERS = {path.stem for path in ROOT.iterdir() if path.suffix in ("", ".py") and not path.name.startswith("__")}
LAYERS -= set(DOORS)
FILES = sorted(path for path in ROOT.rglob("*.py") if path.parent != ROOT or path.stem in LAYERS)


def layer_of(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def below(layer: str) -> set[str]:
    """What the picture lets a layer import: what its arrows point to, and what lies behind that."""
    direct = {target for source, target in PICTURE if source == layer}
    return direct.union(*map(below, direct))


def imported(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: relative imports would not be seen here"
            names.add(node.module or "")
    assert "noisylabels_pl" not in names or layer_of(path) == "cli", f"{path}: import from the module, not the package"
    return names


def imported_layers(path: Path) -> set[str]:
    return {name.split(".")[1] for name in imported(path) if name.startswith("noisylabels_pl.")} - {layer_of(path)}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_layers(path: Path) -> None:
    layer, names = layer_of(path), imported(path)
    assert imported_layers(path) <= below(layer)
    if layer != "cli":
        assert not any(name.split(".")[0] in ("hydra", "omegaconf") for name in names)
    if layer == "methods" and path.stem != "__init__":
        assert not [name for name in names if name.startswith("noisylabels_pl.methods")]
    if layer in ("functional", "per_sample"):
        foreign = {name.split(".")[0] for name in names} - {"noisylabels_pl"}
        allowed = {"numba", "numpy"} if path.stem.endswith("_numba") else set()
        assert foreign <= {"torch", *allowed, *sys.stdlib_module_names}


# Calls that open files or change the state of a process.
IMPURE = {
    *("open", "read_text", "write_text", "read_bytes", "write_bytes", "load", "save", "savez", "loadtxt"),
    *("manual_seed", "seed", "set_default_dtype", "set_default_device", "set_num_threads", "setattr", "putenv"),
}


def impurities(path: Path) -> list[str]:
    """Module definitions, file access and global state in a file, with their lines."""
    nodes = list(ast.walk(ast.parse(path.read_text())))
    modules = {alias.asname or alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    found: list[tuple[int, str]] = []
    for node in nodes:
        if isinstance(node, ast.ClassDef) and any("Module" in ast.unparse(base) for base in node.bases):
            found.append((node.lineno, f"class {node.name}"))
        elif isinstance(node, ast.Global):
            found.append((node.lineno, f"global {', '.join(node.names)}"))
        elif isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] in IMPURE:
            found.append((node.lineno, f"{ast.unparse(node.func)}()"))
        elif isinstance(node, (ast.Assign, ast.AugAssign)):
            for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
                if isinstance(target, ast.Attribute) and ast.unparse(target).split(".")[0] in modules:
                    found.append((node.lineno, f"{ast.unparse(target)} = ..."))
    return [f"{line}: {what}" for line, what in sorted(found)]


@pytest.mark.parametrize("path", sorted((ROOT / "functional").rglob("*.py")), ids=lambda path: path.stem)
def test_functional_is_pure(path: Path) -> None:
    """Tensors in, tensors out: no nn.Module, no file, no global state."""
    found = [line.split(": ")[1] for line in impurities(path)]
    if path.stem == "greedy_numba":  # numba's threads change torch's number when they start, and it is set back
        assert set(found) == {"numba.set_num_threads()", "torch.set_num_threads()"}
    else:
        assert not found


def test_impurities_are_found(tmp_path: Path) -> None:
    file = tmp_path / "impure.py"
    file.write_text(
        "import torch\nfrom torch import nn\nclass A(nn.Module):\n    pass\ndef f():\n    global x\n"
        "    open('x')\n    torch.manual_seed(0)\n    torch.backends.cudnn.benchmark = True\n"
    )
    assert impurities(file) == [
        "3: class A",
        "6: global x",
        "7: open()",
        "8: torch.manual_seed()",
        "9: torch.backends.cudnn.benchmark = ...",
    ]


def test_the_picture_shows_all_layers_and_no_import_that_is_not_there() -> None:
    assert {layer for arrow in PICTURE for layer in arrow} | {"nets"} == LAYERS  # nets import nothing of ours
    for source, target in PICTURE:
        assert any(target in imported_layers(path) for path in FILES if layer_of(path) == source), (source, target)
        assert source not in below(target)


@pytest.mark.parametrize("door", DOORS)
def test_a_door_only_opens(door: str) -> None:
    path = ROOT / f"{door}.py"
    assert imported(path) == {f"noisylabels_pl.cli.{door}"}
    assert len(path.read_text().splitlines()) < 8


def run(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def test_kernels_need_torch_alone() -> None:
    """With all other dependencies out of reach."""
    dependencies = (
        "lightning",
        "torchmetrics",
        "hydra",
        "omegaconf",
        "sklearn",
        "torchvision",
        "numba",
        "rich",
        "wandb",
    )
    printed = run(
        f"import sys; sys.modules.update(dict.fromkeys({dependencies!r}));"
        "from noisylabels_pl.functional import centrality; from noisylabels_pl.per_sample import GradientNorms;"
        "import torch; print(len(centrality(torch.rand(9, 2), 3).indices))"
    )
    assert printed.strip() == "3"


@cache
def modules_after_importing(module: str) -> set[str]:
    """The names of all modules that a new process holds then."""
    return set(run(f"import sys, {module}; print(*sys.modules)").split())


@pytest.mark.parametrize(
    ("module", "unwanted"),
    [
        ("noisylabels_pl", "torch"),
        ("noisylabels_pl.cli.main", "torch"),
        ("noisylabels_pl.data", "wandb"),
        ("noisylabels_pl.data", "sklearn.datasets"),
        ("noisylabels_pl.report.curves", "matplotlib"),
    ],
)
def test_heavy_imports_happen_where_they_are_used(module: str, unwanted: str) -> None:
    loaded = modules_after_importing(module)
    assert module in loaded
    assert unwanted not in loaded


def test_public_names() -> None:
    import noisylabels_pl

    for name in noisylabels_pl.__all__:
        assert getattr(noisylabels_pl, name) is not None
    with pytest.raises(AttributeError, match="nonsense"):
        _ = noisylabels_pl.nonsense


def test_selecting_leaves_torch_its_number_of_threads() -> None:
    """Or a run that selects would round differently from then on, and a resumed one from its first step."""
    printed = run(
        "import torch; from noisylabels_pl.functional import centrality; torch.set_num_threads(1);"
        "centrality(torch.rand(200, 2), 9); print(torch.get_num_threads())"
    )
    assert printed.strip() == "1"
