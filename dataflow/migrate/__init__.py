"""The schema of every configured store: where it stands, brought forward, taken back.

The databases of the journal, the read models and the inbox, the search indices and the topic of published events where
they are configured, and of a configured Temporal cluster the namespace and the search attributes. Everything here may
be repeated, and interrupted anywhere. Other stores need nothing made beforehand: sinks make what they write to.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

from dataflow.errors import DataFlowError
from dataflow.migrate.stores import Standing, State, Store
from dataflow.settings import Settings

__all__ = ["Standing", "State", "Store", "beside_the_journal", "migrate_down", "migrate_up", "status", "stores"]

Progress = Callable[[Standing], object]
Ask = Callable[[], Awaitable[Standing]]


def stores(settings: Settings) -> Sequence[Store]:
    """The stores that the settings name, in the order in which they are brought forward. Nothing is opened yet."""
    from dataflow.migrate.journal import journal_store
    from dataflow.migrate.temporal import temporal_stores

    return [journal_store(settings.journal_url), *beside_the_journal(settings), *temporal_stores(settings)]


def beside_the_journal(settings: Settings) -> Sequence[Store]:
    """Of these the read models, the inbox, and what else the projections write to."""
    import migrations
    from dataflow.migrate.journal import SqlStore
    from dataflow.migrate.readside import readside_stores

    models = SqlStore(settings.readmodel_url, "read models", migrations.READ_MODELS)
    inbox = SqlStore(settings.inbox_url, "inbox", migrations.INBOX)
    return [models, inbox, *readside_stores(settings)]


async def status(chosen: Sequence[Store]) -> list[Standing]:
    """Where each stands. A store that cannot be asked is `FAILED`, with the reason."""
    return [await _asked(store, store.standing) for store in chosen]


async def migrate_up(chosen: Sequence[Store], on_progress: Progress) -> list[Standing]:
    """Bring each to the schema of this version; `on_progress` takes each when it is done. One that fails does not keep
    the others from being tried."""
    return [await _moved(store, store.up, on_progress) for store in chosen]


async def migrate_down(chosen: Sequence[Store], on_progress: Progress) -> list[Standing]:
    """Take each one revision back, in the opposite order; what only this revision could hold is gone, events as well.
    A namespace stays: it may hold workflows of others."""
    return [await _moved(store, store.down, on_progress) for store in reversed(chosen)]


async def _moved(store: Store, move: Ask, on_progress: Progress) -> Standing:
    before = await _asked(store, store.standing)
    after = before if before.state is State.FAILED else await _asked(store, move)
    after = replace(after, was=before.found)
    on_progress(after)
    return after


async def _asked(store: Store, ask: Ask) -> Standing:
    try:
        return await ask()
    except DataFlowError as error:
        return Standing(store.name, store.where, State.FAILED, detail=str(error))
