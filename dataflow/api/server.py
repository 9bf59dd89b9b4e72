"""The API served inside of another process's event loop."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING

import uvicorn
from fastapi import APIRouter

from dataflow.api.app import create_app
from dataflow.errors import Rejected

if TYPE_CHECKING:
    from dataflow.sdk.client import Client


class _Server(uvicorn.Server):
    """uvicorn without its own signal handlers: the command that serves decides when it is over."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@asynccontextmanager
async def serving(client: Client, host: str, port: int, routes: Sequence[APIRouter] = ()) -> AsyncIterator[str]:
    """Serve while entered; gives the address. Port 0 is any free one. `Rejected` (PORT_IN_USE) where it is taken."""
    listener = _listen(host, port)
    server = _Server(uvicorn.Config(create_app(client, routes), log_level="warning", access_log=False, lifespan="off"))
    task = asyncio.create_task(server.serve([listener]))
    name = f"[{host}]" if ":" in host else host
    try:
        yield f"http://{name}:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        await task
        listener.close()


def _listen(host: str, port: int) -> socket.socket:
    try:
        [family, kind, protocol, _, address] = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as error:
        hint = "another --port, or DATAFLOW_API_PORT; 0 is any free one"
        raise Rejected(f"cannot listen on {host}:{port}: {error.strerror}", code="PORT_IN_USE", hint=hint) from error
    listener.listen(128)
    listener.setblocking(False)
    return listener
