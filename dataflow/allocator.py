"""Keep freed buffers instead of giving each back to the kernel.

Pieces of files are bytes objects of some 16 MiB. glibc maps each of them anew and unmaps it when it is freed, so every
piece pays for thousands of page faults: about a tenth of the time of reading and writing files (measured with
`bench main_job`). Above `MMAP_THRESHOLD` nothing changes; up to `TRIM_THRESHOLD` of freed memory stays.
"""

from __future__ import annotations

import ctypes
import platform

# mallopt(3)
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
MMAP_THRESHOLD = 32 * 2**20  # the most that glibc takes
TRIM_THRESHOLD = 256 * 2**20


def keep_freed_buffers() -> bool:
    """Tell the C library, once for the process. False where it is none that listens (not glibc)."""
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    settings = ((_M_MMAP_THRESHOLD, MMAP_THRESHOLD), (_M_TRIM_THRESHOLD, TRIM_THRESHOLD))
    return all(mallopt(name, value) == 1 for name, value in settings)
