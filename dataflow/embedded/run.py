"""Run a program to its end, with its output as it comes, and without leaving it behind."""

from __future__ import annotations

import asyncio
import os
import signal
from collections import deque
from collections.abc import Callable, Mapping, Sequence


class ProgramFailed(Exception):
    """A program could not be started, failed, or took too long; the message says which and shows its last words."""


async def output(command: Sequence[str], *, limit: float, env: Mapping[str, str] | None = None) -> str:
    """What the program prints, in at most `limit` seconds. Raises `ProgramFailed`."""
    lines: list[str] = []
    await watched(command, lines.append, limit=limit, env=env)
    return "\n".join(lines)


async def watched(
    command: Sequence[str],
    on_line: Callable[[str], None],
    *,
    limit: float,
    env: Mapping[str, str] | None = None,
) -> None:
    """Run it, hand over each line of its output and errors. At a failure, after `limit` seconds or when cancelled, the
    program and everything it has started are gone."""
    try:
        child = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env=None if env is None else {**os.environ, **env},
            start_new_session=True,
        )
    except OSError as error:
        raise ProgramFailed(f"{command[0]} cannot be run: {error.strerror or error}") from None
    last: deque[str] = deque(maxlen=4)
    assert child.stdout
    try:
        async with asyncio.timeout(limit):
            async for raw in child.stdout:
                line = raw.decode(errors="replace").rstrip()
                last.append(line[:300])
                on_line(line)
            code = await child.wait()
    except TimeoutError:
        raise ProgramFailed(f"{command[0]} took longer than {limit:g} s") from None
    finally:
        if child.returncode is None:
            os.killpg(child.pid, signal.SIGKILL)  # its own session, so its own group: children too
            await child.wait()
    if code:
        raise ProgramFailed(f"{command[0]} ended with code {code}: " + " | ".join(filter(None, last)))
