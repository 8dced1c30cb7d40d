"""The wheel carries the configs and runs from an empty folder."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

from noisylabels_pl import __version__

ROOT = Path(__file__).parents[1]


def test_the_changelog_lists_the_version() -> None:
    assert f"## [{__version__}]" in (ROOT / "CHANGELOG.md").read_text()


@pytest.mark.processes
def test_wheel_runs_from_an_empty_folder(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", tmp_path / "dist", ROOT]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert "noisylabels_pl/py.typed" in names
    configs = {str(path.relative_to(ROOT)) for path in (ROOT / "conf").rglob("*.yaml")}
    assert {name.removeprefix("noisylabels_pl/") for name in names if name.endswith(".yaml")} == configs
    assert not [name for name in names if name.startswith(("tests", "experiments", "docs"))]

    # A venv that sees the packages of this environment, but not an editable install: .pth files there are not read.
    environment = tmp_path / "venv"
    venv.create(environment, with_pip=True)
    python = environment / "bin" / "python"
    purelib = sysconfig.get_path("purelib", vars={"base": str(environment), "platbase": str(environment)})
    (Path(purelib) / "packages.pth").write_text(sysconfig.get_path("purelib") + "\n")
    subprocess.run([python, "-m", "pip", "install", "-q", "--no-deps", "--no-index", wheel], check=True)
    empty = tmp_path / "empty"
    empty.mkdir()
    where = "import noisylabels_pl; print(noisylabels_pl.__file__)"
    found = subprocess.run([python, "-c", where], cwd=empty, check=True, capture_output=True, text=True).stdout
    assert found.startswith(str(environment))
    for command in ([python, "-m", "noisylabels_pl"], [environment / "bin" / "noisylabels-pl"]):
        small = ["method=ce", "trainer=cpu", "trainer.max_epochs=1", "data.train_size=200"]
        done = subprocess.run([*command, *small], cwd=empty, check=True, capture_output=True, text=True)
        assert "realized noise rate" in done.stdout
    assert len(list(empty.glob("outputs/*/*/result.json"))) >= 1
