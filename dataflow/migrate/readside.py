"""What the projections write to beside the tables: the search indices, and the topic that events are published to.

The projector makes what is missing when it comes; this is for those who want it there beforehand, with rights of
their own. What an index holds is built from the journal again; a topic belongs to its readers and stays.
"""

from __future__ import annotations

from collections.abc import Sequence

from dataflow.migrate.stores import Standing, State, Store
from dataflow.projections.publication import Publication
from dataflow.projections.search import SearchProjection
from dataflow.settings import Settings


def readside_stores(settings: Settings) -> Sequence[Store]:
    """Those of them that are configured."""
    found: list[Store] = []
    if settings.search_url:
        found.append(SearchIndices(settings.search_url, settings.search_prefix))
    if settings.publish_brokers:
        found.append(PublishedTopic(settings.publish_brokers, settings.publish_topic))
    return found


class SearchIndices:
    """The indices and aliases of the search projection."""

    name = "search indices"

    def __init__(self, url: str, prefix: str) -> None:
        self.where = f"{url.rpartition('@')[2]} {prefix}-*"
        self._projection = SearchProjection(url, prefix)

    async def standing(self) -> Standing:
        there = await self._projection.there()
        return Standing(
            self.name, self.where, State.CURRENT if there else State.BEHIND, "made" if there else "", "made"
        )

    async def up(self) -> Standing:
        async with self._projection:
            pass  # entering makes what is missing
        return await self.standing()

    async def down(self) -> Standing:
        await self._projection.remove()
        return await self.standing()


class PublishedTopic:
    """The topic of published events, and the one that says how far they have been."""

    name = "published events"

    def __init__(self, brokers: str, topic: str) -> None:
        self.where = f"{brokers} {topic}"
        self._publication = Publication(brokers, topic)

    async def standing(self) -> Standing:
        missing = await self._publication.missing()
        wanted = ", ".join(self._publication.topics)
        found = ", ".join(topic for topic in self._publication.topics if topic not in missing)
        return Standing(self.name, self.where, State.BEHIND if missing else State.CURRENT, found, wanted)

    async def up(self) -> Standing:
        await self._publication.prepare()
        return await self.standing()

    async def down(self) -> Standing:
        """The topics stay: others may read them."""
        return await self.standing()
