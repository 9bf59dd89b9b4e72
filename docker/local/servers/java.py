"""Which Java runs what."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from servers.server import Missing

_VERSION = re.compile(r'version "(\d+)')


def _candidates() -> Iterator[Path]:
    home = os.environ.get("JAVA_HOME")
    if home:
        yield Path(home) / "bin" / "java"
    found = shutil.which("java")
    if found:
        yield Path(found).resolve()
    yield from sorted(Path("/usr/lib/jvm").glob("*/bin/java"))


def find(oldest: int, newest: int | None = None) -> Path:
    """A Java whose major version lies in the range. Raises `Missing`."""
    seen = []
    for program in _candidates():
        if not program.exists():
            continue
        text = subprocess.run([program, "-version"], capture_output=True, text=True, check=False).stderr
        found = _VERSION.search(text)
        if not found:
            continue
        version = int(found[1])
        if oldest <= version <= (newest or version):
            return program
        seen.append(f"{program} is {version}")
    wanted = f"{oldest}" if newest == oldest else f"{oldest} or newer"
    raise Missing(
        f"Java {wanted} is needed ({'; '.join(seen) or 'none found'}; apt-get install openjdk-{oldest}-jre-headless)"
    )
