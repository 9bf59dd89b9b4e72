"""Holds one server: starts it, says when it answers, why it ended, and stops it in order. A process of its own.

On Linux the kernel kills the server where its keeper is killed: nothing is left behind. Told to (`--until unused`), the
keeper stops its server once nobody holds the root's `users` lock any more, and removes the data: that is how tests use
it, so that even kill -9 of a test run leaves nothing.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
from dataclasses import replace

from dataflow.embedded import process
from dataflow.embedded.livefile import LiveFile
from dataflow.embedded.lock import FileLock
from servers.held import Held
from servers.places import Site
from servers.server import Missing, Server

TICK = 0.1
START_LIMIT = 180.0
TELLING = ("ERROR", "FATAL", "Exception")


class Keeper:
    def __init__(self, server: Server, site: Site, *, until_unused: bool) -> None:
        self.server = server
        self.site = site
        self.until_unused = until_unused
        self.asked_to_stop = False
        self._live = LiveFile(site.record)
        self._held = Held(state="starting", keeper=os.getpid(), ports=dict(site.ports))

    def run(self) -> int:
        """0: stopped in order, or another keeper is at work; 1: it did not start, or died (the record says why)."""
        with FileLock(self.site.keeper) as alone:
            deadline = time.monotonic() + 1.0
            while not alone.acquire():  # somebody may just be looking at it
                if time.monotonic() > deadline:
                    return 0
                time.sleep(TICK)
            self._note()
            try:
                launch = self.server.launch(self.site)
            except (Missing, OSError) as error:
                self._note(state="failed", reason=str(error))
                return 1
            child = process.spawn(
                launch.command, log=self.site.log, env=launch.env or None, folder=launch.folder, user=launch.user
            )
            try:
                return self._hold(child)
            finally:
                self._end(child)
                self._live.close()

    def _hold(self, child: subprocess.Popen[bytes]) -> int:
        begun = time.monotonic()
        self._note(pid=child.pid, started=time.time())
        while not self._over():
            if child.poll() is not None:
                failed = self._held.state == "starting"
                self._note(state="failed" if failed else "died", reason=self._reason(child.returncode))
                return 1
            if self._held.state == "starting":
                try:
                    version = self.server.ready(self.site)
                except (OSError, ValueError) as error:
                    if time.monotonic() - begun > START_LIMIT:
                        self._note(state="failed", reason=f"no answer within {START_LIMIT:g} s: {error}")
                        return 1
                else:
                    self._note(state="ready", version=version, seconds=round(time.monotonic() - begun, 2))
            time.sleep(TICK)
        self._note(state="stopping")
        self._end(child)
        self._note(state="stopped")
        if not self.asked_to_stop:  # nobody is left who could want it
            shutil.rmtree(self.site.data)
        return 0

    def _end(self, child: subprocess.Popen[bytes]) -> None:
        process.stop(child, self.server.grace, self.server.stop)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)  # what it has started itself, and left

    def _over(self) -> bool:
        if self.asked_to_stop or not self.until_unused:
            return self.asked_to_stop
        with FileLock(self.site.users) as alone:
            return alone.acquire()

    def _note(self, **changes: object) -> None:
        self._held = replace(self._held, **changes)  # type: ignore[arg-type]
        self._live.publish(self._held.text)

    def _reason(self, code: int) -> str:
        if code < 0:
            return f"it was killed ({signal.Signals(-code).name}); see {self.site.log}"
        lines = [line.strip() for line in self.site.log.read_text(errors="replace").splitlines()[-40:] if line.strip()]
        first = next((n for n, line in enumerate(lines) if any(word in line for word in TELLING)), len(lines) - 4)
        return f"it ended with code {code}; {self.site.log}: " + " | ".join(
            line[:300] for line in lines[max(first, 0) :][:5]
        )
