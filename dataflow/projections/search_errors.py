"""Elasticsearch's errors as ours, by what the caller should do about them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from elastic_transport import ConnectionTimeout, TransportError
from elasticsearch import ApiError

from dataflow.errors import Rejected, Retryable, TimedOut

_AWAY = (429, 502, 503, 504)


@contextmanager
def translated(where: str) -> Iterator[None]:
    """`where` is the address; a password in it is not shown."""
    place = where.rpartition("@")[2]
    try:
        yield
    except ConnectionTimeout as error:
        raise TimedOut(f"Elasticsearch does not answer: {error}", where=place) from error
    except TransportError as error:
        raise Retryable(f"Elasticsearch is not there: {error}", code="CONNECTION_FAILED", where=place) from error
    except ApiError as error:
        if error.status_code in _AWAY:
            raise Retryable(f"Elasticsearch: {error}", code="SERVICE_UNAVAILABLE", where=place) from error
        if error.status_code == 404:  # an index was taken away: entering again makes it
            raise Retryable(f"Elasticsearch: {error}", code="TEMPORARY_FAILURE", where=place) from error
        raise Rejected(f"Elasticsearch refused: {error}", where=place) from error
