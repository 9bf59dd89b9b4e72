"""Memory, told what to expect: freed buffers stay with the process, and what start-up made is not looked through again.

Pieces of files are bytes objects of some 16 MiB. glibc maps each of them anew and unmaps it when it is freed, so every
piece pays for thousands of page faults: about a tenth of the time of reading and writing files (measured with
`bench main_job`). Above `MMAP_THRESHOLD` nothing changes; up to `TRIM_THRESHOLD` of freed memory stays.

It stays with the arena that it came from, of which glibc makes one for each of the first threads, up to eight for each
processor; and every file is read by threads of its own. With `ARENAS` they share what was freed: over 160,000,000 rows
in eight files a process stays below 700 MiB that grew to 1,030 (two processors).
"""

from __future__ import annotations

import ctypes
import gc
import platform

# mallopt(3)
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_M_ARENA_MAX = -8
MMAP_THRESHOLD = 32 * 2**20  # the most that glibc takes
TRIM_THRESHOLD = 256 * 2**20
ARENAS = 2
STARTING = 1_000_000  # objects more than there were, before they are looked through: a start makes 300,000
_USUAL = gc.get_threshold()


def keep_freed_buffers() -> bool:
    """Tell the C library, once for the process, before it has threads. False where it is none that listens (not
    glibc)."""
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    settings = ((_M_MMAP_THRESHOLD, MMAP_THRESHOLD), (_M_TRIM_THRESHOLD, TRIM_THRESHOLD), (_M_ARENA_MAX, ARENAS))
    return all(mallopt(name, value) == 1 for name, value in settings)


def starting() -> None:
    """Garbage is looked for rarely until `started`: nearly all that imports make stays, and looking through it again
    and again takes a seventh of the time that they take."""
    gc.set_threshold(STARTING)


def started(*, stays: bool = False) -> None:
    """What is there now stays for good: collections leave it out from here on. A process that `stays` drops the garbage
    of its start before; another does not live long enough to miss those megabytes."""
    if stays:
        gc.collect()
    gc.freeze()
    gc.set_threshold(*_USUAL)
