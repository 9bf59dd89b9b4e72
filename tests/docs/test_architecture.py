"""What docs/architecture.md and its neighbours claim can be found in the tree."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ARCHITECTURE = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
CODE = ("dataflow", "workflows", "activities")
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "changelog.d").glob("*.md")])


def invariants() -> list[int]:
    section = ARCHITECTURE.partition("## Invariants\n")[2].partition("\n## ")[0]
    return [int(number) for number in re.findall(r"^(\d+)\. ", section, re.MULTILINE)]


def cited() -> set[int]:
    text = "\n".join(path.read_text(encoding="utf-8") for part in CODE for path in (ROOT / part).rglob("*.py"))
    return {
        int(n)
        for found in re.findall(r"[Ii]nvariants? ((?:\d+(?:, | and )?)+)", text)
        for n in re.findall(r"\d+", found)
    }


def test_invariants_are_numbered_and_cited_where_they_are_kept() -> None:
    numbers = invariants()
    assert numbers == list(range(1, len(numbers) + 1)) and len(numbers) >= 6
    assert not set(numbers) - cited(), "invariants that no line of the code says it keeps"
    assert not cited() - set(numbers), "invariants that are cited but not written down"


def test_the_tree_exists() -> None:
    tree = ARCHITECTURE.partition("## The tree")[2].partition("```")[2].partition("```")[0]
    names = re.findall(r"^(?:  )?((?:\w+(?:\.py|/)\s{1,2})*\w+(?:\.py|/)) ", tree, re.MULTILINE)
    names = [name for group in names for name in group.split()]
    assert len(names) > 20
    top = {"dataflow/", "workflows/", "activities/", "migrations/", "tests/", "bench/", "examples/"}
    missing = [name for name in names if not (ROOT / ("" if name in top else "dataflow") / name).exists()]
    assert not missing


def test_decisions_are_numbered_without_gaps_and_dated() -> None:
    pages = sorted((ROOT / "docs/decisions").glob("0*.md"))
    assert [int(page.name[:4]) for page in pages] == list(range(1, len(pages) + 1))
    for page in pages:
        text = page.read_text(encoding="utf-8")
        assert re.match(rf"# {int(page.name[:4])}\. .+\n\n\d{{4}}-\d\d-\d\d · (accepted|superseded by \d+)\n", text), (
            page.name
        )


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        path, _, anchor = target.partition("#")
        if "://" in target:
            continue
        found = page.parent / path if path else page
        if not found.exists():
            broken.append(target)
        elif anchor:
            heads = re.findall(r"^#+ (.+)$", found.read_text(encoding="utf-8"), re.MULTILINE)
            if anchor not in {re.sub(r"[^\w\- ]", "", head).lower().replace(" ", "-") for head in heads}:
                broken.append(target)
    assert not broken


def test_a_newcomer_finds_licence_and_contribution_guide() -> None:
    assert "Apache License" in (ROOT / "LICENSE").read_text(encoding="utf-8")
    guide = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    for word in ("./scripts/test", "seams.py", "Licen"):
        assert word in guide


def test_changelog_fragments_have_a_kind() -> None:
    names = [path.name for path in (ROOT / "changelog.d").iterdir() if path.name != "README.md"]
    assert names and not [
        name for name in names if not re.fullmatch(r"[a-z0-9-]+\.(added|changed|fixed|removed)\.md", name)
    ]
