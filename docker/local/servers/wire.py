"""Just enough of each server's protocol to know that it serves, with the standard library alone.

An accepted connection proves nothing: a stopped process (SIGSTOP) still accepts.
"""

from __future__ import annotations

import json
import socket
import struct
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

HOST = "127.0.0.1"
TIMEOUT = 5.0


@contextmanager
def connected(port: int) -> Iterator[socket.socket]:
    with socket.create_connection((HOST, port), TIMEOUT) as connection:
        yield connection


def exactly(connection: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        part = connection.recv(count - len(data))
        if not part:
            raise ConnectionError("closed")
        data += part
    return data


def kafka(port: int) -> int:
    """Brokers in a Metadata v1 answer (api key 3, empty topic list): at least one once the broker is unfenced."""
    with connected(port) as connection:
        body = struct.pack(">hhih4si", 3, 1, 1, 4, b"wait", 0)
        connection.sendall(struct.pack(">i", len(body)) + body)
        answer = exactly(connection, struct.unpack(">i", exactly(connection, 4))[0])
    correlation, brokers = struct.unpack(">ii", answer[:8])
    if correlation != 1 or brokers < 1:
        raise ValueError(f"{brokers} brokers")
    return int(brokers)


def cassandra(port: int) -> str:
    """The release version, read from system.local over CQL protocol v4."""
    with connected(port) as connection:

        def ask(opcode: int, body: bytes) -> tuple[int, bytes]:
            connection.sendall(struct.pack(">BBhBi", 4, 0, 0, opcode, len(body)) + body)
            _, _, _, kind, size = struct.unpack(">BBhBi", exactly(connection, 9))
            return kind, exactly(connection, size)

        def text(value: bytes) -> bytes:
            return struct.pack(">h", len(value)) + value

        kind, _ = ask(0x01, struct.pack(">h", 1) + text(b"CQL_VERSION") + text(b"3.0.0"))  # STARTUP
        if kind != 0x02:  # READY
            raise ValueError(f"answered STARTUP with {kind:#x}")
        query = b"SELECT release_version FROM system.local"
        kind, body = ask(0x07, struct.pack(">i", len(query)) + query + struct.pack(">hB", 1, 0))
    if kind != 0x08 or struct.unpack(">i", body[:4])[0] != 2:  # RESULT, rows
        raise ValueError(f"answered QUERY with {kind:#x}")
    return _last_cell(body)


def _last_cell(body: bytes) -> str:
    """The one cell of the one row stands at the end: length, bytes."""
    for size in range(1, 40):
        if len(body) > size + 4 and struct.unpack(">i", body[-size - 4 : -size])[0] == size:
            return body[-size:].decode()
    raise ValueError("no version in the answer")


def redis(port: int, *words: str) -> str:
    """One command in RESP2; its answer as text (a bulk string, a simple string, a number). Raises `ValueError`."""
    with connected(port) as connection:
        parts = [f"${len(word.encode())}\r\n{word}\r\n" for word in words]
        connection.sendall((f"*{len(words)}\r\n" + "".join(parts)).encode())
        stream = connection.makefile("rb")
        head = stream.readline().decode().rstrip()
        if head.startswith("$") and head != "$-1":
            return stream.read(int(head[1:])).decode()
        if head.startswith(("-", "$-1")) or not head:
            raise ValueError(head or "closed")
        return head[1:]


def postgres(port: int) -> str:
    """The server's version, which it reports once it lets `postgres` in (protocol 3.0, trust)."""
    with connected(port) as connection:
        body = struct.pack(">i", 196608) + b"user\0postgres\0database\0postgres\0\0"
        connection.sendall(struct.pack(">i", len(body) + 4) + body)
        version = ""
        while True:
            kind = exactly(connection, 1)
            payload = exactly(connection, struct.unpack(">i", exactly(connection, 4))[0] - 4)
            if kind == b"S" and payload.startswith(b"server_version\0"):
                version = payload.split(b"\0")[1].decode().split()[0]  # "15.18 (Debian ...)"
            elif kind == b"E":
                raise ValueError(payload.replace(b"\0", b" ").decode(errors="replace"))
            elif kind == b"Z":  # ReadyForQuery
                connection.sendall(b"X\0\0\0\4")
                return version


def get_json(port: int, path: str) -> object:
    """GET over HTTP; raises `OSError` for anything but a good answer."""
    with urllib.request.urlopen(f"http://{HOST}:{port}{path}", timeout=TIMEOUT) as answer:
        return json.load(answer)
