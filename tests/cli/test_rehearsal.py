"""`engine test`: what a [[test]] block may say, and that each lie in it is told."""

import json
import os
import socket

import pytest

from engine.errors import Exit

PIPELINE = """\
version = 1
name = "{name}"

[source]
type = "{type}"
paths = ["nowhere.{type}"]
key = "id"
fields = {{ id = "str", age = "int" }}

[job]
kind = "import.bulk"
payload = {{ mapping = {{ id = "external_id", name = "label" }} }}

[results.fields]
external_id = "str"
status = "str"

[sink]
type = "csv"
path = "out/{name}"

[dead_letters]
max = "50%"
"""
ROWS = '[{ id = "a", name = "A", age = 1 }, { id = "b", name = "B, \\"b\\"", age = 2 }]'


@pytest.fixture
def play(engine, folder):
    """Play `[[test]]` blocks over a small pipeline; answers exit code and what was said of each, in order."""

    def run(blocks: str, *, source: str = "csv", more: str = ""):
        (folder / "t.toml").write_text(PIPELINE.format(name="t", type=source) + more + blocks)
        answer = engine("test", "t.toml", "--json")
        said = [json.loads(line) for line in answer.stdout.splitlines()]
        return answer.exit_code, [one["differences"] for one in said], answer

    return run


@pytest.mark.parametrize("source", ["csv", "ndjson"])
def test_all_as_expected(play, folder, source) -> None:
    """Rows in, rows out, counts, dead letters and trouble on the way: exit 0, and nothing is left behind."""
    code, said, _ = play(
        f"""
[[test]]
name = "a lost answer and a job that fails once"
rows = {ROWS}
faults = [
  {{ at = "response", route = "jobs.create", drop = true, count = 1 }},
  {{ at = "request", route = "jobs.get", status = 503, count = 1 }},
]
[test.expect]
read = 2
accepted = 2
rejected = 0
dead = 0
filtered = 0
jobs = 1
rows = [{{ external_id = "b" }}, {{ external_id = "a", status = "created" }}]
dead_letters = []
within = "1h"

[[test]]
name = "text that is no row"
text = {
            json.dumps(
                "id,name,age" + chr(10) + "a,A,1" + chr(10) + "b,B" + chr(10)
                if source == "csv"
                else '{"id":"a","name":"A","age":1}' + chr(10) + "{" + chr(10)
            )
        }
[test.expect]
accepted = 1
dead = 1
dead_letters = [{{ bucket = "dead", stage = "read", line = {3 if source == "csv" else 2} }}]
""",
        source=source,
    )

    assert (code, said) == (0, [[], []])
    assert not (folder / "out").exists()
    assert not (folder / ".engine").exists()


def test_every_lie_is_told(play) -> None:
    """Each expectation that does not hold is a difference of its own; the exit code is 1."""
    code, (said,), _ = play(
        f"""
[[test]]
name = "nothing of this is true"
rows = {ROWS}
[test.expect]
outcome = "over_budget"
accepted = 3
jobs = 7
rows = [{{ external_id = "a" }}, {{ external_id = "z" }}]
dead_letters = [{{ code = "record.type" }}]
within = "1ms"
"""
    )

    assert code == Exit.FAILED
    told = "\n".join(said)
    for difference in (
        "outcome is done, expected over_budget",
        "accepted is 2, expected 3",
        "jobs is 1, expected 7",
        'no row like {"external_id":"z"}',
        'a row that was not expected: {"external_id":"b"',
        'no dead letter like {"code":"record.type"}',
        "expected 0.0 s at most",
    ):
        assert difference in told
    assert len(said) == 7


def test_a_run_that_fails_can_be_expected(play) -> None:
    """A failure is an outcome like others, named by its code."""
    code, said, _ = play(
        f"""
[[test]]
name = "no token"
rows = {ROWS}
faults = [{{ at = "token", status = 401 }}]
[test.expect]
outcome = "failed"
error = "platform.refused"

[[test]]
name = "another one"
rows = {ROWS}
faults = [{{ at = "token", status = 401 }}]
[test.expect]
accepted = 2
"""
    )

    assert code == Exit.FAILED
    assert said[0] == []
    assert said[1][0].startswith("outcome is failed, expected done: ")
    assert said[1][0].endswith("[platform.refused]")


def test_a_user_reads_which_test_failed_and_why(engine, play) -> None:
    """On a terminal: the file, a line for each test, the differences below it, and a sum."""
    play(f'[[test]]\nname = "good"\nrows = {ROWS}\n[[test]]\nname = "bad"\nrows = {ROWS}\nexpect = {{ read = 1 }}\n')

    answer = engine("test", "t.toml")

    lines = answer.stdout.splitlines()
    assert lines[0] == "t.toml"
    assert lines[1].startswith("  ✓ good  ")
    assert lines[2].startswith("  ✗ bad  ")
    assert lines[3:] == ["      read is 2, expected 1", "2 tests, 1 failed"]


def test_no_collector_hears_of_a_test(play, monkeypatch) -> None:
    """A collector named by the environment is not spoken to, and the environment is as it was."""
    with socket.socket() as collector:
        collector.bind(("127.0.0.1", 0))
        collector.listen()
        collector.setblocking(False)
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{collector.getsockname()[1]}")
        monkeypatch.delenv("OTEL_SDK_DISABLED", raising=False)

        code, _, _ = play(f'[[test]]\nname = "x"\nrows = {ROWS}\n')

        assert code == 0
        with pytest.raises(BlockingIOError):
            collector.accept()
    assert "OTEL_SDK_DISABLED" not in os.environ


def test_tests_are_chosen_by_name_and_none_is_an_error(engine, play) -> None:
    """`--only` plays those whose name contains a text; when nothing is left to play, that is said, with exit 2."""
    play(f'[[test]]\nname = "one"\nrows = {ROWS}\n')

    assert engine("test", "t.toml", "--only", "one").stdout.endswith("1 test passed\n")
    answer = engine("test", "t.toml", "--only", "two")
    assert (answer.exit_code, "no [[test]] in t.toml has 'two' in its name" in answer.stderr) == (Exit.USAGE, True)
    assert engine("test", "people.toml").exit_code == Exit.USAGE


def test_a_fault_script_that_makes_no_sense_is_a_configuration_error(play) -> None:
    """A rule that the emulator does not know is told with file, test and rule."""
    code, _, answer = play(f'[[test]]\nname = "x"\nrows = {ROWS}\nfaults = [{{ at = "moon" }}]\n')

    assert code == Exit.CONFIGURATION
    assert "t.toml: test 'x': fault[1].at must be one of" in answer.stderr


@pytest.mark.parametrize(
    ("block", "key", "code"),
    [
        ('[[test]]\nname = "x"\n', "test.0.rows", "config.missing"),
        ('[[test]]\nrows = [{ id = "1" }]\n', "test.0.name", "config.missing"),
        ('[[test]]\nname = "x"\nrows = [{ id = "1" }]\ntext = "y"\n', "test.0.text", "config.conflict"),
        ('[[test]]\nname = "x"\nrows = [{}]\nexpect = { dead_letters = [{ kye = "1" }] }\n',
         "test.0.expect.dead_letters.0.kye", "config.unknown_key"),
        ('[[test]]\nname = "x"\nrows = [{}]\nexpect = { error = "a.b" }\n', "test.0.expect.error", "config.conflict"),
        ('[[test]]\nname = "x"\nrows = [{}]\nexpect = { jbos = 1 }\n', "test.0.expect.jbos", "config.unknown_key"),
    ],
)  # fmt: skip
def test_blocks_are_checked_like_the_rest(engine, folder, block, key, code) -> None:
    """`engine check` finds what is wrong with a test, in its place."""
    (folder / "t.toml").write_text(PIPELINE.format(name="t", type="csv") + block)

    answer = engine("check", "t.toml", "--format", "json")

    assert [(one["key"], one["code"]) for one in json.loads(answer.stdout)["findings"]] == [(key, code)]


def test_a_fault_script_is_checked_in_its_place(engine, folder) -> None:
    """`engine check` finds a rule that the emulator would not take, at the member that is wrong."""
    script = '[\n  { at = "token" },\n  { at = "jwks", cuont = 1 },\n]'
    block = f'[[test]]\nname = "x"\nrows = [{{ id = "1" }}]\nfaults = {script}\n'
    (folder / "t.toml").write_text(PIPELINE.format(name="t", type="csv") + block)

    (found,) = json.loads(engine("check", "t.toml", "--json").stdout)["findings"]

    assert (found["line"], found["column"], found["key"]) == (29, 18, "test.0.faults.1.cuont")
    assert found["message"].startswith("`cuont` of the fault is not known at `jwks`; use at, route")


def test_rows_of_a_test_may_be_called_as_they_like(engine, folder) -> None:
    """A member named like a secret is no secret in a test's rows."""
    block = '[[test]]\nname = "x"\nrows = [{ id = "1", token = "t" }]\n'
    (folder / "t.toml").write_text(PIPELINE.format(name="t", type="csv") + block)

    assert engine("check", "t.toml").exit_code == 0
