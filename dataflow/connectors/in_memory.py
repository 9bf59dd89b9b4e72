"""What Polars writes, kept in memory."""

from __future__ import annotations

import io
from collections.abc import Callable


def in_memory(write: Callable[[io.BytesIO], object]) -> memoryview:
    """The bytes that `write` puts into the file it is given, without a copy.

    Not by `getbuffer`: a file that the garbage collector meets with a buffer of it still in use cannot be closed, of
    which Python 3.13 complains on the terminal."""
    out = io.BytesIO()
    write(out)
    return memoryview(out.getvalue())
