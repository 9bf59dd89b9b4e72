"""`python -m dataflow.embedded`: see to it that the Temporal dev server's program is on this machine.

Prints its path on standard output and what is being done about it on standard error; 1 where it is not to be had.
"""

from __future__ import annotations

import asyncio
import sys

from dataflow.embedded import binary
from dataflow.errors import DataFlowError
from dataflow.settings import Settings


def _tell(text: str) -> None:
    sys.stderr.write(text + "\n")


def main() -> int:
    try:
        settings = Settings.load()
        program = asyncio.run(binary.find(settings.temporal_binary, _tell))
    except DataFlowError as error:
        _tell(str(error))
        return 1
    sys.stdout.write(f"{program}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
