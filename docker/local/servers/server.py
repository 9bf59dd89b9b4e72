"""What a server is to its keeper: how to get it, how to start it, when it really answers."""

from __future__ import annotations

import signal
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from servers.places import Site

Progress = Callable[[str], None]


class Missing(Exception):
    """A program that this server needs is not to be had here; the message says how to get it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """A process to start. `user`: not as root but as this one."""

    command: list[str]
    env: Mapping[str, str] = field(default_factory=dict)
    folder: Path | None = None
    user: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """One kind of server.

    `ports`: its ports by purpose and their usual numbers, `main` first. `install` brings the program into the cache
    (repeatable, raises `Missing` or `ProgramFailed`). `launch` writes the configuration and gives the process to start.
    `ready` asks in the server's own protocol and returns its version; it raises `OSError` or `ValueError` while it does
    not serve. `variables` are what programs that use it look for in their environment."""

    name: str
    ports: Mapping[str, int]
    install: Callable[[Progress], Coroutine[Any, Any, None]]
    launch: Callable[[Site], Launch]
    ready: Callable[[Site], str]
    variables: Callable[[Site], Mapping[str, str]]
    stop: signal.Signals = signal.SIGTERM
    grace: float = 30.0
