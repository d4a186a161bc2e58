"""`engine plan` beside the last run: what it read, how long it took, and which options say something else now."""

import json

import pytest

from engine.cli.compared import changes_between
from engine.pipeline.parse import load_pipeline
from tests.cli.conftest import PIPELINE


@pytest.fixture
def spec_of(folder):
    """A pipeline with this text, read from a file."""

    def read(text: str, **env: str):
        (folder / "now.toml").write_text(text)
        return load_pipeline("now.toml", env=env)

    return read


def test_the_last_run_stands_beside_the_plan(engine, spawn, folder) -> None:
    """Nothing before the first run; then its outcome, rows, jobs and time, with what has been changed since."""
    assert json.loads(engine("plan", "people.toml", "--json").stdout)["since"] is None
    assert spawn("run", "people.toml", "-q").communicate(timeout=100)[0]

    same = json.loads(engine("plan", "people.toml", "--json").stdout)["since"]
    text = PIPELINE.replace("rows = 10", "rows = 7").replace('path = "out"', 'path = "other"')
    (folder / "people.toml").write_text(text)
    rows = (folder / "people.ndjson").read_text() + '{"external_id": "new"}\n'
    (folder / "people.ndjson").write_text(rows)
    since = json.loads(engine("plan", "people.toml", "--json").stdout)["since"]
    lines = engine("plan", "people.toml").stdout.splitlines()

    assert (same["outcome"], same["read"], same["jobs"], same["accepted"], same["changes"]) == ("done", 25, 3, 25, [])
    assert same["seconds"] > 0
    assert since["changes"] == [
        {"option": "sink.path", "before": '"out"', "after": '"other"', "decides": False},
        {"option": "job.batch.rows", "before": "10", "after": "7", "decides": True},
    ]
    assert lines[7].startswith("  last      done: 25 rows, 3 jobs in ")
    assert lines[7].endswith(", now 1 row")
    assert lines[8:] == [
        '  changed   sink.path: "out" → "other"',
        "  changed   job.batch.rows: 10 → 7  (new rows make other jobs)",
    ]


def test_another_platform_is_said(engine, spawn, folder) -> None:
    """A ledger belongs to the platform its jobs are at."""
    assert spawn("run", "people.toml", "-q").communicate(timeout=100)[0]

    said = engine("--set", "platform.emulator.url=http://127.0.0.1:9", "plan", "people.toml").stdout

    assert "  changed   platform: was emulator started for each run" in said


@pytest.mark.parametrize(
    ("before", "after", "options"),
    [
        ("rows = 10", "rows = 9", {"job.batch.rows": True}),
        ("batch = { rows = 10 }", "batch = { rows = 10 }\njobs_in_flight = 3", {"job.jobs_in_flight": False}),
        ("batch = { rows = 10 }", 'payload = { mode = "upsert" }',
         {"job.batch.rows": True, "job.payload": True}),
        ('key = "external_id"', 'key = "id"', {"source.key": True}),
        ('paths = ["people.ndjson"]', 'paths = ["a", "b"]', {"source.paths": False}),
        ('name = "people"', 'name = "others"', {}),
        ("", "", {}),
    ],
)  # fmt: skip
def test_what_decides_the_jobs_is_told_apart(spec_of, before, after, options) -> None:
    """As the run itself would: what its digest holds decides, all else may change under an unfinished run."""
    old, new = spec_of(PIPELINE), spec_of(PIPELINE.replace(before, after) if before else PIPELINE)

    assert {change.option: change.decides for change in changes_between(old, new)} == options


def test_a_secret_that_changed_is_stars(spec_of) -> None:
    """Neither the old nor the new key of a mask is shown, but that something there has changed is."""
    mask = '\n[[transform]]\ntype = "mask"\nfields = ["name"]\nhow = "hash"\nsecret = "${secret:env:KEY}"\n'

    [change] = changes_between(spec_of(PIPELINE + mask, KEY="old-hidden"), spec_of(PIPELINE + mask, KEY="new-hidden"))

    assert (change.option, change.decides) == ("transform", True)
    assert "hidden" not in f"{change.before}{change.after}"
