"""`up` and `worker`: processes that stay until they are told to go."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from dataflow.cli.interrupt import Interrupt
from dataflow.cli.result import DONE, JSON, emit, note, perform, say
from dataflow.cli.session import quitting, session, settings

if TYPE_CHECKING:
    from dataflow.platform import Platform

_HOST = typer.Option("", "--host", help="Address the API listens on; default: the setting api_host.")
_PORT = typer.Option(-1, "--port", help="Port of the API; default: the setting api_port.", show_default=False)
PROCESSES = typer.Option(
    0,
    "--processes",
    min=0,
    max=256,
    help="Processes that move data; default: the setting worker_processes.",
    show_default=False,
)


def up(host: str = _HOST, port: int = _PORT, processes: int = PROCESSES, as_json: bool = JSON) -> None:
    """Start Temporal, a worker and the API here, and stay.

    Prints the addresses; Ctrl-C or SIGTERM ends it."""
    perform(_up(host, port, processes, as_json), as_json=as_json)


async def _up(host: str, port: int, processes: int, as_json: bool) -> int:
    from dataflow.api.app import PREFIX
    from dataflow.api.past import past_routes
    from dataflow.api.query import query_routes
    from dataflow.api.server import serving
    from dataflow.projections.configured import ReadModels

    chosen = settings()
    with _interrupt() as interrupt, quitting(interrupt):
        async with session(
            chosen, note, worker=True, project=True, processes=processes, interrupt=interrupt
        ) as platform:
            journal = platform.journal
            routes = [past_routes(journal, PREFIX), query_routes(ReadModels(chosen), journal, PREFIX)]
            where = host or chosen.api_host, chosen.api_port if port < 0 else port
            async with serving(platform.client, *where, routes) as address:
                _announce(platform, address, as_json)
                await interrupt.wait()
    return DONE


def worker(processes: int = PROCESSES, as_json: bool = JSON) -> None:
    """Work on pipelines until Ctrl-C or SIGTERM.

    On those of the configured Temporal, or of this home's."""
    perform(_worker(processes, as_json), as_json=as_json)


async def _worker(processes: int, as_json: bool) -> int:
    with _interrupt() as interrupt, quitting(interrupt):
        async with session(
            settings(), note, worker=True, project=True, processes=processes, interrupt=interrupt
        ) as platform:
            _announce(platform, None, as_json)
            await interrupt.wait()
    return DONE


def _interrupt() -> Interrupt:
    return Interrupt(lambda: note("leaving: segments end at their next epoch boundary"), lambda: None)


def _announce(platform: Platform, api: str | None, as_json: bool) -> None:
    address = platform.address
    if as_json:
        emit(
            {
                "status": "up",
                "api": api,
                "temporal": address.target,
                "temporal_ui": address.ui,
                "namespace": address.namespace,
                "home": str(platform.settings.home),
            }
        )
        return
    if api:
        say(f"API          {api}")
    say(f"Temporal     {address.target}, namespace {address.namespace}")
    if address.ui:
        say(f"Temporal UI  {address.ui}")
    say(f"home         {platform.settings.home}")
    say("Ctrl-C ends it")


COMMANDS = (up, worker)
