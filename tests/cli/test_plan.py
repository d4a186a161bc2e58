"""`engine plan`: what it foretells is what a run does, and it asks nobody."""

import json
import signal
import subprocess
import sys

import pytest

from engine.errors import Exit
from engine.runtime.forecast import Ahead, Pace, forecast

PASSING = """\
version = 1
name = "pass"
[source]
type = "ndjson"
paths = ["people.ndjson"]
key = "external_id"
[[transform]]
type = "filter"
field = "name"
op = "!="
value = "Person 3"
[sink]
type = "ndjson"
path = "out/pass"
"""
# Every attempt to connect, to look up a name or to start a process is written down.
WATCHED = """
import sys
def watch(event, args):
    if event.startswith(("socket.connect", "socket.getaddrinfo", "socket.bind", "subprocess.", "os.posix_spawn")):
        print("WATCHED", event, file=sys.stderr)
sys.addaudithook(watch)
from engine.cli.main import main
main()
"""


def _plan(engine, *words) -> dict:
    answer = engine("plan", "people.toml", "--json", *words)
    assert answer.exit_code == 0, answer.stderr
    return json.loads(answer.stdout)


def test_a_plan_is_what_the_run_does(engine, spawn, folder) -> None:
    """Rows, bad rows, jobs and creates of the plan are those of the run; afterwards nothing is left to do."""
    with (folder / "people.ndjson").open("a") as rows:
        rows.write("no json\n")
    (folder / "people.toml").write_text((folder / "people.toml").read_text() + '[dead_letters]\nmax = "50%"\n')
    before = _plan(engine)

    out, _ = spawn("run", "people.toml", "--json", "-q").communicate(timeout=100)
    ran, after = json.loads(out), _plan(engine)

    assert before["rows"] == {"read": 26, "sent": 25, "filtered": 0, "dead": 1}
    assert (before["rows"]["read"], before["jobs"]) == (ran["read"], ran["jobs"]) == (26, 3)
    assert before["requests"]["create"] == 3
    assert before["resume"] is None
    assert before["seconds"] is not None
    assert (after["rows"]["read"], after["jobs"], after["requests"]["create"]) == (0, 0, 0)
    assert after["last_seconds"] > 0
    assert _plan(engine, "--fresh")["jobs"] == 3


def test_a_plan_says_what_would_be_resumed(engine, spawn, folder) -> None:
    """After a stop with jobs at the platform: the run, its jobs by state, and only their requests."""
    process = spawn("--set", "platform.emulator.latency=10m", "run", "people.toml", "--json")
    for line in process.stderr:
        if "resume" in line:
            break
    while "submitted" not in engine("jobs", "ls", "people").stdout:
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == Exit.INTERRUPTED

    planned = _plan(engine)

    assert planned["resume"]["jobs"]["submitted"] >= 1
    assert sum(planned["resume"]["jobs"].values()) == len(engine("jobs", "ls", "people", "--json").stdout.splitlines())
    assert planned["requests"]["fetch"] == 2 * (planned["jobs"] + sum(planned["resume"]["jobs"].values()))
    assert "at the platform, to be re-attached" in engine("plan", "people.toml").stdout


@pytest.mark.parametrize("profile", ["live", "emulator"])
def test_a_plan_connects_to_nothing_and_writes_nothing(folder, profile) -> None:
    """No connection, no look-up, no process, no file, whatever the profile."""
    (folder / "config.toml").write_text(
        f'[platform]\nprofile = "{profile}"\nclient_id = "x"\nclient_secret = "${{secret:env:S}}"\n'
    )
    before = sorted(path.name for path in folder.iterdir())

    answer = subprocess.run(
        [sys.executable, "-c", WATCHED, "plan", "people.toml"],
        capture_output=True, text=True, check=False, env={"S": "s", "PYTHONPATH": ":".join(sys.path)},
    )  # fmt: skip

    assert (answer.returncode, answer.stderr) == (0, "")
    assert "create 3" in answer.stdout
    assert sorted(path.name for path in folder.iterdir()) == before


def test_a_divided_pipeline_has_no_plan_and_its_shares_have_a_status(engine, spawn) -> None:
    """What runs in several processes is refused rather than planned wrongly; each share says how it stands."""
    out, told = spawn("run", "people.toml", "--processes", "2", "-q").communicate(timeout=100)
    assert "25 rows in" in out, told

    answer = engine("plan", "people.toml")
    standings = [json.loads(line) for line in engine("status", "people", "--json").stdout.splitlines()]

    assert (answer.exit_code, "in several processes" in answer.stderr) == (Exit.CONFIGURATION, True)
    assert [standing["state"] for standing in standings] == ["done", "done"]
    assert sum(standing["run"]["accepted"] for standing in standings) == 25


def test_a_user_reads_it_at_a_glance(engine, folder) -> None:
    """Input, batches, platform, requests, time and what is unfinished, one line each."""
    lines = engine("plan", "people.toml").stdout.splitlines()

    assert [line.split()[0] for line in lines] == [
        "people", "input", "batches", "platform", "requests", "time", "resume"
    ]  # fmt: skip
    assert lines[1] == "  input     1 file, 25 rows = 25 to send + 0 filtered + 0 dead letters"
    assert lines[2].startswith("  batches   3 jobs of at most 10 rows and 768 KiB")
    assert lines[6] == "  resume    nothing unfinished"


def test_pipelines_without_jobs_have_plans(engine, folder) -> None:
    """Rows that only pass ask nobody; what a filter leaves out is counted."""
    (folder / "pass.toml").write_text(PASSING)

    planned = json.loads(engine("plan", "pass.toml", "--json").stdout)

    assert planned["rows"] == {"read": 25, "sent": 24, "filtered": 1, "dead": 0}
    assert (planned["jobs"], planned["requests"]) == (0, {"create": 0, "poll": 0, "fetch": 0})
    assert planned["platform"].startswith("none")


def test_what_cannot_be_known_is_not_invented(engine, folder) -> None:
    """Standard input has no plan of rows, requests or time."""
    (folder / "people.toml").write_text((folder / "people.toml").read_text().replace('"people.ndjson"', '"-"'))
    unknown = _plan(engine)
    assert (unknown["is_known"], unknown["requests"], unknown["seconds"]) == (False, None, None)
    assert "unknown before it is read: standard input" in engine("plan", "people.toml").stdout


@pytest.mark.parametrize(
    ("ahead", "pace", "seconds"),
    [
        ({"rows": 10, "jobs": 1}, {"requests_per_s": None, "job_s": None}, None),
        ({"rows": 0, "jobs": 0}, {"requests_per_s": None, "job_s": None}, 0.0),
        ({"rows": 10, "jobs": 100}, {"requests_per_s": None, "job_s": 60.0, "jobs_in_flight": 10}, 600.0),
        ({"rows": 10, "jobs": 100}, {"requests_per_s": 1.0, "job_s": 1.0}, 440.0),
        ({"rows": 1_000, "jobs": 1}, {"requests_per_s": 1.0, "job_s": 9.0, "rows_per_s": 100.0}, 10.0),
        ({"rows": 5, "jobs": 5, "has_jobs": False}, {"requests_per_s": 2.0}, 2.5),
    ],
)
def test_time_is_what_takes_longest(ahead, pace, seconds) -> None:
    """The ceiling of requests, jobs side by side, or the last run's own pace; without anything to go by, none."""
    found = forecast(Ahead(**ahead), Pace(**{"jobs_in_flight": 500, "concurrency": 32, **pace})).seconds

    assert found == (None if seconds is None else pytest.approx(seconds, rel=0.01))
