"""One small run of a method, started as a script so that Lightning can start it again for each further process.

usage: worker.py METHOD FOLDER OVERRIDE...; every rank writes FOLDER/rank<r>.pt
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from tests.contract.methods import record

if __name__ == "__main__":
    method, folder, *overrides = sys.argv[1:]
    recorded = record(method, Path(folder), *overrides)
    torch.save(recorded, Path(folder) / f"rank{recorded['rank']}.pt")
