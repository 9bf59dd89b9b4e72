"""Which files a path means, in which order, and which split each belongs to."""

from __future__ import annotations

import glob
import os
import re
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from zlib import crc32

from dataflow.errors import DataFlowError, NotFound, Rejected, Retryable

_MAGIC = re.compile(r"[*?\[]")
_SPLIT = re.compile(r"files(?:-(\d+)-of-(\d+))?")


@dataclass(frozen=True, slots=True, order=True)
class WorkFile:
    """One input file. `name` is relative to the folder the path starts from, with `/` between its parts: it names the
    file in positions and errors, and stays the same when the whole tree moves."""

    name: str
    path: Path
    size: int


def worklist(base: Path, pattern: str) -> list[WorkFile]:
    """The files of a path, folder or glob, sorted by name.

    In folders and globs, names that begin with `.` or `_` are passed over: control files and unfinished output.
    Raises `NotFound` where there is none, `Rejected` where one cannot be looked at."""
    whole = base / pattern
    try:
        if whole.is_dir():
            found = sorted(_tree(whole, ""))
            missing = f"the folder {pattern} holds no files"
        elif not whole.exists() and _MAGIC.search(pattern):
            found = sorted(_matches(whole))
            missing = f"no file matches {pattern}"
        else:
            return [_regular(whole)]
    except OSError as error:
        raise unreadable(pattern, error) from error
    if not found:
        raise NotFound(missing, hint=f"relative paths start at {base.resolve()}", where=pattern)
    return found


def _regular(path: Path) -> WorkFile:
    facts = path.stat()
    if not stat.S_ISREG(facts.st_mode):
        raise Rejected("it is not a regular file", code="NOT_A_FILE", where=str(path))
    return WorkFile(path.name, path, facts.st_size)


def _tree(folder: Path, prefix: str) -> Iterator[WorkFile]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith((".", "_")):
                continue
            if entry.is_dir():
                yield from _tree(Path(entry.path), f"{prefix}{entry.name}/")
            elif entry.is_file():
                yield WorkFile(prefix + entry.name, Path(entry.path), entry.stat().st_size)


def _matches(whole: Path) -> Iterator[WorkFile]:
    fixed = 0
    while not _MAGIC.search(whole.parts[fixed]):
        fixed += 1
    root = Path(*whole.parts[:fixed])
    for text in glob.iglob(os.path.join(*whole.parts[fixed:]), root_dir=root, recursive=True):  # noqa: PTH118, PTH207
        path = root / text
        if path.is_file() and not any(part.startswith("_") for part in Path(text).parts):
            yield WorkFile(Path(text).as_posix(), path, path.stat().st_size)


def splits(files: Sequence[WorkFile], parallelism: int) -> list[str]:
    """One split, or as many as may be read in parallel and there are files for."""
    count = min(parallelism, len(files))
    return ["files"] if count <= 1 else [f"files-{number}-of-{count}" for number in range(count)]


def share(files: Sequence[WorkFile], split: str) -> list[WorkFile]:
    """The files of that split, in order. A file's name alone decides: other files do not move it."""
    found = _SPLIT.fullmatch(split)
    if not found:
        raise Rejected(f"there is no split {split!r}", code="NOT_FOUND")
    if found[1] is None:
        return list(files)
    number, count = int(found[1]), int(found[2])
    return [file for file in files if crc32(file.name.encode("utf-8", "surrogateescape")) % count == number]


def unreadable(name: str, error: OSError) -> DataFlowError:
    """What an error of the file system means for the caller."""
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return NotFound("there is no such file or folder", where=name)
    if isinstance(error, PermissionError):
        return Rejected("permission denied", code="PERMISSION_DENIED", where=name)
    return Retryable(f"it cannot be read: {error.strerror or error}", code="IO_ERROR", where=name)
