"""Reads results as a run does, beside the best a decoder alone can do, and prints ratios (CPU time, memory).

    python -m benchmarks.decode [--quick]

Enrichment results of about 1 KB a row, in the shape the contract gives them, from a file in 64 KiB pieces: as NDJSON
(P2) and as one JSON document with a large array (P3). The engine's side is what a run uses: pieces in, windows taken
by the interpreter, each row matched, counted and typed; a job has at most 10,000 rows, so every 10,000 a new one
begins. Peers decode and drop. Everything runs in a process of its own, in turns, several rounds; medians are told.
`ratio` is the peer's time by ours (of `P3`, ours on lines by ours on the array), and more is better; of a memory row it
is the cap by the peak. One JSON line a row.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import orjson

from engine.codec.array import ArraySplitter
from engine.codec.fields import struct_of
from engine.jobs.interpret import Interpreter, Reading, Taken
from engine.jobs.result_lines import RowLines
from engine.runtime.allocator import give_back_large_blocks

PIECE = 64 * 1024
JOB_ROWS = 10_000
MIB = 1024 * 1024
RSS_MAX_MIB = 64
TYPED = {"profile_id": "str", "status": "str", "enrichment_score": "int", "attributes": "json"}
PROJECTED = {"profile_id": "str", "enrichment_score": "int"}


class Attribute(msgspec.Struct, gc=False):
    """One attribute, all of it typed."""

    name: str
    value: Any
    confidence: float
    source: str
    retrieved_at: str


class Row(msgspec.Struct, gc=False):
    """A row, all of it typed."""

    profile_id: str
    status: str
    enrichment_score: int
    attributes: list[Attribute]


def row_text(number: int) -> bytes:
    """One row result, about 1 KB."""
    names = ("hemisphere", "size_class", "risk_region", "utc_offset", "name_key", "email_domain", "segment", "tier")
    attributes = [
        {
            "name": name,
            "value": f"{name}-{number % 97}" if index % 3 else number % 1000,
            "confidence": 0.5 + (number + index) % 50 / 100,
            "source": f"provider-{index}",
            "retrieved_at": "2026-11-25T10:00:00Z",
        }
        for index, name in enumerate(names)
    ]
    row = {"profile_id": f"p-{number:09d}", "status": "succeeded", "enrichment_score": number % 101}
    return msgspec.json.encode({**row, "attributes": attributes})


def write(folder: Path, megabytes: int) -> tuple[Path, Path, int]:
    """The same rows as lines and as one document; how many they are."""
    lines, document = folder / "rows.ndjson", folder / "document.json"
    block = [row_text(number) for number in range(2000)]
    rounds = max(1, megabytes * 1_000_000 // sum(map(len, block)))
    with lines.open("wb") as one, document.open("wb") as other:
        other.write(b'{"job":"j","results":[')
        for turn in range(rounds):
            one.write(b"\n".join(block) + b"\n")
            other.write((b"," if turn else b"") + b",".join(block))
        other.write(b'],"summary":{"requested":%d}}' % (rounds * len(block)))
    return lines, document, rounds * len(block)


def pieces(path: str) -> Iterator[bytes]:
    """A file as it comes from a socket."""
    fd = os.open(path, os.O_RDONLY)
    while piece := os.read(fd, PIECE):
        yield piece
    os.close(fd)


class Jobs:
    """Interprets rows, a new job every `JOB_ROWS`."""

    def __init__(self, fields: dict[str, str]) -> None:
        self._reading = Reading(
            match="profile_id",
            status="status",
            accepted=frozenset(["succeeded"]),
            rejected=frozenset(["failed"]),
            row=struct_of("ResultRow", fields) if fields else None,
            encode=lambda rows: b"",
            takes_raw=not fields,
        )
        self.rows = 0
        self._begin()

    def lines(self, body: bytes) -> tuple[int, Taken] | None:
        """Whole lines at once."""
        self._rotate()
        return self._job.lines(body)

    def elements(self, text: bytes) -> Taken | None:
        """An array of rows at once."""
        self._rotate()
        return self._job.elements(text)

    def keep(self, window: Taken | bytes | None) -> None:
        """Count what a window brought."""
        if window is not None:
            taken = self._job.window(window) if isinstance(window, bytes) else window
            self.rows += taken.accepted

    def _rotate(self) -> None:
        if len(self._job.keys) > JOB_ROWS:
            self._begin()

    def _begin(self) -> None:
        self._job = Interpreter(self._reading, rows_max=2 * JOB_ROWS)


def our_lines(path: str, fields: dict[str, str]) -> int:
    """NDJSON as a run reads it."""
    jobs = Jobs(fields)
    lines = RowLines(64 * MIB, jobs.lines)
    for piece in pieces(path):
        jobs.keep(lines.feed(piece))
    jobs.keep(lines.finish())
    return jobs.rows


def our_array(path: str, fields: dict[str, str]) -> int:
    """A document as a run reads it."""
    jobs = Jobs(fields)
    splitter = ArraySplitter("results", take=jobs.elements)
    for piece in pieces(path):
        for window in splitter.feed(piece):
            jobs.keep(window)
    splitter.finish()
    return jobs.rows


def peer_lines(path: str, decode: Callable[[bytes], Sequence[object]]) -> int:
    """Lines in 64 KiB windows, decoded and dropped."""
    rows, rest = 0, b""
    for piece in pieces(path):
        window = rest + piece
        cut = window.rfind(b"\n") + 1
        rows += len(decode(window[:cut]))
        rest = window[cut:]
    return rows


def _by_line(loads: Callable[[bytes], object]) -> Callable[[bytes], list[object]]:
    return lambda window: [loads(line) for line in window.splitlines()]


CONTENDERS: dict[str, Callable[[str], int]] = {
    "ours.typed": lambda path: our_lines(path, TYPED),
    "ours.projected": lambda path: our_lines(path, PROJECTED),
    "ours.raw": lambda path: our_lines(path, {}),
    "msgspec.full": lambda path: peer_lines(path, msgspec.json.Decoder(Row).decode_lines),
    "msgspec.same": lambda path: peer_lines(path, msgspec.json.Decoder(struct_of("Same", TYPED)).decode_lines),
    "msgspec.raw": lambda path: peer_lines(path, msgspec.json.Decoder(msgspec.Raw).decode_lines),
    "orjson": lambda path: peer_lines(path, _by_line(orjson.loads)),
    "json": lambda path: peer_lines(path, _by_line(json.loads)),
    "array.typed": lambda path: our_array(path, TYPED),
    "array.raw": lambda path: our_array(path, {}),
}


def measure(name: str, path: str) -> dict[str, float]:
    """Read once in this process: CPU seconds, rows, and how far the process grew."""
    give_back_large_blocks()  # As a run does; the peers have it too.
    started = time.process_time()
    rows = CONTENDERS[name](path)
    took_s = time.process_time() - started
    return {"rows": rows, "cpu_s": took_s, "peak_mib": _peak_mib()}


def _peak_mib() -> float:
    """The peak of this process. Not of `getrusage`: what that tells begins with the peak of the parent."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def _in_turns(names: Sequence[str], paths: dict[str, Path], rounds: int) -> dict[str, dict[str, float]]:
    """Median CPU microseconds a row, and the highest peak, of each."""
    seen: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    for _ in range(rounds):
        for name in names:
            path = paths["document" if name.startswith("array.") else "lines"]
            command = [sys.executable, "-m", "benchmarks.decode", "--measure", name, str(path)]
            home = Path(__file__).parent.parent
            done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=home)
            seen[name].append(json.loads(done.stdout))
    return {
        name: {
            "us": statistics.median(one["cpu_s"] / one["rows"] * 1e6 for one in found),
            "rows": found[0]["rows"],
            "peak_mib": max(one["peak_mib"] for one in found),
        }
        for name, found in seen.items()
    }


def _row(name: str, ours: float, peer: float, limit: float, goal: float | None) -> dict[str, Any]:
    ratio = round(peer / ours, 3)
    met = None if goal is None else ratio >= goal
    figures = {"ours": round(ours, 3), "peer": round(peer, 3), "limit": round(limit, 3)}
    return {"id": name, **figures, "ratio": ratio, "goal": goal, "met": met}


def rows(quick: bool) -> list[dict[str, Any]]:  # noqa: FBT001 - a harness calls it
    """All rows, in CPU microseconds a record or MiB; `quick` reads 20 MB instead of 200, and of the array not 1 GB."""
    with tempfile.TemporaryDirectory() as folder:
        lines, document, count = write(Path(folder), 20 if quick else 200)
        found = _in_turns(tuple(CONTENDERS), {"lines": lines, "document": document}, 3 if quick else 5)
        if any(one["rows"] != count for one in found.values()):
            raise SystemExit(f"rows were lost: {found}")
        if not quick:
            _, large, _ = write(Path(folder), 1000)
            found |= _in_turns(("array.typed",), {"document": large}, 1)
    us = {name: one["us"] for name, one in found.items()}
    limit = us["msgspec.raw"]
    told = [
        _row("P2.typed/msgspec-full-struct", us["ours.typed"], us["msgspec.full"], limit, 1.0),
        _row("P2.projected/msgspec-full-struct", us["ours.projected"], us["msgspec.full"], limit, 1.0),
        _row("P2.typed/msgspec-same-members", us["ours.typed"], us["msgspec.same"], limit, None),
        _row("P2.raw/msgspec-raw", us["ours.raw"], us["msgspec.raw"], limit, None),
        _row("P2.typed/orjson", us["ours.typed"], us["orjson"], limit, 1.0),
        _row("P2.typed/json", us["ours.typed"], us["json"], limit, 1.0),
        _row("P3.array/lines", us["array.typed"], us["ours.typed"], limit, 0.9),
        _row("P3.array-raw/lines-raw", us["array.raw"], us["ours.raw"], limit, 0.9),
    ]
    peaks = ((name, found[name]["peak_mib"]) for name in ("ours.typed", "array.typed"))
    return [*told, *(_row(f"rss.{name}", peak, RSS_MAX_MIB, RSS_MAX_MIB, 1.0) for name, peak in peaks)]


def main() -> None:
    """Print the rows, or measure one contender."""
    parser = argparse.ArgumentParser(description="Decoding of results beside decoders alone.")
    parser.add_argument("--quick", action="store_true", help="a tenth of the data")
    parser.add_argument("--measure", nargs=2, metavar=("NAME", "PATH"), help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.measure:
        print(json.dumps(measure(*asked.measure)))
        return
    for row in rows(quick=asked.quick):
        print(json.dumps(row))


if __name__ == "__main__":
    main()
