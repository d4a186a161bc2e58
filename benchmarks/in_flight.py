"""Many jobs at the platform at once, in one process: what they cost in memory and in questions.

    python benchmarks/in_flight.py [--jobs 100000] [--latency 90]

Every row is a job of its own, and jobs take so long that all of them are under way before the first one ends. Prints
one JSON line: the peak of the engine's process, bytes per job over an empty run, requests asked about each job as the
emulator counted them, and whether the books balanced.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path

PIPELINE = """
version = 1
name    = "flight"
[source]
type  = "ndjson"
paths = ["rows.ndjson"]
key   = "id"
[job]
kind  = "intelligence.enrich.bulk"
batch = {{ rows = 1 }}
jobs_in_flight = {jobs}
[results]
accepted = ["succeeded", "failed"]
rejected = []
[results.fields]
profile_id = "str"
status     = "str"
[sink]
type = "ndjson"
path = "out"
"""
EMULATOR = """
import sys, uvloop
from engine.emulator.process import ServeOptions, serve
from engine.emulator.state import Options
options = Options(latency_s=float(sys.argv[1]), latency_spread=0.3, workers=int(sys.argv[2]), seed=3)
serve(ServeOptions(options=options, stop_on_stdin_eof=True), runner=uvloop.run)
"""


def run(directory: Path, url: str, jobs: int) -> dict:
    """One run of so many jobs; its report."""
    directory.mkdir()
    (directory / "rows.ndjson").write_text("".join(f'{{"id":"r{number}"}}\n' for number in range(jobs)))
    (directory / "p.toml").write_text(PIPELINE.format(jobs=jobs))
    settings = ["--set", f"platform.emulator.url={url}", "--set", f"platform.limits.jobs_in_flight={jobs}"]
    command = [sys.executable, "-m", "engine", *settings, "run", "p.toml", "--json", "--quiet"]
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    """Measure, and print one line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=100_000)
    parser.add_argument("--latency", type=float, default=90.0)
    asked = parser.parse_args()
    emulator = subprocess.Popen(
        [sys.executable, "-c", EMULATOR, str(asked.latency), str(2 * asked.jobs)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        url = json.loads(emulator.stdout.readline())["url"]
        with tempfile.TemporaryDirectory() as scratch:
            one = run(Path(scratch) / "one", url, 1)
            many = run(Path(scratch) / "many", url, asked.jobs)
        with urllib.request.urlopen(f"{url}/__emulator/books") as answer:
            requests = json.load(answer)["requests"]
    finally:
        emulator.communicate()
    polls = requests.get("jobs.get", 0) + requests.get("jobs.list", 0)
    print(
        json.dumps(
            {
                "jobs": asked.jobs,
                "outcome": many["outcome"],
                "accepted": many["accepted"],
                "peak_mib": many["peak_mib"],
                "peak_bytes_per_job": round((many["peak_mib"] - one["peak_mib"]) * 2**20 / asked.jobs),
                "polls_per_job": round(polls / asked.jobs, 3),
                "seconds": many["seconds"],
            }
        )
    )


if __name__ == "__main__":
    main()
