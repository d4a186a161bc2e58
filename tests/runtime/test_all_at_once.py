"""Every trouble of the middle at once, on a run large enough to meet each of them many times.

ENGINE_TEST_ROWS sets the number of rows; the claim in ARCHITECTURE is for 100,000.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from tests.runtime.process import ask, engine, report_of, rows_in, standing_emulator

ROWS = int(os.environ.get("ENGINE_TEST_ROWS", "12000"))
_FAULTS = """
[[fault]]                       # a create answer is lost after its effect
at = "response"
route = "jobs.create"
drop = true
probability = 0.3
[[fault]]                       # a callback never arrives
at = "callback"
lose = true
probability = 0.2
[[fault]]                       # a callback arrives twice
at = "callback"
duplicate = true
probability = 0.2
[[fault]]                       # signed URLs live for one second
at = "result.url"
ttl = 1
[[fault]]                       # connections break after every MiB of a result
at = "result.body"
cut_after = 1048576
"""
_PIPELINE = """
version = 1
name    = "{name}"
[source]
type  = "ndjson"
paths = ["rows.ndjson"]
key   = "city_id"
[job]
kind  = "{kind}"
batch = {{ rows = {batch} }}
{payload}
[callback]
listen = "127.0.0.1:0"
[sink]
type = "ndjson"
path = "{name}"
"""
_IMPORT = '[job.payload]\nentity_type = "location"\nmapping = { city_id = "external_id", name = "label" }'


def test_everything_at_once_still_balances(tmp_path: Path) -> None:
    """Lost creates, lost and doubled callbacks, URLs of a second, resets every MiB: every row once, no job twice."""
    with (tmp_path / "rows.ndjson").open("w") as file:
        for number in range(ROWS):
            row = {"city_id": f"c{number}", "name": f"City {number}", "country": "DE", "population": number}
            file.write(json.dumps(row) + "\n")
    (tmp_path / "faults.toml").write_text(_FAULTS)
    (tmp_path / "a.toml").write_text(_PIPELINE.format(name="a", kind="import.bulk", batch=250, payload=_IMPORT))
    enrich = _PIPELINE.format(name="b", kind="intelligence.enrich.bulk", batch=2500, payload="")
    (tmp_path / "b.toml").write_text(enrich)
    with standing_emulator("--faults", str(tmp_path / "faults.toml"), "--seed", "5", "--latency", "0.2s") as ready:
        extra = {"ENGINE__PLATFORM__EMULATOR__URL": ready["url"]}
        code, out, err = engine(["run", "a.toml", "b.toml", "--json"], cwd=tmp_path, **extra)
        assert code == 0, err[-3000:]
        reports = [json.loads(line) for line in out.strip().splitlines()]
        for report in reports:
            assert (report["outcome"], report["read"], report["accepted"]) == ("done", ROWS, ROWS)
            assert report["open"] == 0
        assert report_of(out)["pipeline"] == "b"
        books = ask(f"{ready['url']}/__emulator/books")
        assert books["creates"] == sum(report["jobs"] for report in reports)
        assert (books["same_trace"], books["same_payload"]) == (0, 0)
        struck = {rule["at"]: rule["struck"] for rule in ask(f"{ready['url']}/__emulator/faults")["faults"]}
        assert all(struck.values()), struck
    for name, key in (("a", "external_id"), ("b", "profile_id")):
        keys = [row[key] for row in rows_in(tmp_path / name)]
        assert len(keys) == len(set(keys)) == ROWS
