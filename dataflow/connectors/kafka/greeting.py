"""Why no broker lets us in. aiokafka only says that it could not connect: the reason is in its log, where neither a
retry policy nor a user finds it. So after a failure, and only then, each address is tried once more by hand."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping
from typing import Any

from aiokafka import errors as kafka
from aiokafka.conn import AIOKafkaConnection, collect_hosts, create_conn
from aiokafka.protocol.admin import SaslHandShakeRequest

from dataflow.connectors.kafka.errors import translate
from dataflow.errors import DataFlowError, Rejected

_PATIENCE = 5.0  # seconds for each look at a broker
_PASSES = frozenset({"bootstrap_servers", "retry_backoff_ms"})  # options of clients that a connection does not take
_MECHANISM_TO_ASK = "PLAIN"
_OFFERED = (0, kafka.UnsupportedSaslMechanismError.errno)


async def why(options: Mapping[str, Any]) -> DataFlowError | None:
    """What a client that is made with `options` (see `Cluster.options`) meets at the first broker that says something:
    `Rejected` where it will always be refused, `Retryable` with the system's words where nobody answers, None where it
    is let in by now."""
    told: DataFlowError | None = None
    for host, port, _ in collect_hosts(options["bootstrap_servers"], randomize=False):
        found = await _at(host, port, options)
        if found is None or not found.retryable:
            return found
        told = told or found
    return told


async def _at(host: str, port: int, options: Mapping[str, Any]) -> DataFlowError | None:
    what = f"Kafka at {host}:{port}"
    protocol = options.get("security_protocol", "PLAINTEXT")
    try:
        async with asyncio.timeout(_PATIENCE):
            connection = await create_conn(
                host, port, **{key: value for key, value in options.items() if key not in _PASSES}
            )
        try:
            return await _unknown_to(connection, what) if "SASL" not in protocol else None
        finally:
            connection.close()
    except ssl.SSLCertVerificationError as error:
        return Rejected(
            f"{what}: its certificate is not trusted: {error.verify_message}",
            code="UNTRUSTED_CERTIFICATE",
            hint="security.ca names the authorities to trust",
        )
    except (ssl.SSLEOFError, ssl.SSLZeroReturnError) as error:
        return translate(error, what)
    except ssl.SSLError as error:
        return Rejected(f"{what}: no TLS connection: {error.reason or error}", code="TLS_FAILED")
    except kafka.IllegalSaslStateError:
        return Rejected(
            f"{what}: that port asks for no user", code="AUTHENTICATION_FAILED", hint="security.protocol without SASL"
        )
    except (OSError, kafka.KafkaError) as error:
        if "SSL" not in protocol and await _speaks_tls(host, port):
            return Rejected(f"{what}: that port speaks TLS", code="TLS_REQUIRED", hint="say so in security")
        if "SSL" in protocol and "certificate" in str(error.__cause__).lower():  # TLS 1.3 tells after the handshake
            return Rejected(
                f"{what}: it asks for a certificate of ours: {error.__cause__}",
                code="AUTHENTICATION_FAILED",
                hint="security.certificate and security.key",
            )
        if "SSL" in protocol and await _speaks_plainly(host, port):
            return Rejected(f"{what}: that port speaks no TLS", code="TLS_FAILED", hint="look at security.protocol")
        return translate(error, what)


async def _unknown_to(connection: AIOKafkaConnection, what: str) -> DataFlowError | None:
    """Where the port wants a user, it lets nobody else say anything but who they are."""
    async with asyncio.timeout(_PATIENCE):
        answer = await connection.send(SaslHandShakeRequest(_MECHANISM_TO_ASK))
    if answer.error_code in _OFFERED:
        return Rejected(f"{what} asks for a user", code="AUTHENTICATION_FAILED", hint="security: username, password")
    return None


async def _speaks_plainly(host: str, port: int) -> bool:
    try:
        async with asyncio.timeout(_PATIENCE):
            (await create_conn(host, port, request_timeout_ms=round(_PATIENCE * 1000))).close()
    except (OSError, kafka.KafkaError):
        return False
    return True


async def _speaks_tls(host: str, port: int) -> bool:
    anything = ssl.create_default_context()
    anything.check_hostname, anything.verify_mode = False, ssl.CERT_NONE
    try:
        async with asyncio.timeout(_PATIENCE):
            _, writer = await asyncio.open_connection(host, port, ssl=anything)
    except OSError:
        return False
    writer.close()
    return True
