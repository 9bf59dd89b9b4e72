"""`dataflow doctor`: is everything here that DataFlow needs?"""

from __future__ import annotations

import os
import platform as machine
import shutil
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Literal

import typer

from dataflow.cli.result import DONE, FAILED, JSON, emit, perform, say

if TYPE_CHECKING:
    from dataflow.settings import Settings

LITTLE_SPACE = 1 << 30


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at. `bad` keeps DataFlow from working; `warning` may."""

    name: str
    verdict: Literal["ok", "warning", "bad"]
    detail: str


_FILES = typer.Argument(None, help="Pipeline files whose systems are asked too.", show_default=False)


def doctor(files: list[str] = _FILES, as_json: bool = JSON) -> None:
    """Look whether all that is needed is here.

    Versions, Temporal, disk, ports, the journal, the inbox and read models, search, Redis and publication where the
    settings name them; with pipeline files also whether the systems behind their sources and sinks serve them. Exit 1
    if something is bad."""
    perform(_doctor(files or [], as_json), as_json=as_json)


async def _doctor(files: list[str], as_json: bool) -> int:
    from dataflow.cli.session import settings

    chosen = settings()
    findings = [*_python(), *_packages(), *_home(chosen), await _temporal(chosen), *_ports(chosen)]
    findings.append(await _journal(chosen))
    findings += await _stores(chosen)
    findings += [Finding("settings", "warning", advice) for advice in chosen.advice]
    for file in files:
        findings += await _systems(file, chosen)
    worst = "bad" if any(f.verdict == "bad" for f in findings) else "ok"
    if as_json:
        emit({"status": worst, "findings": [asdict(finding) for finding in findings]})
    else:
        width = max(len(finding.name) for finding in findings)
        for finding in findings:
            say(f"{finding.verdict:<8} {finding.name:<{width}}  {finding.detail}")
    return FAILED if worst == "bad" else DONE


def _python() -> Iterator[Finding]:
    found = ".".join(map(str, sys.version_info[:3]))
    verdict: Literal["ok", "bad"] = "ok" if sys.version_info >= (3, 11) else "bad"
    yield Finding("python", verdict, f"{found} at {sys.executable}, {machine.platform()}, {os.cpu_count()} CPUs")


def _packages() -> Iterator[Finding]:
    """The packages we stand on, as our own metadata names them."""
    try:
        wanted = requires("dataflow") or []
        yield Finding("dataflow", "ok", version("dataflow"))
    except PackageNotFoundError:
        yield Finding("dataflow", "bad", "is not installed: uv sync")
        return
    found, missing = [], []
    for line in wanted:
        name = line.partition(";")[0].replace("[", ">").partition(">")[0].strip("=<>!~ ")
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            missing.append(name)
    if missing:
        yield Finding("packages", "bad", f"missing: {', '.join(missing)} (uv sync)")
    yield Finding("packages", "ok", ", ".join(found))


def _home(chosen: Settings) -> Iterator[Finding]:
    home = chosen.home
    present = home
    while not present.exists():
        present = present.parent
    try:
        with TemporaryFile(dir=present):
            yield Finding("home", "ok", f"{home} is writable" + ("" if home.exists() else " (not there yet)"))
    except OSError as error:
        yield Finding("home", "bad", f"{home}: {error.strerror}")
    free = shutil.disk_usage(present).free
    verdict: Literal["ok", "warning"] = "ok" if free >= LITTLE_SPACE else "warning"
    yield Finding("disk", verdict, f"{free / (1 << 30):.1f} GiB free")


async def _temporal(chosen: Settings) -> Finding:
    """A server that answers, or a program that could become one. Nothing is downloaded or built to find out."""
    from dataflow.embedded import binary
    from dataflow.embedded.run import ProgramFailed
    from dataflow.embedded.temporal import running
    from dataflow.errors import DataFlowError

    if chosen.temporal_address:
        from dataflow.sdk.client import connect

        try:
            await connect(chosen.temporal_address, chosen.temporal_namespace)
        except DataFlowError as error:
            return Finding("temporal", "bad", str(error))
        return Finding("temporal", "ok", f"{chosen.temporal_address} answers")
    if (record := running(chosen.home)) is not None:
        return Finding("temporal", "ok", f"this home's server is up at {record.address}, UI {record.ui}")
    on_path = shutil.which("temporal")
    places = {
        "DATAFLOW_TEMPORAL_BINARY": chosen.temporal_binary,
        "PATH": Path(on_path) if on_path else None,
        "cache": binary.cache() / f"temporal-{binary.VERSION}" / "temporal",
    }
    for place, program in places.items():
        if program is None or not program.is_file():
            continue
        try:
            return Finding("temporal", "ok", f"{await binary.check(program)}: {program} ({place})")
        except ProgramFailed as error:
            return Finding("temporal", "bad", f"{program} ({place}): {error}")
    return Finding("temporal", "warning", "no temporal program yet: the first run downloads or builds one")


def _ports(chosen: Settings) -> Iterator[Finding]:
    from dataflow.embedded.process import is_free

    for name, port in (("api port", chosen.api_port), ("metrics port", chosen.metrics_port)):
        if port and not is_free(port):
            yield Finding(name, "warning", f"{port} is taken; set another, or 0 for any free one")
        else:
            yield Finding(name, "ok", f"{port} is free" if port else "any free one")


async def _journal(chosen: Settings) -> Finding:
    from dataflow.errors import DataFlowError
    from dataflow.journal import open_journal
    from dataflow.journal.audit import audit_verify_all

    if chosen.journal_url.startswith("sqlite:") and not Path(chosen.journal_url.removeprefix("sqlite:///")).exists():
        return Finding("journal", "ok", "none yet: the first run makes it")
    try:
        async with open_journal(chosen.journal_url) as journal:
            streams = await journal.streams()
            broken = await audit_verify_all(journal)
            end = await journal.end()
    except DataFlowError as error:
        return Finding("journal", "bad", str(error))
    if broken:
        return Finding("journal", "bad", "; ".join(f"{one.stream}/{one.sequence}: {one.reason}" for one in broken[:5]))
    return Finding("journal", "ok", f"{end:,} events in {len(streams):,} streams, every chain of hashes whole")


async def _stores(chosen: Settings) -> list[Finding]:
    """The inbox, and what the read side writes to, where they are configured. Looks, and makes nothing."""
    from dataflow.migrate import State, beside_the_journal, status

    found = []
    for one in await status(beside_the_journal(chosen)):
        verdict: Literal["ok", "warning", "bad"] = "ok"
        if one.state is State.FAILED:  # pipelines go on without the read side
            verdict = "bad" if one.store == "inbox" else "warning"
            detail = one.detail
        elif one.state is State.NEWER:
            verdict, detail = "bad", f"schema {one.found}: {one.detail}"
        elif one.state is State.BEHIND:
            detail = f"{one.where}: not all there yet, made when it is needed (or by dataflow migrate up)"
        else:
            detail = f"{one.where}: {one.found or 'there'}"
        found.append(Finding(one.store, verdict, detail))
    if chosen.redis_url:
        found.append(await _redis(chosen.redis_url))
    return found


async def _redis(url: str) -> Finding:
    from dataflow.errors import DataFlowError
    from dataflow.projections.cache import connected, translated

    place = url.rpartition("@")[2]
    try:
        client = connected(url)
        try:
            with translated(url):
                await client.ping()
        finally:
            await client.aclose()
    except DataFlowError as error:
        return Finding("redis", "warning", str(error))
    return Finding("redis", "ok", f"{place} answers")


async def _systems(file: str, chosen: Settings) -> list[Finding]:
    """What the systems behind a pipeline file say, each in some seconds."""
    from dataflow import specfile
    from dataflow.errors import InvalidSpec
    from dataflow.probe import probe

    try:
        spec = specfile.load(file).spec
    except InvalidSpec as refused:
        return [Finding(file, "bad", f"{refused} (dataflow validate shows where)")]
    found = await probe(spec, home=chosen.home)
    return [Finding(f"{file} {one.path}", "ok" if one.healthy else "bad", f"{one.type}: {one.detail}") for one in found]


COMMANDS = (doctor,)
