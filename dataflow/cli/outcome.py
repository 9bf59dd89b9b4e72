"""What a run came to: the fixed JSON object of `run --json`, and the same for people."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dataflow.cli.result import count, say

if TYPE_CHECKING:
    from dataflow.sdk.progress import Progress


def outcome(progress: Progress, *, seconds: float, startup: float) -> dict[str, Any]:
    """The fixed JSON object of `run --json`. Counters are those of the generation; `seconds` is how long this command
    waited for the pipeline, `startup_seconds` what came before."""
    state, counters = progress.state, progress.counters
    result: dict[str, Any] = {
        "pipeline_id": state.pipeline_id,
        "status": str(state.status),
        "records_read": counters.read,
        "records_written": counters.written,
        "records_filtered": counters.filtered,
        "records_failed": counters.failed,
        "records_dead_lettered": counters.dead_lettered,
        "epochs": progress.epochs,
        "seconds": round(seconds, 3),
        "startup_seconds": round(startup, 3),
        "generation": state.generation,
        "outputs": dict(state.outputs),
    }
    if state.status == "failed" and state.error:
        error = state.error
        result["error"] = {"code": error.code, "message": error.message, "where": error.where, "part": error.error_type}
    return result


def tell(progress: Progress, result: Mapping[str, Any], file: str) -> None:
    """The same for people."""
    state, counters = progress.state, progress.counters
    say(f"{state.pipeline_id}: {state.status} after {result['seconds']:.1f} s, {count(progress.epochs, 'epoch')}")
    figures = [f"{counters.read:,} read", f"{counters.written:,} written", f"{counters.filtered:,} filtered"]
    figures.append(f"{counters.failed:,} failed ({counters.dead_lettered:,} kept as dead letters)")
    say("  records: " + ", ".join(figures))
    for name, summary in state.outputs.items():
        say(f"  {name}: " + summarised(summary))
    if state.status == "failed" and state.error:
        place = f"{state.error.where}: " if state.error.where else ""
        say(f"  error: {state.error.code}: {place}{state.error.message}")
    if state.status in ("failed", "stopped"):
        say(f"  dataflow run {file} goes on from the last commit; with --again it begins anew")


def summarised(summary: object) -> str:
    """What a sink says of its output, in one line: `out/orders, 3 files, 1.2 MB`."""
    if not isinstance(summary, Mapping):
        return str(summary)
    parts = []
    for key, value in summary.items():
        if value is None:
            continue
        if isinstance(value, str) and Path(value).is_relative_to(Path.cwd()):
            value = str(Path(value).relative_to(Path.cwd()))
        if key == "path":
            parts.append(str(value))
        elif key == "bytes":
            parts.append(size(value))
        elif isinstance(value, int):
            noun = key.replace("_", " ")
            parts.append(f"{value:,} {noun.removesuffix('s') if value == 1 else noun}")
        elif not isinstance(value, list | Mapping):
            parts.append(f"{key.replace('_', ' ')} {value}")
    return ", ".join(parts)


def size(number: int) -> str:
    """A number of bytes in words."""
    amount = float(number)
    for unit in ("bytes", "kB", "MB", "GB"):
        if amount < 1000:
            return f"{amount:.0f} {unit}" if unit == "bytes" else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.1f} TB"
