"""Coverage and threads on Python 3.11: a thread whose tracer cannot be installed tries again and does not die.

CPython before 3.12 refuses `sys.settrace` while another thread is just in it, with a `RuntimeError`
(https://github.com/python/cpython/issues/98257). `threading` calls it first thing in every new thread, so under
coverage a thread that begins beside another one can end before it ran a line, and whoever waits for its work waits for
ever.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from functools import wraps
from typing import Any

TRIES = 100


def patient(settrace: Callable[[Any], None]) -> Callable[[Any], None]:
    """`settrace` again after a millisecond, at most `TRIES` times in all, while it is refused."""

    @wraps(settrace)
    def again(tracer: Any) -> None:
        for _ in range(TRIES - 1):
            try:
                return settrace(tracer)
            except RuntimeError:
                time.sleep(0.001)
        return settrace(tracer)

    return again


def install() -> None:
    """Make `sys.settrace` patient where that is needed."""
    if sys.version_info < (3, 12):
        sys.settrace = patient(sys.settrace)
