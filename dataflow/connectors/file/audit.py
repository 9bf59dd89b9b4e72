"""What lies in the output, counted: parts by their names, a single file by its marker, dead letters by their lines.

What is proved: that the rows of every epoch are there, no more and no fewer, in files of the sizes that were committed.
What is not: their values. Nothing notes a checksum of them, so a value that was edited in place, with as many bytes,
is not seen.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from dataflow.connectors.dead_letters import is_file_of
from dataflow.connectors.file.kept import keeps, load
from dataflow.connectors.file.ownership import marker
from dataflow.connectors.file.parts import part_of
from dataflow.connectors.file.records import LaneLog, Places, Record
from dataflow.connectors.file.sink_config import FileSinkConfig
from dataflow.connectors.file.tally import count_lines, count_rows
from dataflow.domain.flow import Lane
from dataflow.errors import DataFlowError
from dataflow.seams import Audit, Commit, Fault, LaneAudit


class FileAudit:
    """One look at the output of these lanes. All methods block."""

    def __init__(self, places: Places, config: FileSinkConfig, lanes: Sequence[Lane]) -> None:
        self._places, self._config, self._lanes = places, config, lanes
        self._faults: list[Fault] = []
        self._open: list[str] = []
        self._unfinished = ""

    def look(self) -> Audit:
        records = {lane.name: self._newest(lane) for lane in self._lanes}
        found: dict[str, LaneAudit] = {}
        if not self._config.single:
            self._find_strangers(records)
        for lane in self._lanes:
            record = records[lane.name]
            rows, commits = self._single(lane, record) if self._config.single else self._parts(lane, record)
            found[lane.name] = LaneAudit(
                receipt=record.receipt if record else None,
                rows=rows,
                dead_letters=self._dead(lane, record),
                commits=commits,
            )
        return Audit(lanes=found, faults=self._faults, open=self._open, unfinished=self._unfinished)

    def _fault(self, place: Path | str, message: str) -> None:
        self._faults.append(Fault(str(place), message))

    # Commit records

    def _newest(self, lane: Lane) -> Record | None:
        """The newest commit record; what the records say of each other is checked."""
        log = LaneLog(self._places, lane)
        kept: dict[int, Record] = {}
        for path in sorted(log.records.glob("*.json")):
            try:
                record = Record.loads(path.read_bytes())
            except FileNotFoundError:
                continue  # pruned while we looked
            except (DataFlowError, OSError) as error:
                self._fault(path, str(error))
                continue
            kept[record.epoch] = record
            if path.stem != f"{record.epoch:012d}":
                self._fault(path, f"the record in it is that of epoch {record.epoch}")
            if record.receipt and record.receipt.epoch != record.epoch - record.sealed:
                self._fault(path, f"its receipt is that of epoch {record.receipt.epoch}")
            if record.receipt and (record.receipt.lane, record.receipt.generation) != (lane.name, lane.generation):
                self._fault(path, f"its receipt is of {record.receipt.lane}, generation {record.receipt.generation}")
        for epoch, record in kept.items():
            before = kept.get(epoch - 1)
            if before and record.sealed and record.receipt != before.receipt:
                self._fault(log.records / f"{epoch:012d}.json", "the receipt differs from the one that it ends with")
        return kept[max(kept)] if kept else None

    # A folder of parts

    def _parts(self, lane: Lane, record: Record | None) -> tuple[int, list[Commit]]:
        files = {
            path.name: path
            for path in _visible(self._places.out)
            if (part := part_of(path)) and part[:2] == (lane.generation, lane.name)
        }
        files |= self._unpublished(lane, record, "out")
        upto = record.receipt.epoch if record and record.receipt else 0
        commits, size = [], 0
        for name, path in sorted(files.items()):
            epoch = int(name.rsplit("-", 2)[1])
            rows = self._counted(path, lambda path: count_rows(path, self._config))
            if epoch == 0 and rows == 0 and not (record and record.files):
                continue  # the columns of a folder without rows
            if not 0 < epoch <= upto:
                self._fault(path, f"it is of epoch {epoch}, which was never committed: {lane.name} is at {upto}")
            size += path.stat().st_size
            commits.append(Commit(name, epoch, rows))
        wanted = (record.files, record.bytes) if record else (0, 0)
        if len(commits) != wanted[0]:
            self._fault(self._places.out, f"{lane.name}: {len(commits)} parts are there, {wanted[0]} were committed")
        elif size != wanted[1]:
            self._fault(self._places.out, f"{lane.name}: parts of {size} bytes, {wanted[1]} bytes were committed")
        return sum(commit.rows for commit in commits), commits

    def _find_strangers(self, records: dict[str, Record | None]) -> None:
        kept = load(self._places.control / self._lanes[0].pipeline)
        for path in _visible(self._places.out):
            part = part_of(path)
            if part is None and path.name.endswith(self._config.part_suffix):
                self._fault(path, "it is no part of any pipeline, and readers take it for one")
            elif part and keeps(kept, *part):
                continue  # of a generation that was rewound, before the place that this one began at
            elif part and (part[0] != self._lanes[0].generation or part[1] not in records):
                self._fault(path, f"it is of generation {part[0]} and lane {part[1]}, which are not the pipeline's")

    def _unpublished(self, lane: Lane, record: Record | None, area: str) -> dict[str, Path]:
        """Files of the newest record that a crash has kept from their names: the next attempt finishes that."""
        found = {}
        for attempt, staged, kind, final in record.publish if record else ():
            target = (self._places.out if area == "out" else self._places.dead) / final
            if kind != area or target.exists():
                continue
            for root in self._places.roots(lane):
                for state in ("attempts", "fenced"):
                    if (path := root / state / attempt / staged).exists():
                        found[final] = path
        return found

    # One file

    def _single(self, lane: Lane, record: Record | None) -> tuple[int | None, None]:
        published = marker(self._places, lane)
        if published.exists() and not (self._places.generation(lane) / "finished").exists():
            if not self._places.out.is_file():
                self._fault(self._places.out, "it was published, and is gone")
                return 0, None
            size, wanted = self._places.out.stat().st_size, int(json.loads(published.read_bytes())["size"])
            if size != wanted:
                self._fault(self._places.out, f"it has {size} bytes, it was published with {wanted}")
            return self._counted(self._places.out, lambda path: count_rows(path, self._config)), None
        self._unfinished = "the file gets its name when the run completes; until then its bytes are compared, not rows"
        for name, length in record.pieces if record else ():
            path = self._places.roots(lane)[0] / "data" / name
            size = path.stat().st_size if path.exists() else 0
            if size < length:
                self._fault(path, f"it has {size} bytes, {length} were committed")
        return None, None

    # Dead letters

    def _dead(self, lane: Lane, record: Record | None) -> int:
        files = {
            path.name: path
            for path in _visible(self._places.dead)
            if is_file_of(path.name, lane.pipeline, lane.generation, lane.name)
        }
        files |= self._unpublished(lane, record, "dead")
        wanted = record.dead_files if record else 0
        if len(files) != wanted:
            self._fault(self._places.dead, f"{lane.name}: {len(files)} files of dead letters, {wanted} were committed")
        return sum(self._counted(path, count_lines) for path in files.values())

    def _counted(self, path: Path, count: Callable[[Path], int]) -> int:
        try:
            return count(path)
        except (DataFlowError, OSError) as error:
            self._fault(path, str(error))
            return 0


def _visible(folder: Path) -> Iterator[Path]:
    if folder.is_dir():
        yield from (path for path in sorted(folder.iterdir()) if not path.name.startswith("."))
