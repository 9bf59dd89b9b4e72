"""Where console text goes: standard output or error of this process, looked up at each write, so that a live display
that takes the streams over (or a test) gets the text too."""

from __future__ import annotations

import errno
import os
import sys
import threading
from enum import StrEnum
from typing import TextIO

from dataflow.errors import Rejected, Retryable

_writing = threading.Lock()  # lanes print whole epochs, never through each other
_redirected: TextIO | None = None


class Stream(StrEnum):
    STDOUT = "stdout"
    STDERR = "stderr"


class Colour(StrEnum):
    AUTO = "auto"
    ON = "on"
    OFF = "off"


def redirect(stream: TextIO | None) -> None:
    """From now on, what is meant for standard output goes to `stream`; None: to standard output again."""
    global _redirected
    _redirected = stream


def target(stream: Stream) -> TextIO:
    if stream is Stream.STDERR:
        return sys.stderr
    return _redirected or sys.stdout


def coloured(choice: Colour, stream: Stream) -> bool:
    """`auto`: on a terminal that can, unless NO_COLOR is set to anything."""
    if choice is not Colour.AUTO:
        return choice is Colour.ON
    return target(stream).isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def write(text: str, stream: Stream) -> None:
    """Print and flush; characters the stream's encoding lacks are escaped. Blocks.

    Raises `Rejected` (OUTPUT_CLOSED) when nobody reads any more, `Retryable` where the device fails."""
    out = target(stream)
    if out.encoding and out.encoding.lower().replace("-", "") != "utf8":
        text = text.encode(out.encoding, "backslashreplace").decode(out.encoding)
    try:
        with _writing:
            out.write(text)
            out.flush()
    except ValueError as closed:  # what Python raises for a stream closed on our side
        raise Rejected(f"{stream} is closed", code="OUTPUT_CLOSED") from closed
    except OSError as failed:
        if failed.errno == errno.EPIPE:
            raise Rejected(f"nobody reads {stream} any more", code="OUTPUT_CLOSED") from failed
        raise Retryable(f"{stream}: {failed.strerror}") from failed
