"""The reference is what the code says: the pages on disk are those that would be rendered now, and complete."""

from __future__ import annotations

from pathlib import Path

import pytest

from dataflow.cli.app import app
from dataflow.docgen.pages import pages
from dataflow.domain.events import EVENT_TYPES
from dataflow.registry import BUILT_IN, component
from dataflow.settings import Settings

REFERENCE = Path(__file__).parents[2] / "docs" / "reference"


@pytest.fixture(scope="module")
def rendered() -> dict[str, str]:
    return pages()


def test_pages_on_disk_are_current(rendered: dict[str, str]) -> None:
    on_disk = {path.name: path.read_text(encoding="utf-8") for path in REFERENCE.glob("*.md")}
    stale = sorted(name for name in on_disk.keys() | rendered.keys() if on_disk.get(name) != rendered.get(name))
    assert not stale, f"run `just docs`: {', '.join(stale)} are not what the code says"


def test_every_key_of_every_type_is_explained() -> None:
    silent = [
        f"{kind} {name}: {key}"
        for kind, types in BUILT_IN.items()
        for name in types
        for key, field in component(kind, name).config.model_fields.items()
        if not field.description
    ]
    assert not silent, "fields without a description"


def test_every_type_says_what_it_is() -> None:
    assert not [name for kind, types in BUILT_IN.items() for name in types if not component(kind, name).summary]


def test_every_setting_is_explained() -> None:
    assert not [name for name, field in Settings.model_fields.items() if not field.description]


def test_every_event_has_its_section(rendered: dict[str, str]) -> None:
    assert not [name for name in EVENT_TYPES if f"## {name}\n" not in rendered["events.md"]]


def test_every_command_has_its_section(rendered: dict[str, str]) -> None:
    assert rendered["cli.md"].count("## dataflow ") == len(app.registered_commands) > 10
