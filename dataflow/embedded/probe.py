"""Ask a Temporal frontend whether it serves, without a gRPC library.

One unary call of the gRPC health protocol (grpc.health.v1.Health/Check) over HTTP/2 (RFC 9113) with literal, not
Huffman-coded header fields (RFC 7541, 6.2.2). A stopped process (SIGSTOP) still accepts connections, so only an answer
counts.
"""

from __future__ import annotations

import socket
import struct

SERVICE = b"temporal.api.workflowservice.v1.WorkflowService"

_DATA, _HEADERS, _SETTINGS = 0, 1, 4
_END_STREAM, _END_HEADERS = 0x1, 0x4
_SERVING = b"\x08\x01"  # HealthCheckResponse{status: SERVING}


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def _field(name: bytes, value: bytes) -> bytes:
    return b"\x00" + bytes([len(name)]) + name + bytes([len(value)]) + value


def _request(authority: str) -> bytes:
    headers = b"".join(
        _field(name, value)
        for name, value in (
            (b":method", b"POST"),
            (b":scheme", b"http"),
            (b":path", b"/grpc.health.v1.Health/Check"),
            (b":authority", authority.encode()[:100]),
            (b"content-type", b"application/grpc"),
            (b"te", b"trailers"),
        )
    )
    message = b"\x0a" + bytes([len(SERVICE)]) + SERVICE
    body = b"\x00" + struct.pack(">I", len(message)) + message
    return (
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
        + _frame(_SETTINGS, 0, 0, b"")
        + _frame(_HEADERS, _END_HEADERS, 1, headers)
        + _frame(_DATA, _END_STREAM, 1, body)
    )


def _exactly(connection: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        part = connection.recv(count - len(data))
        if not part:
            raise ConnectionError("closed")
        data += part
    return data


def serving(address: str, timeout: float = 1.0) -> bool:
    """Whether the frontend at `host:port` answers that it serves. False for refused, silent, and not ready.

    `timeout` in seconds bounds the connection and each answer from it."""
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host, int(port)), timeout) as connection:
            connection.sendall(_request(address))
            for _ in range(16):  # settings, window updates and headers come before the answer
                head = _exactly(connection, 9)
                payload = _exactly(connection, int.from_bytes(head[:3], "big"))
                if head[3] == _DATA:
                    return payload[5:] == _SERVING
                if head[3] == _HEADERS and head[4] & _END_STREAM:
                    return False  # an error status: the service is not known yet
    except OSError:
        return False
    return False
