"""The Temporal dev server with its UI, the same program and options as the embedded one."""

from __future__ import annotations

import asyncio

from dataflow.embedded import binary, keeper, probe
from dataflow.embedded.record import Files, Record
from servers.places import Site
from servers.server import Launch, Progress, Server


def _silent(text: str) -> None:
    """The program is there already when this is called."""


async def install(progress: Progress) -> None:
    await binary.find(None, progress)


def launch(site: Site) -> Launch:
    site.data.mkdir(parents=True, exist_ok=True)
    ports = Record(
        state="starting",
        keeper=0,
        port=site.port,
        ui_port=site.ports["ui"],
        metrics_port=site.ports["metrics"],
    )
    program = asyncio.run(binary.find(None, _silent))
    return Launch(command=keeper.command(program, Files(home=site.data), ports, "default"))


def ready(site: Site) -> str:
    if not probe.serving(f"127.0.0.1:{site.port}"):
        raise ValueError("not serving")
    return binary.VERSION


TEMPORAL = Server(
    name="temporal",
    ports={"main": 7233, "ui": 8233, "metrics": 9233},
    install=install,
    launch=launch,
    ready=ready,
    variables=lambda site: {"DATAFLOW_TEMPORAL_ADDRESS": f"127.0.0.1:{site.port}"},
)
