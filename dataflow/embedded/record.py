"""What is known of a home's dev server: `temporal.json`, written by its keeper, read by everyone."""

from __future__ import annotations

import fcntl
import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Literal

from dataflow.embedded.lock import FileLock
from dataflow.errors import Corrupt

State = Literal["starting", "ready", "restarting", "failed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Files:
    """The files of one home that belong to the dev server."""

    home: Path

    @property
    def record(self) -> Path:
        return self.home / "temporal.json"

    @property
    def users(self) -> Path:
        """Every user of the server holds this lock shared; the keeper stops the server once it gets it alone."""
        return self.home / "temporal.users"

    @property
    def keeper(self) -> Path:
        """Held by the one keeper of this home as long as it lives."""
        return self.home / "temporal.keeper"

    @property
    def database(self) -> Path:
        return self.home / "temporal.db"

    @property
    def log(self) -> Path:
        return self.home / "logs" / "temporal.log"


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One keeper's word on its server. `started` is the server's start, seconds since the epoch; ports 0: not known."""

    state: State
    keeper: int
    port: int = 0
    ui_port: int = 0
    metrics_port: int = 0
    pid: int = 0
    started: float = 0.0
    restarts: int = 0
    binary: str = ""
    error: str = ""

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def ui(self) -> str:
        return f"http://127.0.0.1:{self.ui_port}"

    @classmethod
    def parse(cls, text: str, path: Path) -> Record:
        """Raises `Corrupt` for what no keeper wrote."""
        try:
            data = json.loads(text)
            return cls(**{field.name: data[field.name] for field in fields(cls)})
        except (ValueError, KeyError, TypeError) as error:
            raise Corrupt(
                f"not a record of the Temporal dev server: {error!r}", where=str(path), hint="remove it"
            ) from None

    @classmethod
    def read(cls, path: Path) -> Record | None:
        """The last record, its keeper alive or not; None where there is none."""
        try:
            return cls.parse(path.read_text(), path)
        except FileNotFoundError:
            return None

    @classmethod
    def read_live(cls, path: Path) -> Record | None:
        """The record of a keeper that lives; None where there is none, or only what a killed keeper left behind."""
        try:
            with path.open() as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
                except BlockingIOError:  # its writer holds it
                    return cls.parse(file.read(), path)
        except FileNotFoundError:
            pass
        return None


class Publisher:
    """Writes records, each in one step: a reader sees the old one or the new one. Its process holds a lock on the very
    file that it published last, so a record proves by itself whether its writer lives."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._held: FileLock | None = None

    def publish(self, record: Record) -> None:
        fresh = self.path.with_suffix(f".{record.keeper}.tmp")
        fresh.unlink(missing_ok=True)  # left by a process of the same number, long ago
        lock = FileLock(fresh)
        if not lock.acquire():
            raise Corrupt("another process writes under our process number", where=str(fresh))
        fresh.write_text(json.dumps({**asdict(record), "address": record.address, "ui": record.ui}, indent=1) + "\n")
        fresh.replace(self.path)
        self.close()
        self._held = lock

    def close(self) -> None:
        """Let the last record go stale."""
        if self._held:
            self._held.release()
            self._held = None
