"""What migrating knows of a store."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol


class State(StrEnum):
    """Where a store stands against what this version of DataFlow wants."""

    CURRENT = "current"
    BEHIND = "behind"  # `up` has something to do
    NEWER = "newer"  # a later version of DataFlow has been at work
    FAILED = "failed"  # it could not be asked or changed


@dataclass(frozen=True, slots=True)
class Standing:
    """A store's schema as it is: `found` and `wanted` name revisions, empty where there is none. `where` shows no
    password. `was` is what `found` had been before the change that this reports."""

    store: str
    where: str
    state: State
    found: str = ""
    wanted: str = ""
    detail: str = ""
    was: str = ""


class Store(Protocol):
    """One store with a schema. Methods raise the errors of `dataflow.errors`; each returns where the store stands
    afterwards, and may be repeated."""

    @property
    def name(self) -> str: ...

    @property
    def where(self) -> str: ...

    async def standing(self) -> Standing:
        """Looks, and creates nothing: neither a file nor a folder."""
        ...

    async def up(self) -> Standing: ...

    async def down(self) -> Standing: ...
