"""Whose output is it? Before the first epoch the sink makes sure that it replaces only what this pipeline wrote."""

from __future__ import annotations

import base64
import io
import json
import re
import shutil
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path

import polars as pl

from dataflow.connectors.dead_letters import epoch_of
from dataflow.connectors.file.disk import make_folder, sync_folder, write_durably
from dataflow.connectors.file.kept import Kept, keeps, load, save
from dataflow.connectors.file.parts import part_of
from dataflow.connectors.file.records import Places
from dataflow.connectors.file.sink_config import FileSinkConfig
from dataflow.connectors.in_memory import in_memory
from dataflow.domain.flow import Lane
from dataflow.domain.state import Rewind
from dataflow.errors import Conflict, Fenced, Rejected, another_journals

_GENERATION = re.compile(r"g(\d+)")
_RETIRED = re.compile(r"retired-g(\d+)-[0-9a-f]{32}")


def claim(
    places: Places,
    config: FileSinkConfig,
    schema: pl.Schema,
    lanes: Sequence[Lane],
    rewind: Rewind | None = None,
    *,
    begins: bool = False,
) -> None:
    """Make `places.out` this generation's place for output, or refuse. Repeatable; shows nothing. What a `rewind` keeps
    of the generation before stays, and what that one had kept.

    Raises `Conflict` where foreign output or another pipeline's lies there and `overwrite` is not set, and where there
    are receipts of a generation that only now `begins`; `Fenced` where a newer generation has the place, `Rejected`
    (BAD_PATH) where it cannot be output at all.
    """
    lane = lanes[0]
    _check_kind(places.out, config)
    make_folder(places.out.parent)
    _check_others(places, config, lane)
    _retire_older(places, lane, rewind)
    generation = places.generation(lane)
    if begins and any(generation.glob("*/records/*.json")):
        own = generation.parent
        raise another_journals(lane.pipeline, str(places.out), f"delete {own} and what it wrote")
    make_folder(generation)
    _check_foreign(places, config, lane)
    _remember(generation / "prepared.json", config, schema, lane)


def prepared_schema(places: Places, lane: Lane) -> pl.Schema:
    """The columns the generation was prepared with. Raises `Fenced` where it was never prepared, or replaced."""
    try:
        data = json.loads((places.generation(lane) / "prepared.json").read_bytes())
    except FileNotFoundError as error:
        raise Fenced(f"generation {lane.generation} of {lane.pipeline} is not prepared, or was replaced") from error
    return pl.read_ipc(io.BytesIO(base64.b64decode(data["schema"]))).schema


def marker(places: Places, lane: Lane) -> Path:
    """The file that tells a published single file from a foreign one: its size and time."""
    return places.control / lane.pipeline / f"published-g{lane.generation}.json"


def mark(path: Path, finished: Path) -> None:
    """Note that the file `finished` is about to be published."""
    stat = finished.stat()
    draft = path.with_suffix(".new")
    write_durably(draft, json.dumps({"size": stat.st_size, "mtime_ns": stat.st_mtime_ns}).encode())
    draft.rename(path)
    sync_folder(path.parent)


def is_foreign(places: Places, pipeline: str) -> bool:
    """Whether a file lies at `out` that this pipeline did not publish, or that was changed since."""
    if not places.out.exists():
        return False
    stat = places.out.stat()
    for path in (places.control / pipeline).glob("published-g*.json"):
        if json.loads(path.read_bytes()) == {"size": stat.st_size, "mtime_ns": stat.st_mtime_ns}:
            return False
    return True


def refuse_foreign(path: Path) -> Conflict:
    return Conflict(
        "something is there that this pipeline did not write",
        where=str(path),
        hint="move it away, or set overwrite: true",
    )


def _check_kind(out: Path, config: FileSinkConfig) -> None:
    if config.single and out.is_dir():
        raise Rejected("a folder is there, and the path names a file", code="BAD_PATH", where=str(out))
    if not config.single and out.exists() and not out.is_dir():
        raise Rejected("a file is there, and the path names a folder", code="BAD_PATH", where=str(out))


def _check_others(places: Places, config: FileSinkConfig, lane: Lane) -> None:
    if not places.control.is_dir():
        return
    for other in places.control.iterdir():
        if other.name == lane.pipeline or not other.is_dir():
            continue
        if not config.overwrite:
            raise Conflict(
                f"the pipeline {other.name} writes there", where=str(places.out), hint="or set overwrite: true"
            )
        shutil.rmtree(_retired(other, other.name))  # moved first: its living attempts are fenced in one act


def _retired(folder: Path, name: str) -> Path:
    target = folder.with_name(f"retired-{name}-{uuid.uuid4().hex}")
    folder.rename(target)
    sync_folder(folder.parent)
    return target


def _retire_older(places: Places, lane: Lane, rewind: Rewind | None) -> None:
    """Fence older generations by moving their folders away in one act, then delete what they published.

    An attempt of theirs finds nothing to link or rename any more, so nothing can appear behind the deletion.
    """
    controls = list(dict.fromkeys((places.control, places.dead_control)))
    for control in controls:
        for folder in _folders(control / lane.pipeline, _GENERATION):
            number = int(folder.name[1:])
            if number > lane.generation:
                raise Fenced(f"generation {number} of {lane.pipeline} has taken over {places.out}")
            if number < lane.generation:
                _retired(folder, folder.name)
    own = controls[0] / lane.pipeline
    before = load(own)
    lanes: dict[int, list[str]] = {}
    for folder in _folders(own, _RETIRED):
        found = _RETIRED.fullmatch(folder.name)
        assert found is not None
        lanes.setdefault(int(found[1]), []).extend(path.name for path in folder.iterdir() if path.is_dir())
    kept: Kept = {}
    if rewind is not None:
        kept = dict(before)
        for number, names in lanes.items():
            here = rewind.kept if number == rewind.generation else {}
            found_now = {name: None if here is None else here.get(name, 0) for name in names}
            kept[number] = {**before.get(number, {}), **found_now}  # after a crash some of the folders are gone already
        save(own, kept)  # before anything goes by it
    for number in {*lanes, *before}:
        _delete_published(places, lane.pipeline, number, [*lanes.get(number, ()), *before.get(number, ())], kept)
    if rewind is None:
        save(own, {})  # when all of it has gone
    for control in controls:
        for folder in _folders(control / lane.pipeline, _RETIRED):
            shutil.rmtree(folder)


def _folders(parent: Path, name: re.Pattern[str]) -> list[Path]:
    return [path for path in parent.iterdir() if name.fullmatch(path.name)] if parent.is_dir() else []


def _delete_published(places: Places, pipeline: str, generation: int, lanes: Sequence[str], kept: Kept) -> None:
    """Newest first, so that at every moment a prefix of the old output is left."""
    for path in sorted(_visible(places.out), reverse=True):
        part = part_of(path)
        if part and part[0] == generation and part[1] in lanes and not keeps(kept, *part):
            path.unlink(missing_ok=True)
    for path in sorted(_visible(places.dead), reverse=True):
        for lane in lanes:
            epoch = epoch_of(path.name, pipeline, generation, lane)
            if epoch is not None and not keeps(kept, generation, lane, epoch):
                path.unlink(missing_ok=True)


def _visible(folder: Path) -> Iterator[Path]:
    if folder.is_dir():
        yield from (path for path in folder.iterdir() if not path.name.startswith("."))


def _check_foreign(places: Places, config: FileSinkConfig, lane: Lane) -> None:
    if config.single:
        if not config.overwrite and is_foreign(places, lane.pipeline):
            raise refuse_foreign(places.out)
        return
    ours = {path.name for path in places.generation(lane).iterdir() if (path / "records").is_dir()}
    kept = load(places.control / lane.pipeline)
    for path in _visible(places.out):
        part = part_of(path)
        if part and ((part[0] == lane.generation and part[1] in ours) or keeps(kept, *part)):
            continue
        if not config.overwrite:
            raise refuse_foreign(path)
        if path.is_file() and path.name.endswith(config.part_suffix):
            path.unlink(missing_ok=True)


def _remember(path: Path, config: FileSinkConfig, schema: pl.Schema, lane: Lane) -> None:
    """Write down the generation's columns and format; refuse others once rows may be there under them."""
    layout = config.model_dump(mode="json", exclude={"path", "overwrite", "rotate_size"})
    columns = base64.b64encode(in_memory(schema.to_frame().write_ipc)).decode()
    new = {"sink": lane.sink, "schema": columns, "layout": layout}
    if path.exists():
        old = json.loads(path.read_bytes())
        if old["sink"] != lane.sink:
            raise Conflict(f"the sinks {old['sink']} and {lane.sink} both write there", where=config.path)
        same = pl.read_ipc(io.BytesIO(base64.b64decode(old["schema"]))).schema == schema
        begun = any((path.parent / name / "records").is_dir() for name in _names(path.parent))
        if begun and not (same and old["layout"] == layout):
            raise Conflict(
                "columns or format differ from those this generation has written with",
                where=config.path,
                hint="begin a new generation",
            )
    draft = path.with_suffix(".new")
    write_durably(draft, json.dumps(new).encode())
    draft.rename(path)
    sync_folder(path.parent)


def _names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if path.is_dir()]
