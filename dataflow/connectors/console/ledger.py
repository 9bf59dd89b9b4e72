"""What the console sink remembers, in files: the last receipt and the newest attempt of each lane, and dead letters.

Layout under `<home>/console/<pipeline>/g<generation>/<lane>/`: `attempt` holds the token of the attempt that opened the
lane last; `epoch-<n>.json` is the receipt of the last committed epoch.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

import polars as pl

from dataflow.connectors.dead_letters import as_jsonl, file_name, is_file_of, stamped
from dataflow.domain.flow import Counters, Lane, Position, Receipt
from dataflow.errors import Corrupt, Fenced

_EPOCH = re.compile(r"epoch-(\d+)\.json")
_GENERATION = re.compile(r"g(\d+)")


def write_durably(path: Path, content: bytes | memoryview) -> None:
    """All of it or nothing, and still there after a power cut."""
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with partial.open("wb") as out:
            out.write(content)
            out.flush()
            os.fsync(out.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    _sync(path.parent)


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


class Ledger:
    """One lane's memory, seen by one attempt. Every method blocks for a file or two."""

    def __init__(self, root: Path, lane: Lane) -> None:
        self._lane = lane
        self._folder = root / f"g{lane.generation}" / lane.name
        self.token = ""

    def open(self) -> None:
        """Fence every attempt that opened the lane before."""
        self._folder.mkdir(parents=True, exist_ok=True)
        self.token = secrets.token_hex(8)
        write_durably(self._folder / "attempt", self.token.encode())

    def last(self) -> Receipt | None:
        """Raises `Corrupt` where the receipt cannot be read."""
        found = self._epochs()
        if not found:
            return None
        path = self._folder / f"epoch-{max(found)}.json"
        try:
            content = json.loads(path.read_bytes())
            counters = Counters(**content.pop("counters"))
            positions = {split: Position(at) for split, at in content.pop("positions").items()}
            return Receipt(**content, positions=positions, counters=counters)
        except FileNotFoundError:  # another attempt has just put the next one in its place
            return self.last()
        except (ValueError, TypeError, KeyError, AttributeError) as broken:
            raise Corrupt(f"{path} is not a receipt: {broken}") from broken

    def check(self, receipt: Receipt) -> None:
        """Raises `Fenced` unless this attempt is the newest and `receipt` follows the last one."""
        # Invariant 2: an epoch commits only on its predecessor
        try:
            token = (self._folder / "attempt").read_text()
        except FileNotFoundError:
            raise Fenced(f"generation {self._lane.generation} of {self._lane.pipeline} is over") from None
        last = max(self._epochs(), default=0)
        if token != self.token or last != receipt.epoch - 1:
            raise Fenced(f"another attempt took over {self._lane.name}: epoch {last} is committed")

    def keep(self, receipt: Receipt) -> None:
        """Make `receipt` the last one; `Fenced` where another attempt got there first."""
        target = self._folder / f"epoch-{receipt.epoch}.json"
        partial = self._folder / f".{self.token}"
        try:
            write_durably(partial, json.dumps(asdict(receipt)).encode())
            os.link(partial, target)  # refuses to replace: the compare-and-set
        except (FileExistsError, FileNotFoundError):
            raise Fenced(f"another attempt committed epoch {receipt.epoch} of {self._lane.name}") from None
        finally:
            partial.unlink(missing_ok=True)
        _sync(self._folder)
        epochs = self._epochs()
        if max(epochs) > receipt.epoch:  # this attempt slept between check and here, and others went on meanwhile
            target.unlink(missing_ok=True)
            raise Fenced(f"another attempt committed epoch {max(epochs)} of {self._lane.name}")
        for epoch in epochs:
            if epoch < receipt.epoch:
                (self._folder / f"epoch-{epoch}.json").unlink(missing_ok=True)

    def _epochs(self) -> list[int]:
        if not self._folder.exists():
            return []
        return [int(found[1]) for path in self._folder.iterdir() if (found := _EPOCH.fullmatch(path.name))]


def keep_letters(folder: Path, lane: Lane, epoch: int, attempt: str, rejected: Sequence[pl.DataFrame]) -> None:
    """The dead letters of one epoch, as one file of JSON Lines: writing it again replaces it."""
    folder.mkdir(parents=True, exist_ok=True)
    letters = stamped(pl.concat(rejected), lane, epoch, attempt)
    write_durably(folder / file_name(lane, epoch), as_jsonl(letters))


def forget_older(root: Path, letters: Path, pipeline: str, generation: int) -> None:
    """Drop what generations before this one left behind. Raises `Fenced` where a later one has begun."""
    known = {int(found[1]): path for path in _inside(root) if (found := _GENERATION.fullmatch(path.name))}
    if max(known, default=0) > generation:
        raise Fenced(f"generation {generation} is over: {max(known)} has begun")
    for older, folder in known.items():
        if older < generation:
            lanes = [path.name for path in _inside(folder)]
            for path in _inside(letters):
                if any(is_file_of(path.name, pipeline, older, lane) for lane in lanes):
                    path.unlink(missing_ok=True)
            shutil.rmtree(folder)


def first_time(root: Path, generation: int) -> bool:
    """True once in a generation: whoever completes it twice prints one summary."""
    folder = root / f"g{generation}"
    folder.mkdir(parents=True, exist_ok=True)
    with suppress(FileExistsError):
        (folder / "completed").open("x").close()
        return True
    return False


def _inside(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []
