"""A bad network on demand."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from servers.relay import Relay


@pytest.fixture
async def echo() -> AsyncIterator[int]:
    """The port of a server that says everything back."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while piece := await reader.read(1000):
            writer.write(piece)
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]


async def said(relay: Relay, text: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", relay.port)
    writer.write(text)
    try:
        return await reader.readexactly(len(text))
    finally:
        writer.close()


async def test_it_passes_everything_on(echo: int) -> None:
    async with Relay(echo) as relay:
        text = bytes(range(256)) * 2000
        assert await asyncio.gather(*(said(relay, text) for _ in range(5))) == [text] * 5


async def test_slow(echo: int) -> None:
    async with Relay(echo) as relay:
        clock = asyncio.get_running_loop()
        relay.delay, relay.rate = 0.05, 100.0
        begun = clock.time()
        assert await said(relay, b"0123456789") == b"0123456789"
        assert clock.time() - begun >= 2 * (0.05 + 0.1) - 0.01  # there and back, each late and slow; never faster


async def test_silent_until_it_is_not(echo: int) -> None:
    async with Relay(echo) as relay:
        relay.silent = True
        answer = asyncio.create_task(said(relay, b"anybody there"))
        done, _ = await asyncio.wait([answer], timeout=0.1)
        assert not done
        relay.silent = False
        assert await answer == b"anybody there"


async def test_cut(echo: int) -> None:
    async with Relay(echo) as relay:
        reader, writer = await asyncio.open_connection("127.0.0.1", relay.port)
        writer.write(b"x")
        assert await reader.readexactly(1) == b"x"
        relay.cut()
        with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
            await reader.readexactly(1)
        writer.close()
        assert await said(relay, b"again") == b"again"


async def test_nobody_behind_it(echo: int) -> None:
    async with Relay(1) as relay:
        with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
            await said(relay, b"x")
