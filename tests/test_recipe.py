"""docs/add_a_method.md, followed word for word in a copy of the library."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers import ROOT

FILE = re.compile(r"^### \d\. `(?P<path>[^`]+)`\n.*?^```\w+\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.mark.processes
def test_the_five_files_make_a_method(tmp_path: Path) -> None:
    for name in ("noisylabels_pl", "conf", "tests", "docs", "experiments"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    files = FILE.findall((ROOT / "docs" / "add_a_method.md").read_text())
    assert len(files) == 5
    for path, text in files:
        with (tmp_path / path).open("a") as file:  # an export line is added to a file that exists
            file.write(text)

    def run(*command: str) -> str:
        environment = os.environ | {"PYTHONPATH": str(tmp_path), "OMP_NUM_THREADS": "1"}
        done = subprocess.run(
            [sys.executable, "-m", *command], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-5000:]
        return done.stdout

    python_files = [path for path, _ in files if path.endswith(".py")]
    run("ruff", "check", *python_files)
    run("ruff", "format", "--check", *python_files)
    modules = [path for path in python_files if path.startswith("noisylabels_pl/")]
    printed = run("pytest", "-q", "--doctest-modules", *modules)
    assert "2 passed" in printed
    tests = ("tests/contract", "tests/methods/test_discount.py", "tests/cli/test_conf.py", "tests/test_architecture.py")
    printed = run("pytest", "-q", "-m", "", "-k", "discount", "-rN", *tests)
    assert int(re.search(r"(\d+) passed", printed)[1]) >= 25
    assert not re.search(r"\d+ (skipped|failed)", printed)
