"""The command line. Messages go to standard error, results to standard output."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import signal
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import servers
from dataflow.embedded import process
from dataflow.embedded.run import ProgramFailed
from dataflow.errors import DataFlowError
from servers import places
from servers.fleet import SERVERS, Fleet, NotUp
from servers.keeper import Keeper
from servers.places import Site
from servers.server import Missing


def tell(text: str) -> None:
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def parser() -> argparse.ArgumentParser:
    main = argparse.ArgumentParser(
        prog="docker/local", description=servers.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = main.add_subparsers(dest="command", required=True)

    def command(name: str, text: str, *, many: bool = True) -> argparse.ArgumentParser:
        one = commands.add_parser(name, help=text)
        one.add_argument("--root", type=Path, default=None, help=f"folder of data and logs ({places.default_root()})")
        if many:
            # Not `choices`: argparse would refuse the empty list.
            one.add_argument("names", nargs="*", help="servers; none: all of " + " ".join(SERVERS))
        return one

    up = command("up", "start servers and wait until each answers")
    up.add_argument("--free", action="store_true", help="any free ports instead of the usual ones")
    up.add_argument("--port", action="append", default=[], metavar="NAME=PORT", help="the port of one server")
    command("down", "stop servers in order; their data stays")
    command("status", "state, version, port and memory").add_argument("--json", action="store_true")
    command("env", "addresses of what runs, for eval", many=False)
    command("doctor", "what is here and what is missing")
    logs = command("logs", "the last lines of a server's log")
    logs.add_argument("--lines", type=int, default=40)
    keep = command("keep", "hold one server (what `up` starts)")
    keep.add_argument("--ports", nargs="+", required=True)
    keep.add_argument("--until", choices=["down", "unused"], default="down")
    return main


def main(arguments: Sequence[str] | None = None) -> int:
    """0: done; 1: a server failed, with its reason on standard error; 2: the command line makes no sense."""
    words = parser().parse_args(arguments)
    names: list[str] = getattr(words, "names", [])
    unknown = [name for name in names if name not in SERVERS]
    if unknown:
        tell(f"unknown server {unknown[0]}; there are {' '.join(SERVERS)}")
        return 2
    fleet = Fleet(words.root and words.root.absolute())
    try:
        match words.command:
            case "keep":
                return _keep(words, fleet)
            case "up":
                ports = {name: int(port) for name, _, port in (text.partition("=") for text in words.port)}
                asyncio.run(fleet.up(names or SERVERS, tell, free=words.free, ports=ports))
                tell(f"addresses in {fleet.root / 'addresses.env'}")
            case "down":
                asyncio.run(fleet.down(names or SERVERS, tell))
            case "status":
                _status(fleet, names, as_json=words.json)
            case "env":
                for key, value in fleet.variables().items():
                    sys.stdout.write(f"export {key}={value}\n")
            case "logs":
                for name in names or SERVERS:
                    _logs(fleet.site(name), words.lines)
            case "doctor":
                return _doctor(names or list(SERVERS))
    except (NotUp, Missing, ProgramFailed, DataFlowError) as error:
        tell(str(error))
        return 1
    return 0


def _keep(words: argparse.Namespace, fleet: Fleet) -> int:
    ports = {purpose: int(number) for purpose, _, number in (text.partition("=") for text in words.ports)}
    site = Site(root=fleet.root, name=words.names[0], ports=ports)
    keeper = Keeper(SERVERS[words.names[0]], site, until_unused=words.until == "unused")

    def ask(number: int, frame: object) -> None:
        keeper.asked_to_stop = True

    signal.signal(signal.SIGTERM, ask)
    signal.signal(signal.SIGINT, ask)
    return keeper.run()


def _status(fleet: Fleet, names: list[str], *, as_json: bool) -> None:
    found = fleet.status(names or SERVERS)
    if as_json:
        sys.stdout.write(json.dumps([asdict(status) for status in found]) + "\n")
        return
    for one in found:
        memory = f"{one.memory / 2**20:.0f} MiB" if one.memory else ""
        where = f"{one.port or '':>6}{one.pid or '':>9}"
        sys.stdout.write(
            f"{one.name:14}{one.state:15}{one.version:10}{where}{memory:>10}  {one.reason}".rstrip() + "\n"
        )
    total = sum(one.memory for one in found)
    sys.stdout.write(f"{'together':54}{total / 2**20:.0f} MiB\n")


def _logs(site: Site, lines: int) -> None:
    if site.log.exists():
        for line in site.log.read_text(errors="replace").splitlines()[-lines:]:
            sys.stdout.write(f"{site.name}: {line}\n")


def _doctor(names: list[str]) -> int:
    """What each server needs, found or not; 1 where something is missing."""
    missing = 0
    sys.stdout.write(f"cache {places.cache()}, {shutil.disk_usage('/').free / 2**30:.0f} GiB free on /\n")
    user = places.service_user()
    if user:
        sys.stdout.write(f"root: Elasticsearch and PostgreSQL run as {user} ({places.SERVICE_USER})\n")
    for name in names:
        server = SERVERS[name]
        taken = [str(port) for port in server.ports.values() if not process.is_free(port)]
        note = f" (ports taken: {' '.join(taken)})" if taken else ""
        try:
            asyncio.run(server.install(tell))
        except (Missing, ProgramFailed, DataFlowError) as error:
            missing += 1
            sys.stdout.write(f"{name:14}missing: {error}{note}\n")
        else:
            sys.stdout.write(f"{name:14}ready to start{note}\n")
    sys.stdout.write(f"{os.cpu_count()} cores\n")
    return 1 if missing else 0
