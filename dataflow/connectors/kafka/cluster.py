"""How to reach a cluster: the options that source and sink share, and the clients made from them."""

from __future__ import annotations

import asyncio
import logging
import re
import ssl
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from enum import StrEnum
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaConsumer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.client import AIOKafkaClient
from aiokafka.helpers import create_ssl_context
from pydantic import Field, field_validator, model_validator

from dataflow.components import Config
from dataflow.connectors.kafka.errors import translated
from dataflow.connectors.kafka.greeting import why
from dataflow.domain.spec import Seconds
from dataflow.errors import NotFound, Rejected, Retryable

_BROKER = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\s,:\[\]]+)(:\d{1,5})?")
_CONNECTIONS = logging.getLogger("aiokafka.conn")
_TOPIC = re.compile(r"[A-Za-z0-9._-]{1,249}")


def _tells_no_password(record: logging.LogRecord) -> bool:
    # Invariant 5: at the level DEBUG aiokafka logs every request as it is sent, that of a login included.
    return not any(type(part).__name__.startswith("SaslAuthenticate") for part in record.args or ())


_CONNECTIONS.addFilter(_tells_no_password)


class Protocol(StrEnum):
    PLAINTEXT = "PLAINTEXT"
    SSL = "SSL"
    SASL_PLAINTEXT = "SASL_PLAINTEXT"
    SASL_SSL = "SASL_SSL"


class Mechanism(StrEnum):
    PLAIN = "PLAIN"
    SCRAM_SHA_256 = "SCRAM-SHA-256"
    SCRAM_SHA_512 = "SCRAM-SHA-512"


class Security(Config):
    """TLS and SASL. Passwords are best given as `${secret:NAME}`. Certificates are PEM files; relative paths start at
    the pipeline file."""

    protocol: Protocol = Field(Protocol.SASL_SSL, description="SSL encrypts, SASL asks for a user and password.")
    mechanism: Mechanism = Field(Mechanism.PLAIN, description="How SASL proves who we are.")
    username: str | None = Field(None, description="User of SASL.")
    password: str | None = Field(None, description="Password of SASL.", repr=False)
    ca: str | None = Field(None, description="Certificates of the authorities to trust; default: the system's.")
    certificate: str | None = Field(None, description="Our own certificate, where the brokers ask for one.")
    key: str | None = Field(None, description="Private key of the certificate.")
    key_password: str | None = Field(None, description="Password of the private key.", repr=False)

    @model_validator(mode="after")
    def _complete(self) -> Security:
        sasl = self.protocol in (Protocol.SASL_PLAINTEXT, Protocol.SASL_SSL)
        if sasl and (self.username is None or self.password is None):
            raise ValueError(f"{self.protocol} needs username and password")
        if not sasl and (self.username is not None or self.password is not None):
            raise ValueError(f"{self.protocol} knows no username and password: use SASL_SSL")
        tls = self.protocol in (Protocol.SSL, Protocol.SASL_SSL)
        if not tls and (self.ca or self.certificate or self.key):
            raise ValueError(f"{self.protocol} has no certificates: use SSL or SASL_SSL")
        if self.key and not self.certificate:
            raise ValueError("a key belongs to a certificate: give both")
        return self


def one_topic(value: str) -> str:
    """A name that Kafka takes. Raises ValueError."""
    if not _TOPIC.fullmatch(value) or value in (".", ".."):
        raise ValueError(f"{value!r} is not a topic: letters, digits, '.', '_' and '-', at most 249")
    return value


class ClusterConfig(Config):
    """What source and sink have in common."""

    brokers: str | tuple[str, ...] = Field(
        description="Where to ask first: host:port, several separated by commas or as a list."
    )
    security: Security | None = Field(None, description="TLS and SASL; without, plain text and no password.")
    timeout: Seconds | None = Field(
        None, gt=0, le=600, description="How long the brokers may take to answer anything; default: timeouts.operation."
    )

    @field_validator("brokers")
    @classmethod
    def _addresses(cls, value: str | tuple[str, ...]) -> tuple[str, ...]:
        found = tuple(part.strip() for part in (value.split(",") if isinstance(value, str) else value))
        for address in found:
            if not _BROKER.fullmatch(address):
                raise ValueError(f"{address!r} is not an address such as broker-1:9092")
        if not found:
            raise ValueError("name at least one broker")
        return found


class Cluster:
    """Makes clients of one cluster; holds no connection of its own."""

    def __init__(self, config: ClusterConfig, base: Path, timeout: float = 30.0) -> None:
        self.brokers = ",".join(config.brokers)
        self.timeout = config.timeout or timeout
        self._security = config.security
        self._base = base

    def options(self) -> dict[str, Any]:
        """What every aiokafka client is made with. Reads the certificates: raises `Rejected` (BAD_CERTIFICATE)."""
        found: dict[str, Any] = {
            "bootstrap_servers": self.brokers,
            "client_id": "dataflow",
            "request_timeout_ms": round(self.timeout * 1000),
            "retry_backoff_ms": 50,
        }
        if self._security is None:
            return found
        found["security_protocol"] = str(self._security.protocol)
        if self._security.username is not None:
            found["sasl_mechanism"] = str(self._security.mechanism)
            found["sasl_plain_username"] = self._security.username
            found["sasl_plain_password"] = self._security.password
        if self._security.protocol in (Protocol.SSL, Protocol.SASL_SSL):
            found["ssl_context"] = self._tls(self._security)
        return found

    def _tls(self, security: Security) -> ssl.SSLContext:
        ca, certificate, key = (
            str(self._base / name) if name else None for name in (security.ca, security.certificate, security.key)
        )
        try:
            # No password is an empty one: for None OpenSSL would ask at the terminal, and wait.
            made: ssl.SSLContext = create_ssl_context(
                cafile=ca, certfile=certificate, keyfile=key, password=security.key_password or ""
            )
            return made
        except (OSError, ssl.SSLError) as error:
            raise Rejected(
                f"the certificates cannot be used: {error}", code="BAD_CERTIFICATE", hint="ca, certificate, key: PEM"
            ) from error

    @asynccontextmanager
    async def reaching(self) -> AsyncIterator[None]:
        """`translated`, for the start of a client: a broker that lets nobody in without TLS, a certificate or the right
        password is told apart from one that does not answer."""
        try:
            async with translated(f"Kafka at {self.brokers}", self.timeout):
                yield
        except AssertionError as error:  # aiokafka's, where it was told of no brokers: see `check_met`
            raise Retryable(f"Kafka at {self.brokers} is not up yet: {error}", code="SERVICE_UNAVAILABLE") from error
        except Retryable as unreachable:
            if unreachable.code not in ("CONNECTION_FAILED", "TIMEOUT"):
                raise
            raise await why(self.options()) or unreachable from unreachable

    @asynccontextmanager
    async def admin(self) -> AsyncIterator[AIOKafkaAdminClient]:
        client = _Admin(**self.options())
        async with translated(f"Kafka at {self.brokers}", self.timeout):
            try:
                async with self.reaching():
                    await client.start()
                    check_met(client._client)
                yield client
            finally:
                await client.close()

    @asynccontextmanager
    async def consumer(
        self, start: Mapping[Any, int], *, committed: bool = True, **more: Any
    ) -> AsyncIterator[AIOKafkaConsumer]:
        """A consumer of the partitions of `start`, each at its offset, that belongs to no group.

        It never moves by itself where an offset is lost, but raises. Not bound in time: reads may wait for ever. Not to
        be assigned anew: aiokafka 0.14 may then never stop, as it takes the cancellation for that of a fetch."""
        level = "read_committed" if committed else "read_uncommitted"
        client = AIOKafkaConsumer(
            **{**self.options(), "isolation_level": level, "enable_auto_commit": False, "auto_offset_reset": "none"},
            **more,
        )
        try:
            async with self.reaching():
                await client.start()
                check_met(client._client)
            if start:
                client.assign(list(start))
            for partition, offset in start.items():  # before the loop turns: nothing else may choose a position
                client.seek(partition, offset)
            await asyncio.sleep(0)  # let its tasks begin: one that is cancelled before that breaks `stop`
            yield client
        finally:
            await client.stop()

    async def partitions(self, *topics: str) -> dict[str, int]:
        """How many partitions each of these topics has that exist."""
        async with self.admin() as admin:
            return await partitions_of(admin, topics)

    async def partition_count(self, topic: str) -> int:
        """Raises `NotFound` where there is no such topic, `Retryable` where no broker answers."""
        found = await self.partitions(topic)
        if topic not in found:
            raise NotFound(
                f"there is no topic {topic!r} at {self.brokers}", hint="check topic and brokers, or create it"
            )
        return found[topic]


class _Admin(AIOKafkaAdminClient):  # type: ignore[misc]
    """aiokafka's, but for a cluster without a controller: one that is just coming back names none, which it takes for
    granted."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._brokers = options["bootstrap_servers"]

    async def _send_to_controller(self, request: Any) -> Any:
        try:
            return await super()._send_to_controller(request)
        except AttributeError as error:
            if self._client.cluster.controller is not None:
                raise
            told = f"Kafka at {self._brokers} names no controller yet, without which no topic is made"
            raise Retryable(told, code="SERVICE_UNAVAILABLE") from error


def check_met(client: AIOKafkaClient) -> None:
    """Raises `Retryable` where a client has been told of no brokers: one that is just coming back answers so. aiokafka
    takes that for a whole cluster, and then asks nobody any more, in a loop without a pause."""
    if not client.cluster.brokers():
        raise Retryable("the cluster has no brokers yet", code="SERVICE_UNAVAILABLE")


async def partitions_of(admin: AIOKafkaAdminClient, topics: Sequence[str]) -> dict[str, int]:
    """How many partitions each of these topics has that exist."""
    described = await admin.describe_topics(list(topics))
    return {
        found["topic"]: len(found["partitions"])
        for found in described
        if found["error_code"] == 0 and found["topic"] in topics
    }
