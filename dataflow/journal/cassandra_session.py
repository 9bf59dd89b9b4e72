"""Connections to Cassandra for the journal: the URL, the session, its errors as ours.

The driver's own threads speak to the cluster; its calls block, and are made in threads of `CassandraJournal`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from cassandra import (  # type: ignore[import-untyped]
    AuthenticationFailed,
    ConsistencyLevel,
    DriverException,
    InvalidRequest,
    OperationTimedOut,
    ReadTimeout,
    Unauthorized,
    Unavailable,
    WriteTimeout,
)
from cassandra.auth import PlainTextAuthProvider  # type: ignore[import-untyped]
from cassandra.cluster import (  # type: ignore[import-untyped]
    EXEC_PROFILE_DEFAULT,
    Cluster,
    ExecutionProfile,
    NoHostAvailable,
    Session,
)
from cassandra.concurrent import execute_concurrent  # type: ignore[import-untyped]
from cassandra.connection import ConnectionException  # type: ignore[import-untyped]
from cassandra.policies import (  # type: ignore[import-untyped]
    ConstantReconnectionPolicy,
    DCAwareRoundRobinPolicy,
    FallthroughRetryPolicy,
    RoundRobinPolicy,
    TokenAwarePolicy,
)
from cassandra.protocol import SyntaxException  # type: ignore[import-untyped]

from dataflow.errors import DataFlowError, Rejected, Retryable, TimedOut

DEFAULT_PORT = 9042
REQUEST_SECONDS = 30.0
CONNECT_SECONDS = 15.0
AT_ONCE = 64
"""Statements of one step under way at a time."""

_CONSISTENCIES = ("ONE", "QUORUM", "LOCAL_QUORUM", "EACH_QUORUM", "ALL")
_OPTIONS = frozenset({"replication", "consistency", "datacenter"})


@dataclass(frozen=True, slots=True, kw_only=True)
class CassandraUrl:
    """`cassandra://[user:password@]host[,host][:port]/keyspace?replication=3&consistency=QUORUM&datacenter=dc1`.

    `replication` is a number of copies, or one for each data centre (`dc1:3,dc2:2`); it counts when the keyspace is
    made. `consistency` is that of reads and writes; ONE is for a single node, since what is read must have been
    written. `datacenter` is the one whose nodes are asked."""

    hosts: tuple[str, ...]
    port: int
    keyspace: str
    user: str
    password: str
    replication: str
    consistency: str
    datacenter: str

    @classmethod
    def parse(cls, url: str) -> CassandraUrl:
        """`Rejected` where the URL is none of a Cassandra journal."""
        try:
            parts = urlsplit(url)
            hosts, port = _hosts(parts.netloc.rpartition("@")[2])
            options = dict(parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query)))
        except ValueError as error:
            raise Rejected(f"the journal's URL cannot be read: {error}", hint=_EXAMPLE) from None
        keyspace = unquote(parts.path.strip("/"))
        consistency = options.get("consistency", "QUORUM").upper()
        problem = ""
        if parts.scheme != "cassandra" or not all(hosts):
            problem = "it names no Cassandra host"
        elif not (keyspace and len(keyspace) <= 48 and keyspace.replace("_", "a").isalnum() and keyspace.isascii()):
            problem = f"{keyspace!r} is no name of a keyspace"
        elif unknown := sorted(options.keys() - _OPTIONS):
            problem = f"there is no option {unknown[0]!r}"
        elif consistency not in _CONSISTENCIES:
            problem = f"the consistency is one of {', '.join(_CONSISTENCIES)}"
        if problem:
            raise Rejected(f"the journal's URL cannot be used: {problem}", hint=_EXAMPLE)
        return cls(
            hosts=hosts,
            port=port,
            keyspace=keyspace,
            user=unquote(parts.username or ""),
            password=unquote(parts.password or ""),
            replication=_replication(options.get("replication", "1")),
            consistency=consistency,
            datacenter=options.get("datacenter", ""),
        )

    @property
    def where(self) -> str:
        """The URL for people, without a password."""
        user = f"{self.user}:***@" if self.user else ""
        return f"cassandra://{user}{','.join(self.hosts)}:{self.port}/{self.keyspace}"


_EXAMPLE = "for example cassandra://10.0.0.1,10.0.0.2:9042/dataflow?replication=3&consistency=QUORUM"


def _hosts(text: str) -> tuple[tuple[str, ...], int]:
    names, ports = [], set()
    for part in text.split(","):
        name, colon, port = part.rpartition(":")
        names.append(name if colon else part)
        if colon:
            ports.add(int(port))
    if len(ports) > 1:
        raise ValueError("all hosts have one port")
    return tuple(names), ports.pop() if ports else DEFAULT_PORT


def _replication(text: str) -> str:
    """The CQL map. SimpleStrategy knows no data centres, so it is for one."""
    if text.isdigit() and int(text) > 0:
        return f"{{'class': 'SimpleStrategy', 'replication_factor': {int(text)}}}"
    centres = [part.partition(":") for part in text.split(",")]
    if not all(name.replace("-", "").replace("_", "").isalnum() and copies.isdigit() for name, _, copies in centres):
        raise Rejected(f"{text!r} is no replication", hint="a number, or dc1:3,dc2:2")
    pairs = "".join(f", '{name}': {int(copies)}" for name, _, copies in centres)
    return f"{{'class': 'NetworkTopologyStrategy'{pairs}}}"


def connect(url: CassandraUrl) -> tuple[Cluster, Session]:
    """A session outside any keyspace, and the cluster to shut down at the end. No automatic retries: an append decides
    itself what an unknown outcome means, and everything else is repeated by the caller."""
    nodes = DCAwareRoundRobinPolicy(url.datacenter) if url.datacenter else RoundRobinPolicy()
    local = url.consistency == "LOCAL_QUORUM"
    profile = ExecutionProfile(
        load_balancing_policy=TokenAwarePolicy(nodes),
        retry_policy=FallthroughRetryPolicy(),
        consistency_level=getattr(ConsistencyLevel, url.consistency),
        serial_consistency_level=ConsistencyLevel.LOCAL_SERIAL if local else ConsistencyLevel.SERIAL,
        request_timeout=REQUEST_SECONDS,
    )
    cluster = Cluster(
        list(url.hosts),
        port=url.port,
        auth_provider=PlainTextAuthProvider(url.user, url.password) if url.user else None,
        execution_profiles={EXEC_PROFILE_DEFAULT: profile},
        protocol_version=5,
        connect_timeout=CONNECT_SECONDS,
        reconnection_policy=ConstantReconnectionPolicy(1.0, max_attempts=None),
    )
    try:
        return cluster, cluster.connect()
    except BaseException:
        cluster.shutdown()
        raise


def all_at_once(session: Session, statements: Sequence[tuple[Any, Any]]) -> list[Any]:
    """Run the statements side by side; their results in order. The first error is raised, once all have ended."""
    results = execute_concurrent(session, statements, concurrency=AT_ONCE, raise_on_first_error=False)
    for succeeded, result in results:
        if not succeeded:
            raise result
    return [result for _, result in results]


@contextmanager
def translated(where: str) -> Iterator[None]:
    """The driver's errors as ours, by what the caller should do about them."""
    try:
        yield
    except (DriverException, ConnectionException, NoHostAvailable, OSError) as error:
        raise _translate(error, where) from error


def _translate(error: Exception, where: str) -> DataFlowError:
    text = str(error).splitlines()[0] if str(error) else type(error).__name__
    causes = list(error.errors.values()) if isinstance(error, NoHostAvailable) else [error]
    if any(isinstance(cause, AuthenticationFailed | Unauthorized) for cause in causes):
        return Rejected(f"Cassandra does not let us in: {text}", where=where)
    if isinstance(error, ReadTimeout | WriteTimeout | OperationTimedOut):
        return TimedOut(f"Cassandra did not answer in time: {text}", where=where)
    if isinstance(error, Unavailable):
        return Retryable(f"too few nodes are up: {text}", code="SERVICE_UNAVAILABLE", where=where)
    if isinstance(error, InvalidRequest | SyntaxException):
        return Rejected(f"Cassandra refused the statement: {text}", where=where)
    return Retryable(f"Cassandra is not available: {text}", code="CONNECTION_FAILED", where=where)
