"""The keeper: a small process that starts one home's Temporal dev server, restarts it, stops it after its last user.

    python -m dataflow.embedded.keeper --home HOME --binary TEMPORAL [--namespace NAME]

It is started by the first user and leaves that user's session, so it outlives whoever started it while others remain.
Users hold `temporal.users` shared; the kernel drops a dead user's lock, so kill -9 cannot leak the server: a
second after the last one is gone the keeper holds the lock alone, stops the server and ends. Were the
keeper itself killed, the kernel kills the server with it (Linux), and a remaining user starts the next keeper on the
same port and database (`dataflow.embedded.temporal`).
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from dataflow.embedded import process
from dataflow.embedded.livefile import LiveFile
from dataflow.embedded.lock import FileLock
from dataflow.embedded.probe import serving
from dataflow.embedded.record import Files, Record

PORT, UI_PORT = 7233, 8233
SEARCH_ATTRIBUTES = {
    "DataflowName": "Keyword",
    "DataflowStatus": "Keyword",
    "DataflowSource": "Keyword",
    "DataflowSink": "Keyword",
    "DataflowOwner": "Keyword",
    "DataflowFailed": "Int",
}
DYNAMIC_CONFIG = {
    # Limits of a shared cluster, pointless for one user's machine; history limits stay as in production.
    "frontend.namespaceRPS": "10000",
    "frontend.namespaceRPS.visibility": "1000",
}
TICK = 0.1
START_LIMIT = 60.0
STOP_GRACE = 5.0
PROBE_EVERY = 2.0
SILENT_LIMIT = 20.0  # a server that has not answered for this long is taken for hung
LINGER = 1.0  # seconds without a user before the server is stopped: a script's next command finds it still there
BACKOFF = (0.0, 0.2, 1.0, 2.0, 5.0)
LOG_LIMIT = 16 * 2**20


def command(binary: Path, files: Files, record: Record, namespace: str) -> list[str]:
    """The dev server's command line. WAL with synchronous=normal survives the death of the process."""
    return [
        *(str(binary), "server", "start-dev", "--ip", "127.0.0.1"),
        *("--port", str(record.port), "--ui-port", str(record.ui_port), "--metrics-port", str(record.metrics_port)),
        *("--db-filename", str(files.database), "--log-level", "warn"),
        *(("--namespace", namespace) if namespace != "default" else ()),  # "default" is always there
        *("--sqlite-pragma", "journal_mode=wal", "--sqlite-pragma", "synchronous=normal"),
        *(word for name, kind in SEARCH_ATTRIBUTES.items() for word in ("--search-attribute", f"{name}={kind}")),
        *(word for key, value in DYNAMIC_CONFIG.items() for word in ("--dynamic-config-value", f"{key}={value}")),
    ]


class Keeper:
    """One keeper of one home. `run` returns when the last user has gone or the server could not be started."""

    def __init__(self, home: Path, binary: Path, namespace: str = "default") -> None:
        self.files = Files(home=home)
        self.binary = binary
        self.namespace = namespace
        self.asked_to_stop = False
        self._idle_since: float | None = None
        self._publisher = LiveFile(self.files.record)
        self._users = FileLock(self.files.users)
        self._alone = FileLock(self.files.keeper)
        self._server: subprocess.Popen[bytes] | None = None
        self._log_before = 0  # bytes of the log when the server was started
        self._record = Record(state="starting", keeper=os.getpid(), binary=str(binary))

    def run(self) -> int:
        """0: stopped in order, or another keeper is at work; 1: the server did not start (the record says why)."""
        with self._alone as alone:
            # Somebody may be looking at the lock at this very moment (`is_held`): a few more tries.
            _until(alone.acquire, 1.0)
            if not alone.held:
                return 0
            try:
                if not self._begin():
                    return 1
                self._watch()
            finally:
                if self._server:
                    process.stop(self._server, STOP_GRACE)
                self._publisher.close()
            # Else it was told to stop (users remain, and the next keeper needs this address), or the home is another's.
            if self._users.held and alone.stands():
                self.files.record.unlink(missing_ok=True)
            # The keeper's lock goes first: whoever then gets in as a user finds no keeper, and starts one.
            alone.release()
            self._users.release()
        return 0

    def _say(self, text: str) -> None:
        with self.files.log.open("a") as log:
            log.write(f"keeper {os.getpid()}: {text}\n")

    def _note(self, **changes: object) -> None:
        self._record = replace(self._record, **changes)  # type: ignore[arg-type]
        self._publisher.publish(self._record.text)

    def _begin(self) -> bool:
        """The first start of this keeper: settle the ports, start, report."""
        self.files.log.parent.mkdir(parents=True, exist_ok=True)
        if self.files.log.exists() and self.files.log.stat().st_size > LOG_LIMIT:
            self.files.log.replace(self.files.log.with_suffix(".log.1"))
        before = Record.read(self.files.record)
        if before:
            # The keeper before was killed. Its users still hold this address.
            self._end_leftover(before)
            _until(lambda: process.is_free(before.port) and process.is_free(before.ui_port), 5.0)
        for ports in self._ports(before):
            self._note(state="starting", port=ports[0], ui_port=ports[1], metrics_port=ports[2])
            if self._start():
                return True
            if not self._found_a_port_taken() and all(process.is_free(port) for port in ports):
                break  # it was not the ports
        self._note(state="failed", error=self._reason())
        return False

    def _ports(self, before: Record | None) -> Iterator[tuple[int, int, int]]:
        metrics, port, ui = process.free_ports(3)
        for wanted in ((before.port, before.ui_port) if before else (PORT, UI_PORT), (port, ui)):
            if all(process.is_free(number) for number in wanted):
                yield *wanted, metrics
        for _ in range(3):  # outgoing connections are given ports, too: any may be taken in between
            metrics, port, ui = process.free_ports(3)
            yield port, ui, metrics

    def _end_leftover(self, before: Record) -> None:
        """Kill the server of a keeper that was killed, where the kernel did not (not Linux)."""
        import psutil  # type: ignore[import-untyped]  # costs more than the rest of this process, and is hardly ever needed

        with contextlib.suppress(psutil.NoSuchProcess):
            server = psutil.Process(before.pid)
            if before.pid and str(self.files.database) in server.cmdline():
                self._say(f"ending a server left behind, process {before.pid}")
                server.kill()
                server.wait(STOP_GRACE)

    def _start(self) -> bool:
        """Start the server and wait until it serves."""
        self._log_before = self.files.log.stat().st_size if self.files.log.exists() else 0
        self._server = process.spawn(command(self.binary, self.files, self._record, self.namespace), log=self.files.log)
        self._note(pid=self._server.pid, started=time.time())
        server = self._server
        _until(
            lambda: server.poll() is not None or self._done() or serving(self._record.address),
            START_LIMIT,
            every=0.02,
        )
        if server.poll() is None and (self._done() or serving(self._record.address)):
            self._note(state="ready", error="")
            return True
        process.stop(server, STOP_GRACE)
        return False

    def _watch(self) -> None:
        """Until the last user has gone: restart the server whenever it ends or hangs, on the same port and database."""
        heard = asked = time.monotonic()
        failures = 0
        while not self._done():
            time.sleep(TICK)
            now = time.monotonic()
            assert self._server is not None
            if self._server.poll() is None and now - asked < PROBE_EVERY:
                continue
            asked = now
            if self._server.poll() is None:
                if serving(self._record.address, timeout=PROBE_EVERY):
                    heard = time.monotonic()
                if time.monotonic() - heard < SILENT_LIMIT:
                    continue
                self._say(f"no answer for {SILENT_LIMIT:g} s: killing the server")
                self._server.kill()
            code = self._server.wait()
            self._say(f"the server ended (code {code}): starting it again")
            self._note(state="restarting", restarts=self._record.restarts + 1, error=f"ended with code {code}")
            time.sleep(BACKOFF[min(failures, len(BACKOFF) - 1)])
            failures = 0 if self._start() else failures + 1
            heard = time.monotonic()

    def _done(self) -> bool:
        """Whether nobody uses the server any more. From then on the lock is held: who comes now has to wait.

        A home that was removed has no users; those of one that was made anew in its place have their own keeper."""
        if self.asked_to_stop or self._users.held or not self._alone.stands():
            return True
        if not self._users.acquire():
            self._idle_since = None
            return False
        now = time.monotonic()
        self._idle_since = self._idle_since or now
        if now - self._idle_since < LINGER:
            self._users.release()
        return self._users.held

    def _found_a_port_taken(self) -> bool:
        """Whether the server said so. The port itself may be free again by now."""
        with self.files.log.open("rb") as log:
            log.seek(self._log_before)
            return b"address already in use" in log.read()

    def _reason(self) -> str:
        code = self._server.poll() if self._server else None
        with self.files.log.open(errors="replace") as log:
            tail = [line.strip() for line in log.readlines()[-20:] if line.strip()]
        return f"{self.binary} ended with code {code}: " + " | ".join(tail[-3:])


def _until(condition: Callable[[], bool], limit: float, every: float = 0.05) -> None:
    """Wait until the condition holds, `limit` seconds at most."""
    deadline = time.monotonic() + limit
    while not condition() and time.monotonic() < deadline:
        time.sleep(every)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="dataflow.embedded.keeper", description=__doc__)
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--binary", type=Path, required=True)
    parser.add_argument("--namespace", default="default")
    options = parser.parse_args(arguments)
    keeper = Keeper(options.home, options.binary, options.namespace)

    def ask(number: int, frame: object) -> None:
        keeper.asked_to_stop = True

    signal.signal(signal.SIGTERM, ask)
    signal.signal(signal.SIGINT, ask)
    return keeper.run()


if __name__ == "__main__":
    sys.exit(main())
