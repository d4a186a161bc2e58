"""The verbs that need no run: check, schema, call's own refusals, the emulator as a process."""

import json
import signal

import click
import pytest

from engine.cli.call import _judge
from engine.contract.catalog import ROUTES
from engine.errors import Exit


def test_check_says_ok(engine) -> None:
    """Right files are named, one line each, and the exit code is 0."""
    answer = engine("check", "people.toml")

    assert answer.exit_code == 0
    assert answer.stdout.splitlines() == ["settings (no config.toml: defaults): ok", "people.toml: ok"]


def test_check_finds_everything_in_every_file(engine, folder) -> None:
    """Faults of the settings and of all pipelines are told in one go, with exit 3."""
    (folder / "config.toml").write_text("[platfrm]\n")
    (folder / "b.toml").write_text((folder / "people.toml").read_text().replace("key =", "ky ="))

    answer = engine("check", "people.toml", "b.toml", "absent.toml")

    assert answer.exit_code == Exit.CONFIGURATION
    assert answer.stdout.splitlines() == ["people.toml: ok"]
    for told in ("`platfrm`", "`ky`", "did you mean `key`?", "absent.toml", "3 findings"):
        assert told in answer.stderr


def test_check_as_json_is_one_object(engine, folder) -> None:
    """With --format json the findings are data: place, code, message, hint."""
    (folder / "b.toml").write_text((folder / "people.toml").read_text().replace("rows = 10", "rows = true"))

    answer = engine("check", "b.toml", "--format", "json")

    (found,) = json.loads(answer.stdout)["findings"]
    assert answer.exit_code == Exit.CONFIGURATION
    assert (found["path"], found["line"], found["column"]) == ("b.toml", 11, 18)
    assert (found["code"], found["key"]) == ("config.type", "job.batch.rows")


def test_a_broken_setting_stops_a_run_before_it_starts(engine, folder) -> None:
    """A run whose files are wrong exits 3 with the findings, and creates nothing."""
    (folder / "b.toml").write_text("version = 2\n")

    answer = engine("run", "people.toml", "b.toml", "--json")

    assert (answer.exit_code, answer.stdout) == (Exit.CONFIGURATION, "")
    assert not (folder / ".engine").exists()


@pytest.mark.parametrize("which", ["pipeline", "config"])
def test_schemas_are_data(engine, which) -> None:
    """`engine schema` prints a JSON Schema of the asked kind."""
    assert json.loads(engine("schema", which).stdout)["$schema"].endswith("2020-12/schema")


def test_schemas_are_written_where_editors_look(engine, folder) -> None:
    """`--write` puts both under the state directory, where the files' first line points."""
    assert engine("schema", "--write").exit_code == 0
    written = sorted(path.name for path in (folder / ".engine" / "schema").iterdir())

    assert written == ["config.v1.json", "pipeline.v1.json"]


def test_call_lists_every_route(engine) -> None:
    """`engine call --list` names every route of the contract."""
    assert [line.split()[0] for line in engine("call", "--list").stdout.splitlines()] == list(ROUTES)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("jobs.gte",), "did you mean `jobs.get`?"),
        (("jobs.get", '{"ids": "x"}'), "did you mean `id`?"),
        (("jobs.get", '{"id": 3}'), "Expected `str`"),
        (("jobs.get", "{"), "not valid JSON"),
        (("jobs.get", "[]"), "JSON object"),
        (("jobs.get", "@absent.json"), "cannot read absent.json"),
        ((), "which route?"),
    ],
)
def test_call_refuses_before_it_connects(engine, folder, words, told) -> None:
    """A wrong route or question is a usage error; nothing is started for it."""
    answer = engine("call", *words)

    assert answer.exit_code == Exit.USAGE
    assert told in answer.stderr
    assert not (folder / ".engine").exists()


@pytest.mark.parametrize("name", ["encounter_id", "encounterId"])
def test_call_takes_members_by_either_name(name) -> None:
    """A member that has another name on the wire goes by ours too, and is of the right type by either."""
    _judge("epcr.get", {name: "enc_1"})

    with pytest.raises(click.BadParameter, match="Expected `str`"):
        _judge("epcr.get", {name: 1})


def test_the_emulator_announces_itself_and_ends_on_sigterm(spawn) -> None:
    """One JSON line on stdout says where it is; SIGTERM ends it with exit 0."""
    process = spawn("emulator", "--latency", "10ms", "--seed", "7")
    ready = json.loads(process.stdout.readline())
    process.send_signal(signal.SIGTERM)
    _, told = process.communicate(timeout=30)

    assert process.returncode == 0
    assert ready["url"].startswith("http://127.0.0.1:")
    assert ready["url"] in told
    assert ready["client_secret"] not in told


def test_a_latency_needs_its_unit(engine) -> None:
    """A bare number is refused with examples, as in the files."""
    answer = engine("emulator", "--latency", "2")

    assert answer.exit_code == Exit.USAGE
    assert '"30s"' in answer.stderr
