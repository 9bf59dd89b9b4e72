"""What stays of generations that were rewound: noted beside the output, by generation and lane.

`kept.json` under the pipeline's control folder: `{"v":1,"kept":{"1":{"sink-0":17}}}` says that the parts and dead
letters of lane `sink-0` of generation 1 up to epoch 17 belong to the output (null: all of them). It is written before
anything is deleted by it, and forgotten when a generation begins at the first record.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from dataflow.connectors.file.disk import sync_folder, write_durably
from dataflow.errors import Corrupt

Kept = dict[int, dict[str, int | None]]

_NAME = "kept.json"


def load(folder: Path) -> Kept:
    """What is noted in that control folder of a pipeline."""
    try:
        found = json.loads((folder / _NAME).read_bytes())
        if found["v"] != 1:
            raise ValueError("another version")
        return {int(generation): dict(lanes) for generation, lanes in found["kept"].items()}
    except FileNotFoundError:
        return {}
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise Corrupt(f"{folder / _NAME} cannot be read: {error}") from error


def save(folder: Path, kept: Mapping[int, Mapping[str, int | None]]) -> None:
    """Note it, durably; nothing kept leaves no note."""
    path = folder / _NAME
    if not kept:
        path.unlink(missing_ok=True)
        return
    draft = path.with_suffix(".new")
    write_durably(draft, json.dumps({"v": 1, "kept": kept}).encode())
    draft.rename(path)
    sync_folder(folder)


def keeps(kept: Kept, generation: int, lane: str, epoch: int) -> bool:
    """Whether that epoch's output stays."""
    lanes = kept.get(generation, {})
    if lane not in lanes:
        return False
    last = lanes[lane]
    return last is None or epoch <= last
