"""Measure the memory of an epoch over image files that are decoded by workers.

usage: python experiments/benchmarks/image_files.py FOLDER [--n 2000 200000] [--output ROWS.jsonl]
FOLDER gets the generated JPEGs, of 64x64 pixels; 200,000 take 1 GB. Each number of images is measured in a process of
its own, with two workers. Memory is the largest of the main process so far, with what the imports take; workers share
it when they start.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from io import BytesIO
from pathlib import Path

import lightning as L
import numpy as np
import torch
from PIL import Image
from torch import nn

from noisylabels_pl import Classifier
from noisylabels_pl.data import ImageFolder, LabelNoise

NUM_CLASSES = 10
NUM_DIFFERENT = 8  # images; the files repeat them


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--n", type=int, nargs="+", default=[2000, 200_000])
    parser.add_argument("--output", type=Path, help="JSON Lines: a row for each number of images is appended")
    options = parser.parse_args()
    for n in options.n:
        root = options.folder / str(n)
        if not root.exists():
            write_images(root, n)
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            row = pool.submit(measure, root, n).result()
        print(json.dumps(row))
        if options.output is not None:
            with options.output.open("a") as file:
                file.write(json.dumps(row) + "\n")


def write_images(root: Path, n: int) -> None:
    """Write JPEGs of noise, the same number in each class."""
    rng = np.random.default_rng(0)
    contents = []
    for _ in range(NUM_DIFFERENT):
        image = BytesIO()
        Image.fromarray(rng.integers(0, 255, (64, 64, 3), dtype=np.uint8)).save(image, "JPEG", quality=60)
        contents.append(image.getvalue())
    for label in range(NUM_CLASSES):
        (root / str(label)).mkdir(parents=True)
    for number in range(n):
        (root / str(number % NUM_CLASSES) / f"{number}.jpg").write_bytes(contents[number % NUM_DIFFERENT])


def measure(root: Path, n: int) -> dict[str, float]:
    """Train a linear network for an epoch, and return memory in MiB and seconds."""
    torch.set_num_threads(1)
    imported = peak_mib()
    start = time.perf_counter()
    data = ImageFolder(
        str(root),
        image_size=64,
        batch_size=256,
        val_fraction=0.0,
        crop_padding=4,
        flip=True,
        resident=False,
        num_workers=2,
        noise=LabelNoise("sym", rate=0.4),
    )
    data.setup()
    seconds_of_setup = time.perf_counter() - start
    net = nn.Sequential(nn.AvgPool2d(16), nn.Flatten(), nn.Linear(48, NUM_CLASSES))
    trainer = L.Trainer(
        max_epochs=1,
        accelerator="cpu",
        limit_val_batches=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    start = time.perf_counter()
    trainer.fit(Classifier(net, NUM_CLASSES, partial(torch.optim.SGD, lr=0.1)), datamodule=data)
    return {
        "images": n,
        "imports_mib": imported,
        "main_process_mib": peak_mib(),
        "setup_seconds": round(seconds_of_setup, 1),
        "epoch_seconds": round(time.perf_counter() - start, 1),
    }


def peak_mib() -> int:
    """Return the largest memory of this process so far; Linux counts in KiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


if __name__ == "__main__":
    main()
