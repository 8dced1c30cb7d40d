"""One small run of a method in a process of its own, which a test can kill.

usage: worker.py METHOD FOLDER OVERRIDE...; writes FOLDER/record.pt at the end
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from tests.contract.methods import record

if __name__ == "__main__":
    method, folder, *overrides = sys.argv[1:]
    torch.save(record(method, Path(folder), *overrides), Path(folder) / "record.pt")
