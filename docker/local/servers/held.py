"""What a keeper says of its server, in the server's record file."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from typing import Literal

from dataflow.embedded import livefile
from servers.places import Site

State = Literal["starting", "ready", "stopping", "stopped", "failed", "died"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """`started`: seconds since the epoch; `seconds`: from start to first answer; `reason`: why it failed or died."""

    state: State
    keeper: int
    ports: dict[str, int] = field(default_factory=dict)
    pid: int = 0
    version: str = ""
    started: float = 0.0
    seconds: float = 0.0
    reason: str = ""

    @property
    def text(self) -> str:
        return json.dumps(asdict(self), indent=1) + "\n"

    @classmethod
    def parse(cls, text: str) -> Held:
        data = json.loads(text)
        return cls(**{field.name: data[field.name] for field in fields(cls)})

    @classmethod
    def read(cls, site: Site) -> Held | None:
        """The last word on the server; its keeper may be gone."""
        text = livefile.read(site.record)
        return None if text is None else cls.parse(text)

    @classmethod
    def read_live(cls, site: Site) -> Held | None:
        """The word of a keeper that lives."""
        text = livefile.read_live(site.record)
        return None if text is None else cls.parse(text)
