"""`python -m bench [NAME [OPTIONS]]` runs one measurement; without a name it lists them."""

from __future__ import annotations

import ast
import runpy
import signal
import sys
from pathlib import Path

HERE = Path(__file__).parent


def measurements() -> dict[str, str]:
    """Name -> first line of its docstring, of every module here that is a program."""
    found = {}
    for path in sorted(HERE.glob("*.py")):
        text = path.read_text(encoding="utf-8")
        if not path.name.startswith("_") and '__name__ == "__main__"' in text:
            found[path.stem] = (ast.get_docstring(ast.parse(text)) or "").partition("\n")[0]
    return found


if len(sys.argv) < 2 or sys.argv[1] not in measurements():
    for name, summary in measurements().items():
        print(f"{name:14} {summary}")
    sys.exit(0 if len(sys.argv) < 2 else 2)
# What was started ends with us, as after Ctrl-C: every measurement has its `finally`.
signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
name = sys.argv.pop(1)
sys.argv[0] = f"bench {name}"
runpy.run_module(f"bench.{name}", run_name="__main__")
