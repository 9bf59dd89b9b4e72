"""type -> component. Built-in types are named here and imported when first used; plug-ins come by entry point.

An entry point of the groups `dataflow.sources`, `dataflow.transforms`, `dataflow.sinks` names a `Component`;
its name is the `type:` of a pipeline file.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

from dataflow.components import Component, Kind
from dataflow.errors import InvalidSpec, Problem

BUILT_IN: Mapping[Kind, Mapping[str, str]] = {
    Kind.SOURCE: {
        "file": "dataflow.connectors.file:SOURCE",
        "generator": "dataflow.connectors.generator:SOURCE",
        "kafka": "dataflow.connectors.kafka:SOURCE",
        "memory": "dataflow.connectors.memory:SOURCE",
        "push": "dataflow.connectors.push:SOURCE",
    },
    Kind.TRANSFORM: {
        "filter": "dataflow.transforms.filter:TRANSFORM",
        "map": "dataflow.transforms.map:TRANSFORM",
        "flatmap": "dataflow.transforms.flatmap:TRANSFORM",
    },
    Kind.SINK: {
        "file": "dataflow.connectors.file:SINK",
        "console": "dataflow.connectors.console:SINK",
        "kafka": "dataflow.connectors.kafka:SINK",
        "memory": "dataflow.connectors.memory:SINK",
    },
}


@cache
def plug_ins(kind: Kind) -> Mapping[str, Any]:
    """Entry points by type name. Built-in names win: a plug-in cannot take one over."""
    return {point.name: point for point in entry_points(group=f"dataflow.{kind}s")}


def names(kind: Kind) -> list[str]:
    """Every known type of this kind, sorted."""
    return sorted({*BUILT_IN[kind], *plug_ins(kind)})


@cache
def component(kind: Kind, name: str) -> Component:
    """The component of that type; `InvalidSpec` with the nearest name where there is none."""
    if target := BUILT_IN[kind].get(name):
        module, _, attribute = target.partition(":")
        found = getattr(import_module(module), attribute)
    elif point := plug_ins(kind).get(name):
        found = point.load()
    else:
        near = difflib.get_close_matches(name, names(kind), n=1)
        hint = f"did you mean {near[0]!r}?" if near else "known: " + ", ".join(names(kind))
        raise InvalidSpec([Problem("type", f"unknown {kind} type {name!r}", code="unknown_type", hint=hint)])
    if not isinstance(found, Component) or found.kind is not kind:
        raise InvalidSpec([Problem("type", f"the plug-in {name!r} is not a {kind}", code="bad_plug_in")])
    return found
