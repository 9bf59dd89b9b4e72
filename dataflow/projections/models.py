"""The read models in tables, by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from dataflow.errors import NotFound
from dataflow.projections.audit_log import AuditModel
from dataflow.projections.metrics import MetricsModel
from dataflow.projections.status import StatusModel
from dataflow.projections.store import TableModel

MODELS: Final[Mapping[str, TableModel]] = {model.name: model for model in (StatusModel(), MetricsModel(), AuditModel())}


def model(name: str) -> TableModel:
    """The read model of that name; `NotFound` where there is none."""
    try:
        return MODELS[name]
    except KeyError:
        raise NotFound(f"there is no read model {name!r}", hint=f"known: {', '.join(MODELS)}") from None
