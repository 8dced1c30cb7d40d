"""Generated pages of the site are those of the present code."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

import noisylabels_pl.losses
import noisylabels_pl.methods
from docs import generate
from docs._pages import method_pages
from docs._pages.methods import Option, methods, python_default
from noisylabels_pl.cli.table import table_of
from tests.helpers import options


@pytest.fixture(scope="module")
def pages() -> dict[Path, str]:
    return generate.pages()


@pytest.fixture
def copied_docs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A copy of the pages, for tests that change them."""
    docs = shutil.copytree(generate.DOCS, tmp_path / "docs", ignore=shutil.ignore_patterns("__pycache__", "images"))
    monkeypatch.setattr(generate, "DOCS", docs)
    return docs


def test_the_committed_pages_are_up_to_date(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["generate", "--check"])
    generate.main()


def test_check_names_old_and_surplus_pages_and_a_run_mends_them(
    monkeypatch: pytest.MonkeyPatch, copied_docs: Path
) -> None:
    page, surplus = copied_docs / "methods" / "elr.md", copied_docs / "methods" / "gone.md"
    wanted = page.read_text()
    page.write_text(wanted.replace("`3.0`", "`9.0`"))
    surplus.write_text("# Gone\n")
    monkeypatch.setattr("sys.argv", ["generate", "--check"])
    with pytest.raises(
        SystemExit, match=r"not up to date: docs/methods/elr\.md, docs/methods/gone\.md; run python -m docs"
    ):
        generate.main()
    monkeypatch.setattr("sys.argv", ["generate"])
    generate.main()
    assert page.read_text() == wanted
    assert not surplus.exists()


def test_every_listed_method_and_variant_is_on_a_page() -> None:
    stages = {"ForwardCorrectionLoss", "BackwardCorrectionLoss", "LDMILoss"}  # of methods with pages of their own
    losses = set(noisylabels_pl.losses.__all__) - stages
    assert {method.cls.__name__ for method in methods()} == {*noisylabels_pl.methods.__all__, *losses}
    named = {name for method in methods() for name in (method.name, *method.variants)}
    assert {name for name in options("method") if name.endswith(("_paper", "_released", "_asym"))} <= named


def test_facts_of_a_page(pages: dict[Path, str]) -> None:
    page = pages[generate.DOCS / "methods" / "prl_l.md"]
    assert "(https://openreview.net/forum?id=Bi2OvVf1KPn)" in page
    assert "| for | classification and regression |" in page
    assert "| is told the noise rate | only as `prl_l_paper`, `prl_l_released` |" in page
    assert "| `second_forward` | `auto` | `false` |" in page  # the command line and the class differ
    assert "| PRL(L) 0.45 | 0.82 | 0.87 |" in page


def test_a_page_has_the_rows_of_its_method(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, cli: Callable[..., Path]
) -> None:
    for method in ("ce", "elr", "gce"):
        cli(f"method={method}", "trainer=cpu", "trainer.max_epochs=2", "data.train_size=100", folder=f"runs/{method}")
    folder = tmp_path / "experiments" / "elr"
    folder.mkdir(parents=True)
    (folder / "README.md").write_text("# ELR measured\n")
    table_of(["runs", "--save", str(folder / "rows.jsonl")])
    monkeypatch.setattr(method_pages, "ROOT", tmp_path)
    (elr,) = (method for method in methods() if method.name == "elr")
    link, table, _ = method_pages._results(elr)
    assert link == "[ELR measured](../results/elr.md)"
    assert re.findall(r"^\| (\w+) \|", table, re.MULTILINE) == ["method", "elr", "ce"]  # gce is another page's


def test_a_page_has_a_table_for_each_dataset(pages: dict[Path, str]) -> None:
    page = pages[generate.DOCS / "methods" / "prl_l.md"]
    headers = [line for line in page.splitlines() if line.startswith("| method | ")]
    assert headers == [
        "| method | synthetic_regression, linadv 0.4 | synthetic_regression, signflip 0.4 |",
        "| method | diabetes, linadv 0.4 | diabetes, signflip 0.4 |",
        "| method | last (%) | best val. (%) |",
    ]
    assert page.count("\n| mse | ") == 2


def test_defaults_are_those_of_the_class() -> None:
    (crust,) = (method for method in methods() if method.name == "crust")
    fraction = crust.options[0]
    assert python_default(crust.cls, fraction) is None  # the same
    assert python_default(crust.cls, Option("fraction", "0.3", "")) == "`0.5`"
    with pytest.raises(ValueError, match="Crust has no option fractoin"):
        python_default(crust.cls, Option("fractoin", "0.3", ""))
