"""Locks between processes that die with their holder, however it dies (flock(2))."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from types import TracebackType
from typing import Self


class FileLock:
    """One holder's view of a lock file. Not inherited by programs that the holder starts; never removed from disk,
    because a removed file could be locked twice."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fd: int | None = None

    @property
    def held(self) -> bool:
        return self._fd is not None

    def acquire(self, *, shared: bool = False) -> bool:
        """Take the lock if that is possible now. False where another holder is in the way."""
        if self._fd is not None:
            raise RuntimeError(f"{self.path} is held already")
        self.path.parent.mkdir(parents=True, exist_ok=True)
        fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(fd, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            return False
        except BaseException:
            os.close(fd)
            raise
        self._fd = fd
        return True

    def stands(self) -> bool:
        """Whether what is held is still the file at the path: a folder may be removed with its locks, and made anew."""
        if self._fd is None:
            return False
        try:
            return os.path.samestat(os.fstat(self._fd), self.path.stat())
        except FileNotFoundError:
            return False

    def release(self) -> None:
        """Give the lock up; nothing where it is not held."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def is_held(path: Path) -> bool:
    """Whether somebody holds the lock exclusively. Looks with a shared lock, so that two who look do not meet."""
    with FileLock(path) as lock:
        return not lock.acquire(shared=True)


def is_shared(path: Path) -> bool:
    """Whether somebody holds the lock at all, shared perhaps. Not for locks that others want exclusively at once."""
    with FileLock(path) as lock:
        return not lock.acquire()
