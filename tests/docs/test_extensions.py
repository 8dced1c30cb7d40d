"""The parts of the site that Sphinx does not bring: graphs, and links to files of the repository."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import pytest

from tests.helpers import ROOT

EXTENSIONS = ROOT / "docs" / "_ext"


@pytest.fixture
def graph_layout(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.setattr(sys, "path", [str(EXTENSIONS), *sys.path])
    import graph_layout

    return graph_layout


@pytest.fixture
def repository_links(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.setattr(sys, "path", [str(EXTENSIONS), *sys.path])
    import repository_links

    return repository_links


def test_an_arrow_points_to_a_later_layer_and_passes_no_node(graph_layout: ModuleType) -> None:
    edges = [graph_layout.Edge(*pair) for pair in ("ab", "bc", "ac")]
    graph = graph_layout.Graph("LR", {name: name for name in "abc"}, edges)
    layout = graph_layout.lay_out(graph)
    assert layout.places["a"][0] < layout.places["b"][0] < layout.places["c"][0]
    (bend,) = edges[2].path[1:-1]
    assert layout.places[bend][0] == layout.places["b"][0]
    assert layout.places[bend][1] != layout.places["b"][1]


def test_directions(graph_layout: ModuleType) -> None:
    def places(direction: str) -> dict[str, tuple[float, float]]:
        edges = [graph_layout.Edge("a", "b")]
        found: dict[str, tuple[float, float]] = graph_layout.lay_out(
            graph_layout.Graph(direction, {"a": "a", "b": "b"}, edges)
        ).places
        return found

    assert places("LR")["a"][0] < places("LR")["b"][0]
    assert places("RL")["a"][0] > places("RL")["b"][0]
    assert places("TD")["a"][1] < places("TD")["b"][1]


def test_a_cycle_is_refused(graph_layout: ModuleType) -> None:
    graph = graph_layout.Graph("LR", {"a": "a", "b": "b"}, [graph_layout.Edge("a", "b"), graph_layout.Edge("b", "a")])
    with pytest.raises(ValueError, match="the graph has a cycle"):
        graph_layout.lay_out(graph)


def test_links_lead_to_pages_files_or_nowhere(repository_links: ModuleType) -> None:
    pages = repository_links.pages_of_files()

    def adapted(text: str, file: str) -> str:
        result: str = repository_links.adapt(text, ROOT / file, pages)
        return result

    elr = "experiments/elr/README.md"
    assert adapted("[ELR](../experiments/elr/README.md#x)", "docs/drop_in.md") == "[ELR](/results/elr.md#x)"
    assert adapted("[how](../../docs/drop_in.md)", elr) == "[how](/drop_in.md)"
    assert adapted("[folder](../digits)", elr) == "[folder](/results/digits.md)"
    assert adapted("[code](../tests/helpers.py)", "docs/drop_in.md") == "[code](/../tests/helpers.py)"
    assert adapted("[top](../../README.md)", elr) == "top"
    for other in ("[paper](https://arxiv.org/abs/1)", "[gone](gone.md)", "rows[i](x)"):
        assert adapted(other, elr) == other


def test_every_included_file_exists(repository_links: ModuleType) -> None:
    missing = [file for file in repository_links.pages_of_files() if not Path(file).is_file()]
    assert missing == []
