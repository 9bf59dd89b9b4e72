"""What a Temporal cluster needs beforehand: the namespace, and our search attributes in its index.

The embedded dev server is started with both, so there is nothing to migrate.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta

from google.protobuf.duration_pb2 import Duration
from temporalio.api.operatorservice.v1 import ListSearchAttributesRequest, RemoveSearchAttributesRequest
from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest, RegisterNamespaceRequest
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from dataflow.errors import DataFlowError, Rejected, Retryable
from dataflow.migrate.stores import Standing, State, Store
from dataflow.platform import register_attributes
from dataflow.sdk.client import connect
from dataflow.settings import Settings
from workflows.names import ATTRIBUTES

RETENTION = timedelta(days=7)
"""How long a namespace made here keeps the history of closed workflows; the journal keeps everything for ever."""

SPREADING = 60.0
"""Seconds within which a cluster's servers learn of a new namespace (they refresh their registry every few)."""

_AGAIN = 0.25
_AWAY = {RPCStatusCode.UNAVAILABLE, RPCStatusCode.DEADLINE_EXCEEDED, RPCStatusCode.RESOURCE_EXHAUSTED}


def temporal_stores(settings: Settings) -> Sequence[Store]:
    """Namespace and search attributes of the configured cluster."""
    if settings.temporal_address is None:
        return [Embedded()]
    address, namespace = settings.temporal_address, settings.temporal_namespace
    return [Namespace(address, namespace), SearchAttributes(address, namespace)]


class Embedded:
    """This home's own dev server."""

    name = "temporal"
    where = "embedded"

    async def standing(self) -> Standing:
        return Standing(self.name, self.where, State.CURRENT, detail="starts with all it needs")

    up = down = standing


class Namespace:
    """The namespace of the workflows: made where it is missing and we may."""

    name = "temporal namespace"

    def __init__(self, address: str, namespace: str) -> None:
        self.where = f"{address} {namespace}"
        self._address, self._namespace = address, namespace

    async def standing(self) -> Standing:
        client = await connect(self._address, self._namespace)
        there = await self._exists(client)
        state = State.CURRENT if there else State.BEHIND
        return Standing(self.name, self.where, state, self._namespace if there else "", self._namespace)

    async def up(self) -> Standing:
        client = await connect(self._address, self._namespace)
        if not await self._exists(client):
            keep = Duration()
            keep.FromTimedelta(RETENTION)
            request = RegisterNamespaceRequest(
                namespace=self._namespace,
                description="DataFlow pipelines",
                workflow_execution_retention_period=keep,
            )
            try:
                await client.workflow_service.register_namespace(request)
            except RPCError as error:
                if error.status is not RPCStatusCode.ALREADY_EXISTS:
                    raise translated(error, "the namespace cannot be made", self.where) from error
        return await self.standing()

    async def down(self) -> Standing:
        found = await self.standing()
        return Standing(self.name, self.where, State.CURRENT, found.found, "", "stays: it may hold workflows")

    async def _exists(self, client: Client) -> bool:
        try:
            await client.workflow_service.describe_namespace(DescribeNamespaceRequest(namespace=self._namespace))
        except RPCError as error:
            if error.status is RPCStatusCode.NOT_FOUND:
                return False
            raise translated(error, "the namespace cannot be looked at", self.where) from error
        return True


class SearchAttributes:
    """The search attributes that every pipeline carries."""

    name = "temporal search attributes"

    def __init__(self, address: str, namespace: str) -> None:
        self.where = f"{address} {namespace}"
        self._address, self._namespace = address, namespace

    async def standing(self) -> Standing:
        present = await self._present(await connect(self._address, self._namespace))
        missing = [name for name in ATTRIBUTES if name not in present]
        return Standing(
            self.name,
            self.where,
            State.BEHIND if missing else State.CURRENT,
            found=", ".join(present),
            wanted=", ".join(ATTRIBUTES),
            detail=f"missing: {', '.join(missing)}" if missing else "",
        )

    async def up(self) -> Standing:
        client = await connect(self._address, self._namespace)
        deadline = asyncio.get_running_loop().time() + SPREADING
        while True:
            try:
                await register_attributes(client, self._namespace)
                if not set(ATTRIBUTES) - set(await self._present(client)):
                    return await self.standing()
            except DataFlowError:
                # A namespace made a moment ago is not known to every server yet, which answers as if it never would be.
                if asyncio.get_running_loop().time() > deadline:
                    raise
            if asyncio.get_running_loop().time() > deadline:
                raise Retryable("the search attributes were added, but are not listed yet", where=self.where)
            await asyncio.sleep(_AGAIN)

    async def down(self) -> Standing:
        client = await connect(self._address, self._namespace)
        if present := await self._present(client):
            try:
                await client.operator_service.remove_search_attributes(
                    RemoveSearchAttributesRequest(namespace=self._namespace, search_attributes=present)
                )
            except RPCError as error:
                if error.status is not RPCStatusCode.NOT_FOUND:
                    raise translated(error, "the search attributes cannot be removed", self.where) from error
        return await self.standing()

    async def _present(self, client: Client) -> list[str]:
        """Those of ours that the cluster knows; none where the namespace is missing."""
        try:
            known = await client.operator_service.list_search_attributes(
                ListSearchAttributesRequest(namespace=self._namespace)
            )
        except RPCError as error:
            if error.status is RPCStatusCode.NOT_FOUND:
                return []
            raise translated(error, "the search attributes cannot be listed", self.where) from error
        return [name for name in ATTRIBUTES if name in known.custom_attributes]


def translated(error: RPCError, what: str, where: str) -> DataFlowError:
    """The cluster's refusal as ours."""
    if error.status in _AWAY:
        return Retryable(f"{what}: {error.message}", code="SERVICE_UNAVAILABLE", where=where)
    hint = "let an operator do it" if error.status is RPCStatusCode.PERMISSION_DENIED else ""
    return Rejected(f"{what}: {error.message}", where=where, hint=hint)
