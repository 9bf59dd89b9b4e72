"""Servers of one root folder: up, down, what they are doing, and faults on demand."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil  # type: ignore[import-untyped]

from dataflow.embedded import process
from dataflow.embedded.lock import FileLock, is_held, is_shared
from servers.cassandra import CASSANDRA
from servers.disk import Slowed, slow_disk
from servers.elasticsearch import ELASTICSEARCH
from servers.held import Held
from servers.kafka import KAFKA
from servers.places import Site, default_root
from servers.postgres import POSTGRES
from servers.redis import REDIS
from servers.server import Progress, Server
from servers.temporal import TEMPORAL

SERVERS: dict[str, Server] = {
    server.name: server for server in (KAFKA, CASSANDRA, ELASTICSEARCH, POSTGRES, REDIS, TEMPORAL)
}
POLL = 0.05
START_LIMIT = 240.0
MAIN = Path(__file__).resolve().parent.parent / "__main__.py"


class NotUp(Exception):
    """A server could not be started, or is not running; the message says which and why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """`memory`: resident bytes of the server and what it has started; 0 where it does not run."""

    name: str
    state: str
    port: int = 0
    version: str = ""
    pid: int = 0
    memory: int = 0
    seconds: float = 0.0
    reason: str = ""


class Fleet:
    """The servers under `root`. With `until_unused` they live as long as somebody is inside `with fleet:`."""

    def __init__(self, root: Path | None = None, *, until_unused: bool = False) -> None:
        self.root = root or default_root()
        self.until_unused = until_unused
        self._using = FileLock(Site(root=self.root, name="", ports={}).users)

    def __enter__(self) -> Fleet:
        while not self._using.acquire(shared=True):  # a keeper may just be looking at it
            time.sleep(POLL)
        return self

    def __exit__(self, *exc: object) -> None:
        self._using.release()

    def wait_until_unused(self) -> bool:
        """After the last `with` of an `until_unused` fleet: wait for its servers' end, remove the data of those that
        had died. False: others still use them."""
        if is_shared(self._using.path):
            return False
        keepers = [self.site(name).keeper for name in SERVERS]
        deadline = time.monotonic() + START_LIMIT
        while any(path.exists() and is_held(path) for path in keepers) and time.monotonic() < deadline:
            time.sleep(POLL)
        for name in SERVERS:
            shutil.rmtree(self.site(name).data, ignore_errors=True)
        return True

    def site(self, name: str) -> Site:
        """Where the server is, or was last."""
        bare = Site(root=self.root, name=name, ports={})
        held = Held.read(bare)
        return Site(root=self.root, name=name, ports=held.ports if held else {})

    async def up(
        self, names: Iterable[str], progress: Progress, *, free: bool = False, ports: Mapping[str, int] | None = None
    ) -> dict[str, Site]:
        """Start those that do not run, all at once; return when each answers. Running ones are left alone.

        Ports: those of `ports`, else `DATAFLOW_<NAME>_PORT`, else the ones it had last, else any free ones (`free`),
        else the usual ones. Raises `NotUp` with what every failed one said; the others stay up."""
        names = list(names)
        results = await asyncio.gather(
            *(self._up(SERVERS[name], progress, free, (ports or {}).get(name)) for name in names),
            return_exceptions=True,
        )
        self._write_addresses()
        failed = [
            f"{name}: {error}" for name, error in zip(names, results, strict=True) if isinstance(error, Exception)
        ]
        if failed:
            raise NotUp("\n".join(failed))
        return {name: self.site(name) for name in names}

    async def _up(self, server: Server, progress: Progress, free: bool, port: int | None) -> None:
        site = self.site(server.name)
        keepers: list[subprocess.Popen[bytes]] = []
        if not is_held(site.keeper):
            await server.install(progress)
            site = Site(root=self.root, name=server.name, ports=self._ports(server, site, free, port))
            progress(f"{server.name}: starting on port {site.port}")
            keepers.append(self._keep(site))
        deadline = time.monotonic() + START_LIMIT
        while time.monotonic() < deadline:
            held = Held.read_live(site)
            if held and held.state == "ready":
                if keepers:
                    progress(f"{server.name}: {held.version} answers on port {held.ports['main']} ({held.seconds:g} s)")
                return
            if not is_held(site.keeper) and all(keeper.poll() is not None for keeper in keepers):
                last = Held.read(site)
                raise NotUp(last.reason if last and last.reason else f"its keeper has gone; see {site.log}")
            await asyncio.sleep(POLL)
        raise NotUp(f"not ready within {START_LIMIT:g} s; see {site.log}")

    def _ports(self, server: Server, last: Site, free: bool, port: int | None) -> dict[str, int]:
        named = port or int(os.environ.get(f"DATAFLOW_{server.name.upper()}_PORT", "0"))
        if named:
            shift = named - server.ports["main"]
            chosen = {purpose: number + shift for purpose, number in server.ports.items()}
        elif last.ports.keys() == server.ports.keys():
            chosen = dict(last.ports)
        elif free:
            return dict(zip(server.ports, process.free_ports(len(server.ports)), strict=True))
        else:
            chosen = dict(server.ports)
        taken = [number for number in chosen.values() if not process.is_free(number)]
        if taken:
            raise NotUp(f"port {taken[0]} is taken by another program: free it, name another (--port), or say --free")
        return chosen

    def _keep(self, site: Site) -> subprocess.Popen[bytes]:
        site.log.parent.mkdir(parents=True, exist_ok=True)
        ports = [f"{purpose}={number}" for purpose, number in site.ports.items()]
        until = ["--until", "unused"] if self.until_unused else []
        with site.log.open("ab") as log:
            return subprocess.Popen(
                [sys.executable, str(MAIN), "keep", site.name, "--root", str(self.root), "--ports", *ports, *until],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    async def down(self, names: Iterable[str], progress: Progress) -> None:
        """Stop them in order, all at once; those that do not run are fine. The data stays."""
        await asyncio.gather(*(self._down(SERVERS[name], progress) for name in names))
        self._write_addresses()

    async def _down(self, server: Server, progress: Progress) -> None:
        site = self.site(server.name)
        held = Held.read_live(site)
        if held:
            progress(f"{server.name}: stopping")
            os.kill(held.keeper, signal.SIGTERM)
            deadline = time.monotonic() + server.grace + 10
            while is_held(site.keeper) and time.monotonic() < deadline:  # noqa: ASYNC110 - a lock sends no event
                await asyncio.sleep(POLL)
            if is_held(site.keeper):
                os.kill(held.keeper, signal.SIGKILL)  # the server goes with it
            progress(f"{server.name}: stopped")

    def status(self, names: Iterable[str] = SERVERS) -> list[Status]:
        return [self._status(SERVERS[name]) for name in names]

    def _status(self, server: Server) -> Status:
        site = self.site(server.name)
        held = Held.read_live(site)
        if held is None:
            last = Held.read(site)
            if last is None:
                return Status(name=server.name, state="never started")
            state = last.state if last.state in ("stopped", "failed", "died") else "died"
            return Status(name=server.name, state=state, port=last.ports.get("main", 0), reason=last.reason)
        return Status(
            name=server.name,
            state=held.state,
            port=held.ports["main"],
            version=held.version,
            pid=held.pid,
            memory=self._memory(held.pid),
            seconds=held.seconds,
        )

    @staticmethod
    def _memory(pid: int) -> int:
        """Of the process and all below it; they come and go meanwhile."""
        total = 0
        with contextlib.suppress(psutil.NoSuchProcess):
            for one in (parent := psutil.Process(pid), *parent.children(recursive=True)):
                with contextlib.suppress(psutil.NoSuchProcess):
                    total += one.memory_info().rss
        return total

    def variables(self) -> dict[str, str]:
        """Addresses of the servers that answer, as environment variables."""
        ready = [status.name for status in self.status() if status.state == "ready"]
        return {key: value for name in ready for key, value in SERVERS[name].variables(self.site(name)).items()}

    def _write_addresses(self) -> None:
        lines = [f"export {key}={value}\n" for key, value in self.variables().items()]
        self.root.mkdir(parents=True, exist_ok=True)
        addresses = self.root / "addresses.env"
        addresses.touch(mode=0o600)  # passwords of servers that ask for one are among them
        addresses.write_text("".join(lines))

    # --- faults ---------------------------------------------------------------------------------------------------

    def _pid(self, name: str) -> int:
        held = Held.read_live(self.site(name))
        if held is None or not held.pid:
            raise NotUp(f"{name} is not running")
        return held.pid

    def kill(self, name: str) -> None:
        """kill -9 of the server and what it has started. Returns when it is gone; its record says that it died."""
        site = self.site(name)
        os.killpg(self._pid(name), signal.SIGKILL)
        while is_held(site.keeper):
            time.sleep(POLL)

    def freeze(self, name: str) -> None:
        """SIGSTOP: it holds its connections and answers nothing."""
        os.killpg(self._pid(name), signal.SIGSTOP)

    def thaw(self, name: str) -> None:
        """SIGCONT: it wakes up late."""
        os.killpg(self._pid(name), signal.SIGCONT)

    def slow_disk(self, name: str, delay: float) -> contextlib.AbstractContextManager[Slowed]:
        """`with`: each of its flushes to the medium takes `delay` seconds longer."""
        site = self.site(name)
        return slow_disk(self._pid(name), delay, site.log.with_name(f"{name}-slow-disk.log"))

    async def restart(self, name: str, progress: Progress) -> None:
        """Stop it in order, if it runs, and start it again on the same port and data."""
        await self.down([name], progress)
        await self.up([name], progress)
