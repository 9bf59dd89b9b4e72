"""A file that says by itself whether its writer lives: the writer holds a lock on the very file it published last."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from dataflow.embedded.lock import FileLock
from dataflow.errors import Corrupt


class LiveFile:
    """The writer's side. Each text is published in one step: a reader sees the old one or the new one."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._held: FileLock | None = None

    def publish(self, text: str) -> None:
        fresh = self.path.with_suffix(f".{os.getpid()}.tmp")
        fresh.unlink(missing_ok=True)  # left by a process of the same number, long ago
        lock = FileLock(fresh)
        if not lock.acquire():
            raise Corrupt("another process writes under our process number", where=str(fresh))
        fresh.write_text(text)
        fresh.replace(self.path)
        self.close()
        self._held = lock

    def close(self) -> None:
        """Let what was published last go stale."""
        if self._held:
            self._held.release()
            self._held = None


def read(path: Path) -> str | None:
    """What was published last, its writer alive or not; None where nothing was."""
    try:
        return path.read_text()
    except FileNotFoundError:
        return None


def read_live(path: Path) -> str | None:
    """What a writer that lives published last; None where there is none, or only what a dead one left behind."""
    while True:
        try:
            with path.open() as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
                except BlockingIOError:  # its writer holds it
                    return file.read()
                if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                    return None
        except FileNotFoundError:
            return None
        # Its writer has published anew since the file was opened, and let this one go: look at the new one.
