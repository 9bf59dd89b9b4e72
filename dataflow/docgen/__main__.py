"""Write every page of the reference into the folder named, or docs/reference."""

from __future__ import annotations

import argparse
from pathlib import Path

from dataflow.docgen.pages import pages

parser = argparse.ArgumentParser(prog="python -m dataflow.docgen", description=__doc__)
parser.add_argument("folder", nargs="?", type=Path, default=Path("docs/reference"))
folder = parser.parse_args().folder
folder.mkdir(parents=True, exist_ok=True)
for name, content in pages().items():
    (folder / name).write_text(content, encoding="utf-8")
