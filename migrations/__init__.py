"""Schema migrations of the SQL stores: the journal's (the functions here), `READ_MODELS` and `INBOX`.

`upgrade` is safe to call from several processes at once: one does the work, the others wait for it.
"""

from __future__ import annotations

from pathlib import Path

from migrations.chain import Chain

_HERE = Path(__file__).parent

JOURNAL = Chain(_HERE / "sql", "0001", "alembic_version", 7235101)
READ_MODELS = Chain(_HERE / "readmodels", "0002", "readmodels_version", 7235102)
INBOX = Chain(_HERE / "inbox", "0001", "inbox_version", 7235103)

HEAD = JOURNAL.head
current, upgrade, downgrade, is_known = JOURNAL.current, JOURNAL.upgrade, JOURNAL.downgrade, JOURNAL.is_known

__all__ = [
    "HEAD",
    "INBOX",
    "JOURNAL",
    "READ_MODELS",
    "Chain",
    "current",
    "downgrade",
    "is_known",
    "upgrade",
]
