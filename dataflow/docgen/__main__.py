"""Write every page of the reference into the folder named, or docs/reference."""

from __future__ import annotations

import sys
from pathlib import Path

from dataflow.docgen.pages import pages

folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path("docs/reference")
folder.mkdir(parents=True, exist_ok=True)
for name, content in pages().items():
    (folder / name).write_text(content, encoding="utf-8")
