"""What the file sink needs of the operating system: durable names, typed errors, threads that are not left running."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import ParamSpec, TypeVar

from dataflow.errors import DataFlowError, Rejected, Retryable

P = ParamSpec("P")
T = TypeVar("T")

_FULL = {errno.ENOSPC, errno.EDQUOT}
_DENIED = {errno.EACCES, errno.EPERM, errno.EROFS}
_WRONG = {errno.ENOTDIR, errno.EEXIST, errno.EISDIR, errno.ENAMETOOLONG, errno.EINVAL, errno.EFBIG, errno.ELOOP}
REFUSALS = _FULL | _DENIED | _WRONG
"""Errors after which a system call has certainly not taken effect."""
_HASTE = 4 * 2**20  # bytes
_NO_LOCKS = {errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS}


def typed(error: OSError) -> DataFlowError:
    """The error of our own for an error of the operating system.

    A full disk is `Retryable` with the transient code RESOURCE_EXHAUSTED: space may be made, and nothing torn is left.
    What a person must change is `Rejected` (PERMISSION_DENIED, BAD_PATH); any other failure of the medium `Retryable`.
    """
    where = str(error.filename or "")
    reason = error.strerror or str(error)
    if error.errno in _FULL:
        return Retryable(
            f"the disk is full: {reason}", code="RESOURCE_EXHAUSTED", where=where, hint="make room; nothing was torn"
        )
    if error.errno in _DENIED:
        return Rejected(f"cannot write there: {reason}", code="PERMISSION_DENIED", where=where)
    if error.errno in _WRONG:
        return Rejected(f"not a place for output: {reason}", code="BAD_PATH", where=where)
    return Retryable(f"the file system failed: {reason}", where=where)


@contextlib.contextmanager
def os_errors() -> Iterator[None]:
    """Turns `OSError` into the errors of `dataflow.errors`."""
    try:
        yield
    except OSError as error:
        raise typed(error) from error


async def in_thread(call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run `call` in a thread with typed errors. Cancelled, it waits for the thread's end before it gives way.

    Otherwise a cancelled attempt would go on writing to files that its own clean-up has already closed.
    """

    def guarded() -> T:
        with os_errors():
            return call(*args, **kwargs)

    running = asyncio.ensure_future(asyncio.to_thread(guarded))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        while not running.done():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait([running])
        if not running.cancelled():
            running.exception()  # looked at: the cancellation is what the caller must hear of
        raise


def sync_folder(folder: Path) -> None:
    """Make the names in `folder` durable."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def make_folder(folder: Path) -> None:
    """Create `folder` and its parents, durably; nothing happens if it is there."""
    if folder.is_dir():
        return
    make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    sync_folder(folder.parent)


def write_durably(path: Path, data: bytes) -> None:
    """Write a whole new file and force it to the medium; the name itself is made durable by the caller."""
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def hasten(fd: int, begun: int, upto: int) -> int:
    """Once there are enough, have the kernel begin to bring the bytes from `begun` to `upto` to the medium, without
    waiting: the fsync of a commit then finds little left to do. Returns where to begin next time."""
    if upto - begun < _HASTE or not hasattr(os, "posix_fadvise"):
        return begun
    os.posix_fadvise(fd, begun, upto - begun, os.POSIX_FADV_DONTNEED)  # on Linux: dirty pages are sent, and stay
    return upto


def lock(fd: int) -> bool:
    """Take the file for this attempt alone, without waiting; the kernel gives it back when its holder dies.

    False where a living attempt holds it, and on file systems without locks, where nobody may be presumed dead.
    """
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _NO_LOCKS or isinstance(error, BlockingIOError):
            return False
        raise
    return True


def append_file(target: int, source: int, length: int) -> None:
    """Copy the first `length` bytes of `source` to the end of what was written to `target`, inside the kernel."""
    offset = 0
    while offset < length:
        step = min(length - offset, 2**30)
        try:
            copied = os.copy_file_range(source, target, step, offset_src=offset)
        except OSError as error:
            if error.errno not in (errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP):
                raise
            copied = os.sendfile(target, source, offset, step)
        if copied == 0:
            raise OSError(errno.EIO, "a committed piece is shorter than its record says")
        offset += copied


def control_folder(path: Path) -> Path:
    """Where the sink keeps its own data about `path`: a hidden sibling, on the same device so that renames are atomic.

    Never inside an output folder, because readers take every file there for output. The one exception is a folder
    that is a mount point: its sibling lies on another device, so the hidden folder `.dataflow` inside it is used.
    """
    if path.is_dir() and path.stat().st_dev != path.parent.stat().st_dev:
        return path / ".dataflow"
    return path.parent / f".{path.name}.dataflow"
