"""Observing kinds: a pipeline of each job kind, from rows in a file to rows in a file, and its books (Q70-Q73).

Part of `observing_rows`: the copy of the package that runs it may lay out payloads and results in another way.
"""

import json

from engine.assembly import RunOrder, run_pipeline
from engine.emulator.server import Emulator
from engine.emulator.state import Options
from engine.pipeline.parse import load_pipeline
from engine.runtime.drain import StopFlag
from engine.settings import EmulatorSettings, Platform, Settings

PIPELINE = """
version = 1
name = "{name}"
[source]
type = "ndjson"
paths = ["{folder}/in.ndjson"]
key = "id"
[job]
kind = "{kind}"
poll = {{ first = "20ms", max = "200ms" }}
[job.payload]
{payload}
[sink]
type = "ndjson"
path = "{folder}/{name}"
"""
PAYLOADS = {
    "import.bulk": 'entity_type = "location"\nmapping = { id = "external_id", name = "label" }',
    "intelligence.enrich.bulk": "",
    "export.bulk": "",
    "graph.compute": 'algorithm = "betweenness"',
}


async def pipelines(folder):
    """By kind: rows accepted, rejected, dead and open, and the members of a row that landed."""
    seen = {}
    rows = [{"id": f"r{number}", "name": f"Row {number}"} for number in range(4)]
    async with Emulator(Options(latency_s=0.01)) as emulator:
        for kind, payload in PAYLOADS.items():
            name = kind.replace(".", "-")
            # The first kind makes what the others look for; only an enrichment says so of what nobody made.
            asked = [*rows, {"id": "nobody"}] if kind == "intelligence.enrich.bulk" else rows
            (folder / "in.ndjson").write_text("".join(json.dumps(row) + "\n" for row in asked))
            path = folder / f"{name}.toml"
            path.write_text(PIPELINE.format(name=name, folder=folder, kind=kind, payload=payload))
            platform = Platform(emulator=EmulatorSettings(url=emulator.base_url))
            order = RunOrder(spec=load_pipeline(str(path), env={}), spec_path=str(path))
            settings = Settings(state_dir=str(folder / "state"), platform=platform)
            report = await run_pipeline(order, settings, stop=StopFlag())
            [part] = (folder / name).rglob("*.ndjson")
            landed = [json.loads(line) for line in part.read_text().splitlines()]
            seen[kind] = [report.accepted, report.rejected, report.dead, report.open, sorted(landed[0])]
    return seen
