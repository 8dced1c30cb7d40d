"""Sweeps: which cells there are, where they lie, and how they are run."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from hydra.errors import HydraException
from rich.console import Console

from noisylabels_pl.cli.cells import SweepCell, make_cells
from noisylabels_pl.cli.run_cells import run_cells
from noisylabels_pl.cli.sweep import main
from tests.helpers import ROOT

BUDGET = "trainer.max_epochs=2"


class Script(SweepCell):
    """A cell that runs its overrides as a Python script in its folder."""

    def command(self, extra: Sequence[str] = ()) -> list[str]:
        (script,) = self.overrides
        return [sys.executable, "-c", f"import os; os.chdir({str(self.folder)!r}); {script}"]


FINISH = "open('result.json', 'w').write('{}'); open('count', 'a').write('x')"
FAIL = "print('something'); print('error: too bad'); raise SystemExit(1)"


def run(cells: Sequence[SweepCell], num_jobs: int = 1) -> tuple[list[SweepCell], str]:
    console = Console(file=io.StringIO(), force_terminal=False)
    failed = run_cells(cells, num_jobs, [], console)
    return failed, console.file.getvalue()  # type: ignore[attr-defined]


def folders(overrides: Sequence[str], root: Path = Path("root")) -> list[str]:
    return [str(cell.folder) for cell in make_cells(overrides, root)]


def test_all_combinations() -> None:
    cells = make_cells(["method=ce,elr", "seed=range(2)", "noise.rate=0.4", BUDGET], Path("root"))
    assert [cell.title for cell in cells] == [
        f"method={method} seed={seed} noise.rate=0.4 {BUDGET}" for method in ("ce", "elr") for seed in (0, 1)
    ]
    assert len({cell.folder for cell in cells}) == 4
    assert str(cells[0].folder).startswith("root/digits-sym-0.4/ce/seed0-")


def test_a_folder_follows_from_what_the_cell_runs() -> None:
    (first,) = folders(["method=ce", "seed=1", BUDGET])
    assert folders([BUDGET, "seed=1", "noise.rate=0.4", "method=ce"]) == [first]  # 0.4 is the default
    assert first in folders(["method=crust,ce", "seed=0,1,2", BUDGET])
    assert folders(["method=ce", "seed=1", BUDGET, "threads=1", "logger=none", "data.num_workers=2"]) == [first]
    for other in ("optim.lr=0.2", "seed=2", "noise.seed=5", "net=fc256", "data.batch_size=16", "trainer.max_epochs=3"):
        assert folders(["method=ce", "seed=1", BUDGET, other]) != [first]


def test_an_option_applies_to_the_methods_that_have_it() -> None:
    cells = make_cells(["method=ce,elr", "method.lam=1.0,2.0", BUDGET], Path("root"))
    assert [cell.title for cell in cells] == [
        f"method=ce {BUDGET}",
        f"method=elr {BUDGET} method.lam=1.0",
        f"method=elr {BUDGET} method.lam=2.0",
    ]


def test_a_loss_and_its_options_apply_to_the_methods_and_losses_that_take_them() -> None:
    overrides = ["method=ce,crust", "method.loss=gce,sce", "method.loss.q=0.5,0.7", BUDGET]
    assert [cell.title for cell in make_cells(overrides, Path("root"))] == [
        f"method=ce {BUDGET}",
        f"method=crust {BUDGET} method.loss=gce method.loss.q=0.5",
        f"method=crust {BUDGET} method.loss=gce method.loss.q=0.7",
        f"method=crust {BUDGET} method.loss=sce",
    ]
    assert len({*folders(["method=crust", "method.loss=gce,sce"]), *folders(["method=crust"])}) == 3
    with pytest.raises(ValueError, match=r"nothing reads method\.loss; "):
        make_cells(["method=ce", "method.loss=gce"], Path("root"))


def test_an_option_that_no_method_has_is_refused() -> None:
    with pytest.raises(ValueError, match=r"nothing reads method\.lamda; the nearest key is method\.lam$"):
        make_cells(["method=ce,elr", "method.lamda=1.0"], Path("root"))
    with pytest.raises(HydraException):
        make_cells(["method=ce", "trainer.epochs=3"], Path("root"))


def test_configurations_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "method").mkdir()
    (tmp_path / "method" / "mine.yaml").write_text("_target_: torch.nn.CrossEntropyLoss\nlabel_smoothing: 0.1\n")
    (cell,) = make_cells(["method=mine", BUDGET], Path("root"), tmp_path)
    assert "/mine/seed0-" in str(cell.folder)
    assert f"--config-dir={tmp_path}" in cell.command()


def test_cells_run_and_failures_do_not_stop_the_others(tmp_path: Path) -> None:
    cells = [Script((script,), tmp_path / str(number)) for number, script in enumerate([FINISH, FAIL, FINISH])]
    failed, text = run(cells, num_jobs=2)
    assert failed == [cells[1]]
    assert [cell.is_finished for cell in cells] == [True, False, True]
    assert text.count("finished: ") == 2
    assert text.count("failed: ") == 1
    assert "error: too bad" in (cells[1].folder / "log.txt").read_text()


def test_a_cell_that_another_sweep_runs_is_left_to_it(tmp_path: Path) -> None:
    """As after a sweep was killed: its runs live on, and are not started a second time."""
    cell = Script((f"import time; time.sleep(1.5); {FINISH}",), tmp_path / "cell")
    code = (
        "import fcntl, subprocess, sys; lock = open('.lock', 'wb'); fcntl.flock(lock, fcntl.LOCK_EX);"
        "subprocess.Popen(sys.argv[1:], pass_fds=[lock.fileno()])"
    )
    cell.folder.mkdir()
    subprocess.run([sys.executable, "-c", code, *cell.command()], cwd=cell.folder, check=True)
    assert not cell.is_finished
    assert run([cell])[0] == []
    assert (cell.folder / "count").read_text() == "x"


def test_ctrl_c_ends_the_runs_as_ctrl_c_would(tmp_path: Path) -> None:
    script = "import time\ntry: time.sleep(60)\nexcept KeyboardInterrupt: open('interrupted', 'w')"
    code = (
        "import sys; from pathlib import Path; from rich.console import Console\n"
        "from noisylabels_pl.cli.run_cells import run_cells; from tests.cli.test_sweep import Script\n"
        "cell = Script((sys.argv[1],), Path(sys.argv[2]))\nrun_cells([cell], 1, [], Console())"
    )
    script = f"exec({script!r})"
    process = subprocess.Popen(
        [sys.executable, "-c", code, script, str(tmp_path)], cwd=ROOT, stderr=subprocess.PIPE, text=True, env=os.environ
    )
    deadline = time.monotonic() + 60
    while not (tmp_path / "log.txt").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert "the same command goes on" in error
    assert (tmp_path / "interrupted").exists()


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Two runs, one of which fails; then one that is finished and is left alone, and one that is new."""
    monkeypatch.chdir(tmp_path)
    fixed = ["method=ce", "threads=1", BUDGET, "data.train_size=100"]
    with pytest.raises(SystemExit) as error:
        main([*fixed, "data.batch_size=32,0", "--jobs=2"])
    assert error.value.code == 1
    text = capsys.readouterr().out
    assert "2 runs, 0 of them finished before" in text
    assert "failed: method=ce threads=1" in text
    assert "batch_size must lie in [1, inf), got 0" in text
    assert "again: " in text
    assert "last (%)" in text
    (result,) = Path("sweeps").rglob("result.json")
    before = result.stat().st_mtime_ns
    main([*fixed, "--commands", "data.batch_size=32"])  # options may stand between overrides
    assert capsys.readouterr().out == ""
    main([*fixed, "data.batch_size=32", "seed=0"])
    assert "1 runs, 1 of them finished before" in capsys.readouterr().out
    assert result.stat().st_mtime_ns == before


@pytest.mark.parametrize("jobs", ["0", "-1", "two", "1.5"])
def test_a_number_of_jobs_that_cannot_be(jobs: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["method=ce", f"--jobs={jobs}"])
    assert f"argument --jobs: must be a whole number from 1, got '{jobs}'" in capsys.readouterr().err


def test_a_mistake_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    for overrides in (["method=crusty"], ["method=ce", "optim.lrr=1"], ["seed=[0"]):
        with pytest.raises(SystemExit) as error:
            main(overrides)
        assert "\n" not in str(error.value)
        assert str(error.value).startswith("error: ")
