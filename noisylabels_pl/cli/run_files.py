"""The files in the folder of a run. Nothing here imports torch, so that commands about many runs start at once."""

from __future__ import annotations

import json
from math import isfinite
from pathlib import Path
from typing import Any

CONFIG, ORIGIN, RESULT = "config.yaml", "run.json", "result.json"
LAST, PREVIOUS, BEST, WEIGHTS = "last.ckpt", "previous.ckpt", "best.ckpt", "weights.ckpt"


def has_progress(folder: Path) -> bool:
    """Return whether a run has saved something to go on with: a checkpoint, a finished stage, or its result.

    Example:
        >>> has_progress(Path("no/such/folder"))
        False
    """
    patterns = (RESULT, "*.pt", f"**/checkpoints/{LAST}", f"**/checkpoints/{PREVIOUS}")
    return any(path for pattern in patterns for path in folder.glob(pattern))


def read_result(folder: Path) -> dict[str, Any] | None:
    """Return the result of a finished run; ``None`` if the run is not finished."""
    if not (folder / RESULT).is_file():
        return None
    result: dict[str, Any] = json.loads((folder / RESULT).read_text())
    return result


def best_validation_score(result: dict[str, Any]) -> float | None:
    """Return the best accuracy or R2 on the noisy validation split; ``None`` if there is none.

    Args:
        result: see :func:`noisylabels_pl.report.result.make_result`.

    Example:
        >>> best_validation_score({"metric": "acc", "history": {"val/acc": [0.1, None, 0.3, 0.2]}})
        0.3
    """
    scores = result["history"].get(f"val/{result['metric']}", [])
    return max((score for score in scores if score is not None and isfinite(score)), default=None)
