"""The pages of the public names, which Sphinx fills from the docstrings."""

from __future__ import annotations

import ast
import importlib

from docs._pages.methods import ROOT

HEADER = "<!-- Written by python -m docs.generate. -->"
API_PACKAGES = ("functional", "losses", "per_sample", "data", "core", "callbacks", "metrics", "nets")
# Names that docstrings refer to, besides those that a package lists.
API_MORE = {
    "core": ("core.loss_interception.LossInterception", "core.loss_recorder.LossRecorder"),
    "data": (
        "data.augment.Augmentation",
        "data.augment.PaddedImages",
        "data.class_cap.ClassCap",
        "data.datasets.column_data.ColumnData",
        "data.datasets.ilsvrc.read_ilsvrc_validation",
        "data.files.read_probabilities",
        "data.files.read_transition_matrix",
        "data.noise.base.Draw",
        "data.noise.base.DrawnNoise",
        "data.noise.label_files.read_label_file",
        "data.noise.regions.choose_region",
        "data.noise.noise_input.NoiseInput",
        "data.resident.ResidentDataset",
        "data.resident.ResidentRows",
        "data.samples.StoredSamples",
        "data.tables.Table",
        "data.texts.encode_texts",
    ),
    "nets": ("nets.hf_net.LogitsOfTransformer",),
}


def api_index_page() -> str:
    """Return the page of the names that ``import noisylabels_pl`` offers."""
    lines = [HEADER, "", "# API", ""]
    lines += ["`import noisylabels_pl` offers the names on this page. The packages have more:", "", "```{toctree}"]
    lines += [":maxdepth: 1", ""]
    lines += [*API_PACKAGES, "```", "", "```{eval-rst}", ".. currentmodule:: noisylabels_pl", ""]
    for name in sorted(public_names(), key=str.lower):
        lines += [_auto(f"noisylabels_pl.{name}"), ""]
    return "\n".join([*lines, "```", ""])


def api_page(package: str) -> str:
    """Return the page of a package, without the names that are on the first page."""
    package_name = f"noisylabels_pl.{package}"
    module = importlib.import_module(package_name)
    elsewhere = sorted(public_names() & set(getattr(module, "__all__", ())))
    lines = [HEADER, "", f"# {package_name}", ""]
    if elsewhere:
        lines += [
            f"On [the first page](index.md): {', '.join(f'{{py:obj}}`~noisylabels_pl.{x}`' for x in elsewhere)}.",
            "",
        ]
    lines += ["```{eval-rst}", f".. automodule:: {package_name}"]
    if elsewhere:
        lines.append(f"   :exclude-members: {', '.join(elsewhere)}")
    if package == "functional":
        lines += ["", ".. py:module:: noisylabels_pl.functional.losses"]  # a docstring refers to it
    for other in API_MORE.get(package, ()):
        lines += ["", _auto(f"noisylabels_pl.{other}")]
    return "\n".join([*lines, "```", ""])


def public_names() -> set[str]:
    """Return the names that ``import noisylabels_pl`` offers."""
    stub = ast.parse((ROOT / "noisylabels_pl" / "__init__.pyi").read_text())
    return {alias.name for node in stub.body if isinstance(node, ast.ImportFrom) for alias in node.names}


def _auto(name: str) -> str:
    """Return the directive that documents a class or a function."""
    kind = "autoclass" if name.rpartition(".")[2][0].isupper() else "autofunction"
    return f".. {kind}:: {name}"
