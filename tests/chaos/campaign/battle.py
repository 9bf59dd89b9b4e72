"""One campaign from its first message to its verdict."""

from __future__ import annotations

import random
import shutil
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from dataflow.domain.state import Status
from tests.chaos.campaign.arena import HEARTBEAT, Arena, Stuck
from tests.chaos.campaign.flood import Flood
from tests.chaos.campaign.routes import PIPELINE, Route

PROVED, WRONG, NOT_HELD = 0, 1, 2
IDLE = 120.0
"""Seconds without any progress after which a pipeline is taken for dead. Twice a transaction's timeout: the longest
that anything may have to be waited for."""


@dataclass(frozen=True, kw_only=True)
class Terms:
    """What a campaign is asked for."""

    route: str
    messages: int
    seed: int
    worker_kills: int
    freezes: int
    broker_restarts: int
    temporal_restarts: int
    keep: bool = False

    @property
    def faults(self) -> list[str]:
        counts = {
            "kill": self.worker_kills,
            "freeze": self.freezes,
            "broker": self.broker_restarts,
            "temporal": self.temporal_restarts,
        }
        return [kind for kind, count in counts.items() for _ in range(count)]


class TooShort(Exception):
    """The pipeline was through before all faults had been done."""


class Battle:
    """`fight` hurts the pipeline until its end, `prove` looks at what came out."""

    def __init__(self, terms: Terms, route: Route, arena: Arena, dice: random.Random, tell: Callable[[str], None]):
        self.terms, self.route, self.arena, self.dice, self.tell = terms, route, arena, dice, tell
        self.wanted = 2 if route.endless else 1
        self.done: Counter[str] = Counter()

    def fight(self) -> None:
        route, faults = self.route, self.terms.faults
        self.dice.shuffle(faults)
        route.prepare()
        self.tell(f"{route.poured:,} messages are there; {len(faults)} faults to come")
        for _ in range(self.wanted):
            self.arena.start_worker()
        done = self.arena.cli("submit", str(self.arena.define(route.definition())), "--start")
        if done.returncode:
            raise Stuck(f"submit: {done.stderr[-1500:]}")
        begun = route.poured
        for number, kind in enumerate(faults, 1):
            self.go_on(number, len(faults))
            getattr(self, kind)()
            self.done[kind] += 1
            route.pour(begun + (self.terms.messages - begun) * number // len(faults))
        route.pour(self.terms.messages)
        self.finish()

    def go_on(self, number: int, of: int) -> None:
        """To the moment of the next fault: some rows further, and a little later."""
        gauge, most = self.route.gauge, max(1, self.terms.messages // (3 * of))
        start, goal = gauge.value, gauge.value + self.dice.randint(1, most)
        if self.route.endless:
            # Seven of eight are written; control records make the gauge run ahead, so this errs to less waiting.
            goal = min(goal, self.route.poured * 7 // 8)
        end = time.monotonic() + IDLE
        while gauge.value < goal:
            if gauge.value > start:
                start, end = gauge.value, time.monotonic() + IDLE
            self.arena.alive()
            if time.monotonic() > end:
                raise Stuck(f"no progress for {IDLE:g} s before fault {number}; {self.told()}")
            if not self.route.endless and self.over():
                raise TooShort(f"all was through after {number - 1} of {of} faults: ask for more messages")
            time.sleep(0.02)
        time.sleep(self.dice.uniform(0.0, 0.3))

    def over(self) -> bool:
        state = self.arena.state(PIPELINE)
        return state is not None and state.status is not Status.RUNNING and state.status is not Status.CONFIGURED

    def told(self) -> str:
        state = self.arena.state(PIPELINE)
        return f"{state.status}, {state.error}" if state else "the journal does not know it"

    # Faults

    def kill(self) -> None:
        """kill -9 of a worker, now and then of all of them; others take their place, at once or later."""
        alive = self.arena.alive()
        victims = alive if self.dice.random() < 0.25 else [self.dice.choice(alive)]
        pause = self.dice.choice([0.0, 0.0, self.dice.uniform(0.0, 1.5)])
        self.note(f"kill -9 of {len(victims)} of {len(alive)} workers, others come {pause:.1f} s later")
        for victim in victims:
            self.arena.kill_worker(victim)
        time.sleep(pause)
        while len(self.arena.workers) < self.wanted:
            self.arena.start_worker()

    def freeze(self) -> None:
        """SIGSTOP of a worker for longer than its heartbeat, until others have its work; then it wakes."""
        sleeper = self.dice.choice(self.arena.alive())
        before = self.route.gauge.value
        self.arena.signal(sleeper, signal.SIGSTOP)
        if len(self.arena.workers) == 1:
            self.arena.start_worker()
        begun = time.monotonic()
        least = HEARTBEAT + self.dice.uniform(1.0, 4.0)
        # The others go on, where anything is left to do; a heartbeat later they have the sleeper's lanes, too.
        while time.monotonic() < begun + 15 and self.route.gauge.value <= before:
            time.sleep(0.02)
        time.sleep(max(0.0, begun + least - time.monotonic()))
        self.note(f"woke a worker that was stopped for {time.monotonic() - begun:.1f} s")
        self.arena.signal(sleeper, signal.SIGCONT)
        while len(self.arena.workers) > self.wanted and self.dice.random() < 0.5:
            self.arena.kill_worker(self.dice.choice(self.arena.workers))
            self.note("kill -9 of a worker beside it")
            self.done["kill more"] += 1

    def broker(self) -> None:
        """kill -9 of the broker; up again with the same data."""
        self.restart("kafka")

    def temporal(self) -> None:
        """kill -9 of the Temporal server; up again with the same data."""
        self.restart("temporal")

    def restart(self, name: str) -> None:
        pause = self.dice.choice([0.0, self.dice.uniform(0.0, 3.0)])
        self.arena.kill_server(name)
        time.sleep(pause)
        self.arena.up(name)
        self.note(f"kill -9 of {name}, up again {pause:.1f} s later")

    def note(self, text: str) -> None:
        self.tell(f"at {self.route.gauge.value:>9,}: {text}")

    # The end

    def finish(self) -> None:
        """Until all is through; an endless pipeline is stopped then."""
        self.tell(f"faults are over: {dict(self.done)}; to the end")
        while len(self.arena.workers) < self.wanted:
            self.arena.start_worker()
        seen, end = -1, time.monotonic() + IDLE
        while not self.through():
            if self.route.gauge.value > seen:
                seen, end = self.route.gauge.value, time.monotonic() + IDLE
            self.arena.alive()
            if time.monotonic() > end:
                raise Stuck(f"no progress for {IDLE:g} s at the end; {self.told()}")
            time.sleep(0.2)
        if self.route.endless:
            stopped = self.arena.cli("stop", PIPELINE)
            if stopped.returncode:
                raise Stuck(f"stop: {stopped.stderr[-1500:]}")
        self.route.gauge.close()

    def through(self) -> bool:
        state = self.arena.state(PIPELINE)
        if state is None:
            return False
        if state.status is Status.FAILED:
            raise Stuck(f"the pipeline failed: {state.error}")
        read = sum(lane.counters.read for lane in state.checkpoint.lanes.values())
        if read > self.terms.messages:
            raise Stuck(f"{read:,} messages were read, {self.terms.messages:,} are there")
        return state.status is Status.COMPLETED if not self.route.endless else read == self.terms.messages

    def prove(self) -> bool:
        """Our own proof, then the witness and DuckDB. True: every rule holds."""
        state = self.arena.state(PIPELINE)
        assert state is not None
        lanes = state.checkpoint.lanes.values()
        epochs, retries = sum(lane.epoch for lane in lanes), self.grumbles()
        self.tell(f"{state.version} events, {epochs} epochs in {len(lanes)} lanes; {retries}")
        self.arena.dismiss_workers()
        self.arena.kill_server("temporal")  # a proof needs the journal and the sink, nothing else
        proof = self.arena.cli("prove", PIPELINE, limit=600)
        self.tell(f"dataflow prove: {(proof.stdout + proof.stderr).strip()}")
        verdict = self.route.judge(self.tell)
        self.tell("  ".join(f"{name}: {count:,}" for name, count in verdict.counts().items()))
        wrong = 0
        for finding in verdict.findings(self.terms.messages):
            self.tell(f"{'WRONG' if finding.wrong else 'ok':6}{finding.rule}")
            for row in finding.sample:
                self.tell(f"      {row}")
            wrong += bool(finding.wrong)
        return not wrong and proof.returncode == 0

    def grumbles(self) -> str:
        log = self.arena.home / "logs" / "dataflow.log"
        lines = log.read_text(errors="replace").splitlines() if log.exists() else []
        fenced = sum("Fenced" in line and "Traceback" not in line for line in lines)
        return f"{fenced} lines of the log tell of fenced attempts"


def campaign(terms: Terms, tell: Callable[[str], None]) -> int:
    """Hold it; returns the exit code. The folder goes with a proof, and stays as evidence without one."""
    dice = random.Random(f"{terms.route}/{terms.seed}")
    folder = Path(tempfile.mkdtemp(prefix=f"dataflow-campaign-{terms.route}-"))
    began = time.monotonic()

    def say(text: str) -> None:
        tell(f"{time.monotonic() - began:7.1f} s  {text}")

    say(f"{terms}; evidence in {folder}")
    code = WRONG
    try:
        with Arena(folder) as arena:
            route = Route(terms.route, arena, Flood(terms.messages, terms.seed), dice, len(terms.faults))
            battle = Battle(terms, route, arena, dice, say)
            try:
                battle.fight()
                code = PROVED if battle.prove() else WRONG
            except Exception:
                say(f"the servers: {arena.told()}")
                raise
    except Stuck as stuck:
        say(f"WRONG  {stuck}")
    except TooShort as short:
        say(str(short))
        code = NOT_HELD
    if code == PROVED and not terms.keep:
        shutil.rmtree(folder)
    said = {PROVED: "proved", WRONG: "WRONG", NOT_HELD: "not held as asked"}[code]
    say(f"{said}: {terms.route}, {terms.messages:,} messages, {dict(battle.done)}, seed {terms.seed}")
    return code
