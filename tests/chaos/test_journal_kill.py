"""`kill -9` of a process that appends: every event it was told is kept, is there, and nothing else is broken."""

import random
import signal
import subprocess
import sys

import pytest

from dataflow.journal import open_journal
from dataflow.journal.audit import audit_verify_all
from dataflow.testing.journal_kit import Writing, check_acknowledged

WRITER = """
import asyncio, os, sys
from dataflow.journal import open_journal
from dataflow.testing.journal_kit import append_and_acknowledge

def acknowledge(stream):
    return lambda sequence: os.write(1, f"{stream} {sequence}\\n".encode())

async def main(url):
    async with open_journal(url) as journal:
        streams = ("left", "right")
        await asyncio.gather(*(append_and_acknowledge(journal, s, acknowledge(s), 100_000) for s in streams))

asyncio.run(main(sys.argv[1]))
"""


@pytest.mark.chaos
async def test_killed_writer_loses_nothing_it_acknowledged(tmp_path):
    url = f"sqlite:///{tmp_path}/journal.db"
    moments = random.Random(20261123)
    acknowledged = {"left": 0, "right": 0}

    def note(line: bytes) -> None:
        if line.endswith(b"\n"):
            stream, sequence = line.split()
            acknowledged[stream.decode()] = int(sequence)

    for _ in range(4):
        with subprocess.Popen([sys.executable, "-c", WRITER, url], stdout=subprocess.PIPE) as writer:
            for _ in range(moments.randint(1, 150)):
                note(writer.stdout.readline())
            writer.send_signal(signal.SIGKILL)
            for line in writer.stdout:
                note(line)
        assert writer.returncode == -signal.SIGKILL
        async with open_journal(url) as journal:
            for stream, sequence in acknowledged.items():
                assert await check_acknowledged(journal, stream, sequence) >= sequence
            assert await audit_verify_all(journal) == []
    async with open_journal(url) as journal:  # and the next writer goes on where the last one was cut off
        last = await journal.last("left")
        await journal.append("left", last.sequence, Writing("left", last.sequence, last.hash).some(1))
