"""Memory as a contract: rows and results of any size pass within `memory`, and what cannot pass says so.

Peaks are of whole processes, as the operating system counted them (`peak_mib` of the report).
"""

from __future__ import annotations

import gzip
import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.pipeline.memory import BASELINE, MIB
from engine.runtime.reading import Reader
from engine.store.rows import JobRow
from tests.runtime.conftest import Rig, plain
from tests.runtime.process import finish, manifest_in, report_of, start

_PIPELINE = """
version = 1
name    = "large"
memory  = "{memory}"
[source]
type  = "ndjson"
paths = ["{paths}"]
key   = "id"
[job]
kind  = "{kind}"
batch = {{ rows = {rows} }}
poll  = {{ first = "50ms", max = "500ms" }}
[job.payload]
{payload}
[sink]
type = "ndjson"
path = "out"
"""
_IMPORT = 'entity_type = "location"\nmapping = { id = "external_id", name = "label" }'


def _run(
    here: Path, *, kind: str, faults: str = "", more: str = "", stdin: Any = None, **options: Any
) -> tuple[int, dict[str, Any], str]:
    """One run of the command line, with an emulator of its own."""
    payload = _IMPORT if kind == "import.bulk" else ""
    plain = {"memory": "256MiB", "paths": "in.ndjson", "rows": 10_000}
    (here / "p.toml").write_text(_PIPELINE.format(kind=kind, payload=payload, **{**plain, **options}) + more)
    config = '[platform]\nprofile = "emulator"\n[platform.emulator]\nlatency = "20ms"\n'
    if faults:
        (here / "faults.toml").write_text(faults)
        config += 'faults = "faults.toml"\n'
    (here / "config.toml").write_text(config)
    code, out, err = finish(start(["run", "p.toml", "--json", "--quiet"], cwd=here, stdin=stdin))
    assert "Traceback" not in err
    return code, report_of(out) if out.strip() else {}, err


def _letters(here: Path) -> list[tuple[Any, ...]]:
    db = sqlite3.connect(here / ".engine" / "large" / "ledger.sqlite")
    try:
        return db.execute(
            'SELECT code, reason, key, input, line, start, "end", length(raw) FROM dead_letters'
        ).fetchall()
    finally:
        db.close()


def _big_rows(path: Path, sizes: list[int]) -> None:
    with path.open("w") as file:
        for number, size in enumerate(sizes):
            file.write(f'{{"id":"r{number}","name":"Row","blob":"{"x" * size}"}}\n')


def test_a_row_of_50_mb_passes_where_only_its_key_travels(tmp_path: Path) -> None:
    """Read, sent by its key, refused by the platform as unknown, and kept: all within memory = 256MiB."""
    _big_rows(tmp_path / "in.ndjson", [50_000_000, 10, 50_000_000])
    code, report, _ = _run(tmp_path, kind="intelligence.enrich.bulk")
    assert (code, report["read"], report["rejected"], report["open"]) == (5, 3, 3, 0)
    assert report["peak_mib"] < 256
    letters = {letter[2]: letter for letter in _letters(tmp_path)}
    code, reason, _, name, line, start, end, kept = letters["r0"]
    assert (code, name, line, start, end, kept) == ("platform.failed", "in.ndjson", 1, 0, end, MIB)
    assert reason.endswith(f"(kept: the first {MIB} of {end - 1} bytes; the whole is in `in.ndjson`, bytes 0 to {end})")
    assert letters["r1"][7] == letters["r1"][6] - letters["r1"][5] - 1


def test_a_row_of_50_mb_that_cannot_travel_is_a_dead_letter(tmp_path: Path) -> None:
    """In an import it is too large for any job: the letter names both sizes and where the whole row lies."""
    _big_rows(tmp_path / "in.ndjson", [10, 50_000_000, 10])
    code, report, _ = _run(tmp_path, kind="import.bulk")
    assert (code, report["accepted"], report["dead"], report["open"]) == (0, 2, 1, 0)
    assert report["peak_mib"] < 256
    ((code, reason, _, name, line, start, end, kept),) = _letters(tmp_path)
    assert (code, name, line, kept) == ("record.too_large", "in.ndjson", 2, MIB)
    assert reason.startswith("50000034 bytes do not fit into a job of at most 78")
    assert f"`in.ndjson`, bytes {start} to {end}" in reason
    whole = (tmp_path / name).read_bytes()[start:end]
    assert json.loads(whole)["id"] == "r1"


def test_a_result_of_150_mb_streams_through(tmp_path: Path) -> None:
    """One job's result of 10,000 rows and 150 MB lands in a part of its own, a window at a time."""
    with (tmp_path / "in.ndjson").open("w") as file:
        file.writelines(f'{{"id":"r{n}","name":"Row"}}\n' for n in range(10_000))
    code, report, _ = _run(tmp_path, kind="import.bulk", faults='[[fault]]\nat = "result.rows"\npad = 15_000\n')
    assert (code, report["jobs"], report["accepted"], report["open"]) == (0, 1, 10_000, 0)
    (part,) = manifest_in(tmp_path / "out")["parts"]
    assert (part["rows"], part["bytes"] > 150_000_000) == (10_000, True)
    assert (tmp_path / "out" / part["name"]).stat().st_size == part["bytes"]
    # A tenth of the result would already show; what shows is the process itself.
    assert report["peak_mib"] < BASELINE / MIB + 32


def test_many_large_rows_at_once_stay_within_a_small_budget(tmp_path: Path) -> None:
    """Hundreds of rows of 300 kB, two to a job, through 112MiB: back-pressure reaches the source."""
    _big_rows(tmp_path / "in.ndjson", [300_000] * 300)
    code, report, _ = _run(tmp_path, kind="import.bulk", memory="112MiB")
    assert (code, report["accepted"], report["open"]) == (0, 300, 0)
    assert report["peak_mib"] < 112


def test_large_rows_of_many_results_take_turns(tmp_path: Path) -> None:
    """Eight results at once whose rows have 5 MB each: one such row at a time is held, the others wait for it."""
    _big_rows(tmp_path / "in.ndjson", [0] * 16)
    code, report, _ = _run(
        tmp_path, kind="import.bulk", rows=1, memory="160MiB", faults='[[fault]]\nat = "result.rows"\npad = 5_000_000\n'
    )
    assert (code, report["jobs"], report["accepted"], report["open"]) == (0, 16, 16, 0)
    assert sum(part["bytes"] for part in manifest_in(tmp_path / "out")["parts"]) > 16 * 5_000_000
    assert report["peak_mib"] < 160


def test_a_row_whose_values_would_not_fit_is_not_decoded(tmp_path: Path) -> None:
    """A transform needs values; 300,000 small objects in 4 MB would take a hundred: a letter, and the others go on."""
    dense = ",".join(f'{{"a":{n}}}' for n in range(300_000))
    (tmp_path / "in.ndjson").write_text(
        f'{{"id":"a","name":"N"}}\n{{"id":"b","x":[{dense}]}}\n{{"id":"c","name":"N"}}\n'
    )
    more = '[[transform]]\ntype = "set"\nvalues = { added = 1 }\n'
    code, report, _ = _run(tmp_path, kind="import.bulk", more=more)
    assert (code, report["accepted"], report["dead"], report["open"]) == (0, 2, 1, 0)
    ((code, reason, *_),) = _letters(tmp_path)
    assert code == "record.too_large"
    assert "as values; `memory` allows" in reason
    assert report["peak_mib"] < BASELINE / MIB + 32


def test_a_row_too_large_to_be_kept_is_known_by_its_head(tmp_path: Path) -> None:
    """What comes through a pipe cannot be read again, so it must fit beside the ledger; 30 MB do not."""
    _big_rows(tmp_path / "rows", [10, 30_000_000, 10])
    with (tmp_path / "rows").open("rb") as stdin:
        code, report, _ = _run(tmp_path, kind="import.bulk", paths="-", stdin=stdin)
    assert (code, report["accepted"], report["dead"], report["open"]) == (0, 2, 1, 0)
    ((code, reason, *_, kept),) = _letters(tmp_path)
    assert (code, kept) == ("record.too_long", 64 * 1024)
    assert reason.startswith("the line has 30000035 bytes")


def test_less_memory_than_the_process_needs_is_said_at_once(tmp_path: Path) -> None:
    """The finding names what was asked for, what the process takes, and what would do."""
    (tmp_path / "in.ndjson").write_text('{"id":"a"}\n')
    code, _, err = _run(tmp_path, kind="import.bulk", memory="64MiB")
    assert code == 3
    assert "`memory` is 64 MiB" in err
    assert '"112MiB" or more' in err


# Inputs under fire ---------------------------------------------------------------------------

_GOOD = [f'{{"id":"g{n}","name":"N"}}'.encode() for n in range(20)]
_ENDLESS = b"y" * 3 * MIB
_HOSTILE: dict[str, tuple[bytes, str]] = {
    "depth": (b'{"id":"h","x":%s}' % (b"[" * 10_000 + b"]" * 10_000), "record.too_deep"),
    "not utf-8": (b'{"id":"h","x":"\xff"}', "record.encoding"),
    "nul": (b'{"id":"h",\0"x":1}', "record.json"),
    "nul in text": (b'{"id":"h","x":"\0"}', "record.json"),
    "cut": (b'{"id":"h","x":', "record.json"),
    "too long": (b'{"id":"h","x":"' + _ENDLESS + b'"}', "record.too_long"),
    "key twice": (b'{"id":"h","x":{"id":1},"id":"i"}', "record.key_twice"),
    "no object": (b"[1]", "record.type"),
    "no key": (b'{"x":1}', "record.key_missing"),
    "million digits": (b'{"id":"h","x":' + b"9" * 1_000_000 + b"}", "record.too_large"),
    "million keys": (b'{"id":"h",' + b",".join(b'"k%d":1' % n for n in range(150_000)) + b"}", "record.too_large"),
}


def _hostile_lines() -> Iterator[bytes]:
    for index, good in enumerate(_GOOD):
        yield good
        if index < len(_HOSTILE):
            yield list(_HOSTILE.values())[index][0]


@pytest.mark.anyio
@pytest.mark.parametrize("ends", [b"\n", b"\r\n", b"\n\n \n"], ids=["lf", "crlf", "blank lines"])
@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
async def test_f28_t15_hostile_lines_are_dead_letters_and_the_others_go_on(rig: Rig, ends: bytes, packed: bool) -> None:
    """Each hostile line costs itself alone: a letter of its own code with its line, whatever stands around it."""
    rig.replace('key   = "id"', f'key   = "id"\nline_max = "2MiB"\npaths = ["{rig.directory}/x*"]')
    rig.replace(f'paths = ["{rig.directory}/in*.ndjson"]\n', "")
    text = b"\xef\xbb\xbf" + ends.join(_hostile_lines())
    name = rig.directory / ("x.gz" if packed else "x.ndjson")
    name.write_bytes(gzip.compress(text, 1) if packed else text)
    report = await rig.run()
    assert (report.accepted, report.dead, report.open) == (len(_GOOD), len(_HOSTILE), 0)
    letters = rig.ledger("SELECT code, line, length(raw), input FROM dead_letters ORDER BY line")
    assert [code for code, *_ in letters] == [code for _, code in _HOSTILE.values()]
    per_line = 1 if ends != b"\n\n \n" else 3
    assert [line for _, line, *_ in letters] == [1 + per_line * (2 * n + 1) for n in range(len(_HOSTILE))]
    assert {row[3] for row in letters} == {str(name)}
    assert max(row[2] for row in letters) <= 2 * MIB


@pytest.mark.anyio
async def test_t15_digits_and_objects_json_cannot_write_die_after_a_transform(rig: Rig) -> None:
    """Numbers past 64 bits pass through a transform; a million digits, and depths, are letters, never a traceback."""
    rig.text += '[[transform]]\ntype = "set"\nvalues = { added = 1 }\n'
    values = [b"9" * 30, b"9" * 100_000, b"[" * 300 + b"]" * 300, b"[" * 5000 + b"]" * 5000, b"1"]
    lines = [b'{"id":"r%d","x":%s}' % (n, value) for n, value in enumerate(values)]
    (rig.directory / "in.ndjson").write_bytes(b"\n".join(lines))
    report = await rig.run()
    assert (report.read, report.dead, report.open) == (5, 3, 0)
    assert {code for (code,) in rig.ledger("SELECT code FROM dead_letters WHERE bucket='dead'")} == {
        "record.type",
        "record.too_deep",
    }


@pytest.mark.anyio
async def test_bad_lines_without_end_do_not_pile_up(rig: Rig) -> None:
    """Nothing but bad records, far more than are held at once: letters and position are written as reading goes on."""
    with (rig.directory / "in.ndjson").open("wb") as file:
        for _ in range(400):
            file.write(b'{"id":' + b"z" * 100_000 + b"\n")
    rig.write(1)
    report = await rig.run()
    assert plain(report)["dead"] == 400
    assert report.accepted == 1
    assert rig.ledger("SELECT count(*), max(line) FROM dead_letters") == [(400, 400)]


# Reading again what is compressed ------------------------------------------------------------


@pytest.mark.anyio
async def test_a_compressed_input_is_inflated_once_however_many_rows_are_refused(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a refused row in every job, originals come from the ledger, with their places, and go with their job."""
    recalled: list[JobRow] = []
    reread = Reader._recall

    def counted(self: Reader, job: JobRow, originals: Any) -> Any:
        recalled.append(job)
        return reread(self, job, originals)

    monkeypatch.setattr(Reader, "_recall", counted)
    rig.replace("in*.ndjson", "in*.gz")
    for name in ("in1.gz", "in2.gz"):
        lines = [b'{"id":"%s%d"%s}' % (name[:3].encode(), n, b"" if n % 10 == 3 else b',"name":"N"') for n in range(55)]
        (rig.directory / name).write_bytes(gzip.compress(b"\n".join(lines) + b"\n"))
    rig.replace('mapping     = { id = "external_id", name = "label" }', 'mapping     = { id = "external_id" }')
    rig.replace('status      = "str"\n', 'status      = "enum(created)"\n')
    await rig.emulate()
    rig.text = rig.text.replace("[sink]\n", 'extra = "int"\n[sink]\n')
    report = await rig.run()
    assert (report.read, report.dead, report.open) == (110, 110, 0)
    assert recalled == []
    letters = rig.ledger('SELECT input, line, start, "end", key, raw FROM dead_letters ORDER BY input, line')
    for name, line, first, end, key, raw in letters:
        text = gzip.decompress(Path(name).read_bytes())
        assert text[first:end] == raw + b"\n"
        assert text.splitlines()[line - 1] == raw
        assert json.loads(raw)["id"] == key
    assert rig.ledger("SELECT count(*) FROM kept") == [(0,)]
