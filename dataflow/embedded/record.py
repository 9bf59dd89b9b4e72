"""What is known of a home's dev server: `temporal.json`, written by its keeper, read by everyone."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Literal

from dataflow.embedded import livefile
from dataflow.errors import Corrupt

State = Literal["starting", "ready", "restarting", "failed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Files:
    """The files of one home that belong to the dev server."""

    home: Path

    @property
    def record(self) -> Path:
        return self.home / "temporal.json"

    @property
    def users(self) -> Path:
        """Every user of the server holds this lock shared; the keeper stops the server once it gets it alone."""
        return self.home / "temporal.users"

    @property
    def keeper(self) -> Path:
        """Held by the one keeper of this home as long as it lives."""
        return self.home / "temporal.keeper"

    @property
    def database(self) -> Path:
        return self.home / "temporal.db"

    @property
    def log(self) -> Path:
        return self.home / "logs" / "temporal.log"


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One keeper's word on its server. `started` is the server's start, seconds since the epoch; ports 0: not known."""

    state: State
    keeper: int
    port: int = 0
    ui_port: int = 0
    metrics_port: int = 0
    pid: int = 0
    started: float = 0.0
    restarts: int = 0
    binary: str = ""
    error: str = ""

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def ui(self) -> str:
        return f"http://127.0.0.1:{self.ui_port}"

    @property
    def text(self) -> str:
        return json.dumps({**asdict(self), "address": self.address, "ui": self.ui}, indent=1) + "\n"

    @classmethod
    def parse(cls, text: str, path: Path) -> Record:
        """Raises `Corrupt` for what no keeper wrote."""
        try:
            data = json.loads(text)
            # What another release did not know has its default; what it knew more is not for us.
            return cls(**{field.name: data[field.name] for field in fields(cls) if field.name in data})
        except (ValueError, KeyError, TypeError) as error:
            raise Corrupt(
                f"not a record of the Temporal dev server: {error!r}", where=str(path), hint="remove it"
            ) from None

    @classmethod
    def read(cls, path: Path) -> Record | None:
        """The last record, its keeper alive or not; None where there is none."""
        text = livefile.read(path)
        return None if text is None else cls.parse(text, path)

    @classmethod
    def read_live(cls, path: Path) -> Record | None:
        """The record of a keeper that lives; None where there is none, or only what a killed keeper left behind."""
        text = livefile.read_live(path)
        return None if text is None else cls.parse(text, path)
