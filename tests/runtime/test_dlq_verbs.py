"""`engine dlq`: what its verbs say and do, over a ledger with letters of every kind."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from engine.errors import Exit
from tests.runtime.process import engine, rows_in
from tests.store.version_1 import downgrade

_PIPELINE = """
version = 1
name    = "p"
[source]
type  = "ndjson"
paths = ["in.ndjson"]
key   = "id"
[source.fields]
id   = "str"
rank = "int"
[job]
kind  = "import.bulk"
batch = { rows = 10 }
[job.payload]
entity_type = "location"
mode        = "insert"
mapping     = { id = "external_id", name = "label" }
[sink]
type   = "ndjson"
path   = "out"
"""
_SECRET = "https://user:hunter22@host.example/x?signature=abcdef"


class _Cli:
    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def __call__(self, *arguments: str, **extra: str) -> tuple[int, str, str]:
        return engine(arguments, cwd=self.directory, **extra)

    def ok(self, *arguments: str, **extra: str) -> str:
        code, out, err = self(*arguments, **extra)
        assert code == 0, err
        return out

    def letters(self, *flags: str) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.ok("dlq", "ls", "p", "--json", *flags).splitlines()]


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which a pipeline has run: twenty rows landed, one was rejected, two were dead."""
    directory = tmp_path_factory.mktemp("dlq")
    (directory / "p.toml").write_text(_PIPELINE)
    rows = [{"id": f"r{n}", "name": f"Row {n}", "rank": n} for n in range(20)]
    lines = [json.dumps(row) for row in [*rows[:4], *rows[3:]]]
    lines.insert(6, '{"id":"bad","name":"Bad \\u001b[31m","rank":"x"}')
    lines.insert(10, "not json")
    (directory / "in.ndjson").write_text("\n".join(lines) + "\n")
    code, _, err = engine(["run", "p.toml"], cwd=directory)
    assert code == 0, err
    return directory


@pytest.fixture
def cli(ran: Path, tmp_path: Path) -> _Cli:
    """The verbs, in a copy of that folder."""
    with sqlite3.connect(ran / ".engine" / "p" / "ledger.sqlite") as db:
        (tmp_path / ".engine" / "p").mkdir(parents=True)
        copy = sqlite3.connect(tmp_path / ".engine" / "p" / "ledger.sqlite")
        db.backup(copy)
        copy.execute("UPDATE meta SET value=? WHERE name='file'", (str(tmp_path / "p.toml"),))
        copy.commit()
        copy.close()
    db.close()
    for path in [ran / "p.toml", ran / "in.ndjson", *(ran / "out").iterdir()]:
        target = tmp_path / path.relative_to(ran)
        target.parent.mkdir(exist_ok=True)
        target.write_bytes(path.read_bytes())
    return _Cli(tmp_path)


def test_letters_are_listed_by_what_they_have_in_common(cli: _Cli) -> None:
    """By bucket, by reason, by key, by a condition in SQL, and counted."""
    codes = [letter["code"] for letter in cli.letters()]
    assert codes == ["record.type", "record.json", "platform.skipped"]
    assert "raw" not in cli.letters()[0]
    assert [letter["code"] for letter in cli.letters("--bucket", "rejected")] == ["platform.skipped"]
    assert [letter["line"] for letter in cli.letters("--reason", "record.json")] == [11]
    assert [letter["key"] for letter in cli.letters("--key", "r3")] == ["r3"]
    assert [letter["line"] for letter in cli.letters("--where", "line > 4 and line < 8 or row like 'not%'")] == [7, 11]
    table = cli.ok("dlq", "ls", "p.toml", "--counts")
    assert table.splitlines()[0].split() == ["PIPELINE", "BUCKET", "CODE", "STATE", "LETTERS"]
    assert len(table.splitlines()) == 4


@pytest.mark.parametrize(
    "condition",
    [
        "1) UNION SELECT key, 1 FROM jobs --",
        "(SELECT count(*) FROM jobs) > 0",
        "no_such_column = 1",
        "1; DROP TABLE jobs",
    ],
)
def test_a_condition_reads_the_columns_of_a_letter_and_nothing_else(cli: _Cli, condition: str) -> None:
    """Other tables, other statements and unknown columns are refused as a fault of the condition."""
    code, out, err = cli("dlq", "ls", "p", "--where", condition)
    assert (code, out) == (Exit.CONFIGURATION, "")
    assert "the condition cannot be used" in err


def test_a_letter_is_shown_with_both_ends_and_what_to_type_next(cli: _Cli) -> None:
    """The place and bytes of the input, the platform's words, every attempt with its heads, and the next command."""
    shown = cli.ok("dlq", "show", "r3")
    letter = cli.letters("--key", "r3")[0]
    assert "error[platform.skipped]: platform rejected 1 row of job " + letter["remote_id"] in shown
    assert f"in.ndjson line 4, bytes {letter['start']}-" in shown
    assert f"trace {letter['trace_id']}" in shown
    assert "kept as rejected; 3 of 23 rows of its run are rejected or dead" in shown
    assert "POST /v1/jobs   Idempotency-Key: " in shown
    assert "Authorization: ***" in shown
    assert f"engine dlq replay p --id {letter['id']}" in shown


def test_what_a_record_holds_cannot_colour_the_terminal(cli: _Cli) -> None:
    """Control characters of the bytes are shown, never sent; as JSON they are data."""
    (letter,) = cli.letters("--reason", "record.type")
    assert "\x1b" not in cli.ok("dlq", "show", str(letter["id"]))
    document = json.loads(cli.ok("dlq", "show", str(letter["id"]), "--json"))
    assert document["raw"] == '{"id":"bad","name":"Bad \\u001b[31m","rank":"x"}'
    assert document["attempts"] == []


def test_secrets_in_foreign_words_are_not_shown(cli: _Cli) -> None:
    """Reasons and errors of attempts pass the redaction, also those an older engine wrote."""
    with sqlite3.connect(cli.directory / ".engine" / "p" / "ledger.sqlite") as db:
        db.execute("UPDATE dead_letters SET reason=?", (_SECRET,))
        db.execute("UPDATE jobs SET error=?", (_SECRET,))
    db.close()
    for arguments in (("ls", "p"), ("ls", "p", "--json"), ("show", "r3"), ("show", "r3", "--json")):
        out = cli.ok("dlq", *arguments)
        assert "hunter22" not in out
        assert "abcdef" not in out


def test_letters_are_edited_by_flags_by_file_and_in_an_editor(cli: _Cli) -> None:
    """What was read stays; what is no JSON object is refused; dropped letters are not sent."""
    bad, torn = cli.letters("--bucket", "dead")
    cli.ok("dlq", "edit", str(bad["id"]), "--set", "rank=7", "--set", "name=Good", "--unset", "id", "--set", "id=bad")
    shown = json.loads(cli.ok("dlq", "show", str(bad["id"]), "--json"))
    assert (json.loads(shown["edited"]), shown["state"]) == ({"name": "Good", "rank": 7, "id": "bad"}, "edited")
    assert shown["raw"].startswith('{"id":"bad","name":"Bad')
    code, _, err = cli("dlq", "edit", str(torn["id"]), "--set", "id=1")
    assert code != 0
    assert "no JSON object" in err
    (cli.directory / "fixed.json").write_text("[1]")
    code, _, err = cli("dlq", "edit", str(torn["id"]), "--raw", "fixed.json")
    assert "a record is a JSON object" in err
    (cli.directory / "fixed.json").write_text('{\n "id": "torn",\n "rank": 1\n}\n')
    cli.ok("dlq", "edit", str(torn["id"]), "--raw", "fixed.json")
    assert json.loads(cli.ok("dlq", "show", str(torn["id"]), "--json"))["edited"] == '{"id":"torn","rank":1}'
    cli.ok("dlq", "edit", str(torn["id"]), "--reset")
    assert json.loads(cli.ok("dlq", "show", str(torn["id"]), "--json"))["state"] == "open"
    cli.ok("dlq", "edit", "r3", EDITOR="sed -i s/r3/r3-b/")
    assert json.loads(json.loads(cli.ok("dlq", "show", "r3", "--json"))["edited"])["id"] == "r3-b"
    cli.ok("dlq", "edit", str(torn["id"]), "--drop")
    assert torn["id"] not in {letter["id"] for letter in cli.letters()}


def test_edited_letters_are_replayed_by_the_pipeline_s_name(cli: _Cli) -> None:
    """The file is known from the last run; the chosen letters land beside the other output, the others stay."""
    cli.ok("dlq", "edit", "r3", "--set", "id=r3-b")
    out = cli.ok("dlq", "replay", "p", "--key", "r3", "--json")
    report = json.loads(out)
    assert (report["outcome"], report["read"], report["accepted"], report["is_replay"]) == ("done", 1, 1, True)
    assert "r3-b" in {row["external_id"] for row in rows_in(cli.directory / "out")}
    assert {letter["state"] for letter in cli.letters("--state", "all")} == {"open", "replayed"}
    became = cli.ok("dlq", "show", "r3")
    assert "became    accepted or filtered, by replay " + report["run_id"] in became
    shown = cli.ok("runs", "show", report["run_id"])
    assert "replay of dead letters into epoch 1" in shown
    code, out, _ = cli("dlq", "replay", "p", "--key", "r3")
    assert (code, out) == (0, "no open letter of p is meant; nothing was sent\n")
    code, _, err = cli("dlq", "replay", "p", "--id", "999")
    assert "no letter to be had has the id 999" in err


def test_a_replay_says_which_letters_it_wants_to_know(cli: _Cli) -> None:
    """Nothing chosen is a question, not everything; a pipeline that is not known is said."""
    assert cli("dlq", "replay", "p")[0] == Exit.USAGE
    assert cli("dlq", "replay", "p", "--all", "--key", "x")[0] == Exit.USAGE
    code, _, err = cli("dlq", "replay", "nobody", "--all")
    assert code != 0
    assert "there is no ledger" in err


def test_letters_are_exported_as_records_or_with_their_reasons(cli: _Cli) -> None:
    """Records go to stdout a line each; a file is readable by its owner alone."""
    lines = cli.ok("dlq", "export", "p").splitlines()
    assert lines[1] == "not json"
    assert json.loads(lines[2])["id"] == "r3"
    cli.ok("dlq", "export", "p", "--format", "json", "--bucket", "rejected", "-o", "letters.ndjson")
    path = cli.directory / "letters.ndjson"
    assert path.stat().st_mode & 0o077 == 0
    document = json.loads(path.read_text())
    assert (document["key"], document["code"], document["bucket"]) == ("r3", "platform.skipped", "rejected")


def test_a_ledger_of_version_1_is_read_by_every_verb(cli: _Cli) -> None:
    """A look at an old ledger brings it up to date first."""
    downgrade(cli.directory / ".engine" / "p" / "ledger.sqlite")
    assert len(cli.letters()) == 3
    assert "attempt" in cli.ok("dlq", "show", "r3")


def test_a_run_with_dead_letters_says_where_they_are(cli: _Cli) -> None:
    """The summary's next step is the list of letters."""
    out = cli.ok("run", "p.toml")
    assert "engine dlq ls p" in out
