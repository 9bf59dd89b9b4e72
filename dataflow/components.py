"""What a type of source, transform or sink is made of; the registry knows them by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from pydantic import BaseModel, ConfigDict

from dataflow.seams import Context


class Kind(StrEnum):
    SOURCE = "source"
    TRANSFORM = "transform"
    SINK = "sink"


class Config(BaseModel):
    """Base of every component's options: unknown keys are errors, values are what they are declared to be."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


@dataclass(frozen=True, slots=True)
class Component:
    """A type of source, transform or sink. `build(config, context)` is pure and returns the seam's object."""

    kind: Kind
    name: str
    config: type[Config]
    build: Callable[[Any, Context], Any]
    summary: str = ""
