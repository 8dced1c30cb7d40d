"""Reads the records of W&B's offline files, which are framed like LevelDB's log."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from wandb.proto import wandb_internal_pb2

BLOCK, HEADER = 32768, 7


def records(path: Path) -> Iterator[Any]:
    """The protobuf records of a ``run-*.wandb`` file."""
    content = path.read_bytes()
    assert content[:4] == b":W&B"
    position, parts = HEADER, b""
    while position + HEADER <= len(content):
        if BLOCK - position % BLOCK < HEADER:  # too little left of a block for a header: padding
            position += BLOCK - position % BLOCK
            continue
        _, length, kind = struct.unpack_from("<IHB", content, position)
        position += HEADER
        parts += content[position : position + length]
        position += length
        if kind in (1, 4):  # the whole of a record, or its last part
            record = wandb_internal_pb2.Record()
            record.ParseFromString(parts)
            yield record
            parts = b""
