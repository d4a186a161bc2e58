"""`engine test` with pipelines of every build: callbacks, questions, listings, rows that go to the platform."""

import json
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

CALLBACK = """\
version = 1
name = "t"
[source]
type = "ndjson"
paths = ["x.ndjson"]
key = "external_id"
[job]
kind = "import.bulk"
[callback]
public_url = "https://hooks.example.net/t"
secrets = ["${secret:env:HOOK}"]
[sink]
type = "parquet"
path = "out/t"
[results.fields]
external_id = "str"
[[test]]
name = "called back"
rows = [{ external_id = "p1", label = "A" }]
[test.expect]
rows = [{ external_id = "p1" }]
"""
ASKED = """\
version = 1
name = "t"
[source]
type = "csv"
paths = ["x.csv"]
key = "encounterId"
[request]
route = "epcr.bundle"
into = "bundle"
[sink]
type = "ndjson"
path = "out/t"
[[test]]
name = "one bundle, one that is not there"
rows = [{ encounterId = "enc_local_001" }, { encounterId = "enc-none" }]
[test.expect]
accepted = 1
rejected = 1
rows = [{ encounterId = "enc_local_001", bundle = { resourceType = "Bundle" } }]
dead_letters = [{ key = "enc-none", code = "platform.404" }]
"""
LISTED = """\
version = 1
name = "t"
[source]
type = "platform"
route = "devices.list"
key = "id"
[sink]
type = "ndjson"
path = "out/t"
[[test]]
name = "the devices of the first tenant"
[test.expect]
dead_letters = []
"""


@pytest.mark.parametrize("text", [CALLBACK, ASKED, LISTED], ids=["callback", "asked", "listed"])
def test_pipelines_of_every_build_can_be_tested(engine, folder, text, monkeypatch) -> None:
    """Jobs with callbacks, a question for each row, and a listing, each on an emulator of its own."""
    monkeypatch.setenv("HOOK", "secret")
    (folder / "t.toml").write_text(text)

    answer = engine("test", "t.toml", "--json")

    assert [json.loads(line)["differences"] for line in answer.stdout.splitlines()] == [[]], answer.stderr
    assert answer.exit_code == 0


def test_the_shipped_pipelines_pass_their_own_tests(engine) -> None:
    """The [[test]] blocks that are shipped hold: with jobs of hours, refusals and push-back."""
    files = [str(path) for path in sorted((ROOT / "pipelines").glob("*.toml")) if "[[test]]" in path.read_text()]

    answer = engine("test", *files, "--json")

    said = [json.loads(line) for line in answer.stdout.splitlines()]
    assert [one["differences"] for one in said] == [[]] * len(said), answer.stderr
    assert len(said) == len(files) == 3
