"""The event journal: `open_journal(url)` gives the backend that the URL names.

Backends are imported when they are used: SQLAlchemy takes longer to import than a small pipeline to run.
"""

from __future__ import annotations

from pathlib import Path

from dataflow.journal.base import Entry, Head, Journal, Page, Snapshot
from dataflow.journal.memory import MemoryJournal

__all__ = ["Entry", "Head", "Journal", "MemoryJournal", "Page", "Snapshot", "open_journal"]


def open_journal(url: str) -> Journal:
    """The journal at `url`, to be entered: `async with open_journal(url) as journal`.

    `sqlite:///dataflow.db` (a path after three slashes, absolute after four), `postgresql://user@host/name`,
    `cassandra://host:9042/keyspace?replication=3&consistency=QUORUM`, `archive:folder` (read only, see
    `dataflow audit archive`), or `memory:` (empty, and gone afterwards). Raises `Rejected` for a URL of any other
    kind; nothing is opened yet."""
    if url.partition(":")[0] == "memory":
        return MemoryJournal()
    if url.partition(":")[0] == "cassandra":
        from dataflow.journal.cassandra import CassandraJournal

        return CassandraJournal(url)
    if url.partition(":")[0] == "archive":
        from dataflow.journal.archive import ArchiveJournal

        return ArchiveJournal(Path(url.partition(":")[2]))
    from dataflow.journal.sql import SqlJournal

    return SqlJournal(url)
