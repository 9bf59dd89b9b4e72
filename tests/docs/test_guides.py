"""The documentation runs: its pipeline files are valid, its commands exist, its walk-through does what it says."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from dataflow import specfile
from dataflow.cli.app import app
from dataflow.embedded.temporal import Address

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"(?:<!-- (file|run)(?:: (\S+))? -->\n)?```(\w*)\n(.*?)```", re.DOTALL)
COMMANDS = {(one.name or getattr(one.callback, "__name__", "").strip("_")) for one in app.registered_commands}


def blocks(page: Path) -> Iterator[tuple[str, str, str, str]]:
    """Mark (`file`, `run` or nothing), file name, language and text of every code block."""
    yield from BLOCK.findall(page.read_text(encoding="utf-8"))


def pipelines() -> Iterator[tuple[str, str]]:
    for page in PAGES:
        for number, (_, _, language, text) in enumerate(blocks(page)):
            if language == "yaml" and re.search(r"^name:", text, re.MULTILINE):
                yield f"{page.relative_to(ROOT)}#{number}", text


@pytest.mark.parametrize("text", [pytest.param(text, id=name) for name, text in pipelines()])
def test_pipeline_files_are_valid(text: str) -> None:
    assert specfile.loads(text).spec.name


def commands() -> Iterator[tuple[str, list[str]]]:
    """Every `dataflow COMMAND ...` of shell blocks and of inline code."""
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        shell = [line for _, _, language, body in blocks(page) if language == "sh" for line in body.splitlines()]
        for line in [*shell, *re.findall(r"`(dataflow [^`\n]+)`", text)]:
            words = line.partition("#")[0].split(";")[0].split()
            if words[:1] == ["dataflow"] and len(words) > 1:
                yield str(page.relative_to(ROOT)), words


def test_commands_and_their_options_exist() -> None:
    found = list(commands())
    assert len(found) > 20
    wrong = []
    for page, (_, name, *arguments) in found:
        if name.startswith("-"):
            continue
        if name not in COMMANDS:
            wrong.append(f"{page}: there is no `dataflow {name}`")
            continue
        options = CliRunner().invoke(app, [name, "--help"]).output
        wrong += [
            f"{page}: `dataflow {name}` has no {word}"
            for word in arguments
            if word.startswith("--") and not re.search(rf"{re.escape(word)}\b", options)
        ]
    assert not wrong


@pytest.mark.temporal
def test_the_walk_through_runs(tmp_path: Path, temporal: Address) -> None:
    """docs/guide/getting-started.md, block by block, as a reader would type it: with a server of its own each time.
    The fixture only makes sure that there is a server to start."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("DATAFLOW_")}
    env |= {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{env['PATH']}",
    }
    said = ""
    for mark, name, _, text in blocks(ROOT / "docs/guide/getting-started.md"):
        if mark == "file":
            (tmp_path / name).write_text(text, encoding="utf-8")
        if mark == "run":
            done = subprocess.run(["bash", "-euc", text], cwd=tmp_path, env=env, capture_output=True, text=True)
            assert done.returncode == 0, done.stderr
            said += done.stdout + done.stderr
    lines = (tmp_path / "out/orders.jsonl").read_text(encoding="utf-8").splitlines()
    assert 400 < len(lines) < 600 and all('"total"' in line and '"note"' not in line for line in lines)
    assert "first-orders is valid" in said and "1,000 read" in said and "PipelineCompleted" in said


def test_the_guides_examples_are_the_examples() -> None:
    """The pipeline file of the guide is the one that scripts/demo runs."""
    files = {name: text for mark, name, _, text in blocks(ROOT / "docs/guide/pipeline-file.md") if mark == "file"}
    example = specfile.load(ROOT / "examples/eu-orders.yaml").spec
    assert specfile.loads(files["eu-orders.yaml"], base=ROOT / "examples").spec == example


@pytest.mark.temporal
def test_two_sinks_of_the_guide(tmp_path: Path, temporal: Address) -> None:
    files = {name: text for mark, name, _, text in blocks(ROOT / "docs/guide/pipeline-file.md") if mark == "file"}
    (tmp_path / "two-sinks.yaml").write_text(files["two-sinks.yaml"], encoding="utf-8")
    env = {**os.environ, "DATAFLOW_HOME": str(tmp_path / "home"), "DATAFLOW_TEMPORAL_ADDRESS": temporal.target}
    env["DATAFLOW_TASK_QUEUE"] = "docs-two-sinks"
    program = shutil.which("dataflow", path=str(Path(sys.executable).parent))
    assert program
    done = subprocess.run([program, "run", "two-sinks.yaml"], cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert list((tmp_path / "out/readings").glob("*.parquet"))
    faults = (tmp_path / "out/faults.csv").read_text(encoding="utf-8").splitlines()
    assert all(",fault," in line for line in faults[1:])
