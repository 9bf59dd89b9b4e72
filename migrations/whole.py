"""A chain's newest schema of SQLite as one script, so that a new home need not load alembic, which takes longer than a
small run does. `python -m migrations.whole` writes the script anew from the migrations; a test compares."""

from __future__ import annotations

import re
import sqlite3
from pathlib import Path
from tempfile import TemporaryDirectory

from migrations import JOURNAL, Chain


def made_by_migrations(chain: Chain) -> str:
    """The script of what the chain's migrations, one after the other, make of an empty database."""
    with TemporaryDirectory() as folder:
        file = Path(folder) / "empty.db"
        chain.upgrade(f"sqlite:///{file}", chain.head)
        return script(file)


def script(file: Path) -> str:
    """The statements that make the database in the file, its rows too, with an empty line between them."""
    database = sqlite3.connect(file)
    try:
        found = [re.sub(r"\s*\n", "\n", statement) for statement in database.iterdump()]
    finally:
        database.close()
    return "\n\n".join(found[1:-1]) + "\n"  # without BEGIN and COMMIT: whoever runs it has a transaction


if __name__ == "__main__":
    JOURNAL.whole.write_text(made_by_migrations(JOURNAL), encoding="utf-8")
