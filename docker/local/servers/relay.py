"""A bad network in front of a server: a TCP relay that is slow, silent or cut on demand. Needs no rights.

For servers that clients reach by the address they were given (all but Kafka, whose brokers name their own). The
kernel's own way (tc netem) needs root and a module that not every kernel has.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Self

_HOST = "127.0.0.1"
_PIECE = 64 * 1024


class Relay:
    """`async with Relay(port) as relay`: connect to `relay.port` instead. Settings hold for open connections, too.

    `delay`: seconds that each piece of data is late, in each direction. `rate`: bytes a second for each connection and
    direction, None for as fast as it goes. `silent`: data is taken and goes nowhere, as with a network that drops
    everything; once it is False again what was held back arrives."""

    def __init__(self, target: int) -> None:
        self.target = target
        self.port = 0
        self.delay = 0.0
        self.rate: float | None = None
        self._flows = asyncio.Event()
        self._flows.set()
        self._open: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None

    @property
    def silent(self) -> bool:
        return not self._flows.is_set()

    @silent.setter
    def silent(self, value: bool) -> None:
        if value:
            self._flows.clear()
        else:
            self._flows.set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, _HOST, 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *exc: object) -> None:
        assert self._server
        self._server.close()
        self.silent = False
        self.cut()
        await self._server.wait_closed()

    def cut(self) -> None:
        """Reset every connection, as a firewall or a rebooting switch does. New ones are let in."""
        for writer in self._open:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        try:
            onward, back = await asyncio.open_connection(_HOST, self.target)
        except OSError:
            writer.transport.abort()
            self._open.discard(writer)
            return
        self._open.add(back)
        ways = [asyncio.create_task(self._pump(*way)) for way in ((reader, back), (onward, writer))]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            for end in (writer, back):
                self._open.discard(end)
                end.close()

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while piece := await source.read(_PIECE):
                late = self.delay + (len(piece) / self.rate if self.rate else 0.0)
                if late:
                    await asyncio.sleep(late)
                await self._flows.wait()
                sink.write(piece)
                await sink.drain()
