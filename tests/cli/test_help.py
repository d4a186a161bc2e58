"""Help: what it costs, and that every command has an example that works as it stands there."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest

from engine.cli.main import VERBS, cli
from engine.errors import Exit

ROOT = Path(__file__).resolve().parents[2]
# Libraries that no help text needs, however convenient they are elsewhere.
HEAVY = {
    "aiohttp", "asyncio", "cryptography", "joserfc", "msgspec", "opentelemetry", "orjson", "sqlite3", "ssl", "tomllib",
    "unittest", "uvloop",
}  # fmt: skip
# What these write on stdout is JSON already, a script for a shell, or text to be read.
WITHOUT_JSON = {"emulator", "schema", "dlq export", "completion", "contract openapi", "docs serve"}
# Whose JSON is read elsewhere, because the example would find nothing here.
JSON_ELSEWHERE = {
    "dlq edit": "tests/runtime/test_dlq_verbs.py",
    "dlq replay": "tests/runtime/test_dlq_verbs.py",
    "run": "tests/runtime, in nearly every file",
    "docs build": "tests/cli/test_examples.py",
    "jobs reap": "tests/runtime/test_job_verbs.py",
    "jobs reattach": "tests/cli/test_examples.py",
    "tap": "tests/runtime/test_tap.py",
    "top": "tests/runtime/test_top.py",
    "token verify": "tests/cli/test_token.py",
    "verify token": "tests/cli/test_token.py",
    "verify webhook": "tests/cli/test_verify_webhook.py",
    "login": "tests/cli/test_login.py",
}
# Examples that cannot be played to their end here, each for its reason; their words are still read.
UNPLAYABLE = {
    "engine login --no-browser": "waits for a person",
    "engine tap planned --limit 3": "needs a run at work: tests/runtime/test_tap.py has one",
    "engine emulator --port 4380": "serves until it is stopped",
    "engine jobs reattach 1": "needs a job that is dead",
    "engine verify token token.txt --keys jwks.json --audience sandbox": "needs a token of that audience",
    "engine token verify token.txt --audience sandbox": "needs a token of that audience",
    "engine docs build site": "needs the extra `docs`",
    "engine docs serve --port 0": "serves until it is stopped",
    "engine verify webhook body.json --headers headers.txt --secret secret.txt": "needs a delivery",
    "engine call discovery.openapi | engine contract diff -": "is a pipe, for a shell",
    "engine run people.toml": "played first, in the fixture",
}


def _commands(group: click.Group, path: tuple[str, ...] = ()):
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if isinstance(command, click.Group):
            yield from _commands(command, (*path, name))
        else:
            yield (*path, name), command


COMMANDS = {" ".join(path): command for path, command in _commands(cli)}


def _example(command: click.Command) -> str:
    found = re.search(r"^ *Example: +(engine .+)$", command.epilog or command.help or "", re.MULTILINE)
    assert found, command.name
    return found[1]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A folder in which a pipeline has run, with one dead letter and a chain of custody beside it."""
    folder = tmp_path_factory.mktemp("examples")

    def run(words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "engine", *shlex.split(words)[1:]],
            cwd=folder, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL,
            env={
                "PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "HOME": str(folder),
                # Who wants no colours gets none, whatever else is asked for.
                "NO_COLOR": "1", "FORCE_COLOR": "1",
            },
        )  # fmt: skip

    assert run("engine init people").returncode == 0
    # Rows as JSON, because a cell of a CSV file has no members to be set.
    text = (folder / "people.toml").read_text().replace('"csv"', '"ndjson"').replace("people.csv", "people.ndjson")
    (folder / "people.toml").write_text(text)
    rows = [{"id": f"p-{born}", "full_name": "Ada", "born": born} for born in (1815, 1906, "unknown")]
    (folder / "people.ndjson").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert run("engine run people.toml").returncode == Exit.OVER_BUDGET
    chain = run('engine call provenance.get \'{"evidence_id": "ev_local_001", "algorithm": "ml-dsa-65"}\'')
    (folder / "t.json").write_text(chain.stdout)
    app = {"grant_type": "client_credentials", "client_id": "app_local", "client_secret": "emulator-secret"}
    token = run(f"engine call oauth.token '{json.dumps(app)}'").stdout
    (folder / "token.txt").write_text(json.loads(token)["access_token"])
    (folder / "keys.json").write_text(run('engine call provenance.keys \'{"algorithm": "ml-dsa-65"}\'').stdout)
    run.folder = folder
    return run


@pytest.mark.parametrize("name", [name for name, command in COMMANDS.items() if _example(command) not in UNPLAYABLE])
def test_the_example_of_a_command_works_as_typed(prepared, name) -> None:
    """Each example of a help text, typed where there is something to see, ends with exit 0 and heeds NO_COLOR."""
    words = _example(COMMANDS[name])
    if name == "init":
        words = words.replace("people", "others")  # The first of that name was made by the fixture.

    if name == "dlq replay":
        assert prepared(_example(COMMANDS["dlq edit"])).returncode == 0

    answer = prepared(words)

    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert "\x1b" not in answer.stdout + answer.stderr


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_an_example_of_itself(engine, name) -> None:
    """The help of each command ends with an example of this very command, whose words it understands."""
    words = shlex.split(_example(COMMANDS[name]))

    if "|" in words:
        words = words[words.index("|") + 1 :]
    assert words[: 1 + len(name.split())] == ["engine", *name.split()]
    assert f"{' '.join(words[:2])}" in engine(*name.split(), "--help").stdout
    with click.Context(cli) as context:
        COMMANDS[name].make_context(name, words[1 + len(name.split()) :], parent=context)


@pytest.mark.parametrize("name", [name for name in COMMANDS if name not in WITHOUT_JSON])
def test_every_command_speaks_json(name) -> None:
    """`--json` is an option of every command whose output is not for programs already."""
    assert any("--json" in option.opts for option in COMMANDS[name].params)


@pytest.mark.parametrize("name", [name for name in COMMANDS if name not in WITHOUT_JSON.union(JSON_ELSEWHERE)])
def test_the_json_of_every_command_is_json(prepared, engine, monkeypatch, name) -> None:
    """The example with `--json` writes JSON on stdout and nothing else: a value a line, or one over several lines."""
    monkeypatch.chdir(prepared.folder)
    words = shlex.split(_example(COMMANDS[name]))[1:]
    expected = 0
    if name == "contract diff":
        (prepared.folder / "other.json").write_text('{"openapi": "3.1.0", "paths": {}}')
        words, expected = ["contract", "diff", "other.json"], Exit.FAILED
    words = [word.replace("people", "third") if name == "init" else word for word in words]
    words += ["--state", "all"] if name == "dlq ls" else []

    answer = engine(*words, *(() if "--json" in words else ("--json",)))

    assert answer.exit_code == expected, answer.output
    try:
        json.loads(answer.stdout)
    except ValueError:
        assert [json.loads(line) for line in answer.stdout.splitlines()]


@pytest.mark.parametrize("name", JSON_ELSEWHERE)
def test_json_that_is_read_elsewhere_is_read_there(name) -> None:
    """The file that is named has the option in it."""
    place = ROOT / JSON_ELSEWHERE[name].partition(",")[0]
    files = [place] if place.is_file() else sorted(place.glob("test_*.py"))
    assert any("--json" in file.read_text(encoding="utf-8") for file in files)


@pytest.mark.parametrize("name", COMMANDS)
def test_help_is_for_people(name) -> None:
    """No help text holds what a docstring says to programmers."""
    assert "Raises:" not in (COMMANDS[name].help or "")


def test_help_costs_no_library() -> None:
    """`engine --help` lists all verbs with click alone: none of the libraries that work needs, and few modules."""
    program = (
        "import contextlib, io, sys\n"
        "before = set(sys.modules)\n"
        "from engine.cli.main import cli\n"
        "with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()) as out:\n"
        "    cli.main(['--help'])\n"
        "print(*sorted(set(sys.modules) - before)); print(out.getvalue())"
    )
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
    modules, _, text = answer.stdout.partition("\n")
    loaded = modules.split()

    assert not {name.partition(".")[0] for name in loaded} & HEAVY
    assert [name for name in loaded if name.startswith("engine.")] == sorted(
        ["engine.cli", "engine.cli.failures", "engine.cli.invocation", "engine.cli.main", "engine.cli.output",
         "engine.cli.spout", "engine.errors", "engine.version"]
    )  # fmt: skip
    assert all(re.search(rf"^  {verb} ", text, re.MULTILINE) for verb in VERBS)


@pytest.mark.parametrize("words", ["check people.toml --json", "explain --json", "explain config.unit --json"])
def test_new_json_is_json(engine, words) -> None:
    """What is printed with `--json` is one JSON value a line."""
    answer = engine(*words.split())

    assert answer.exit_code == 0
    assert [json.loads(line) for line in answer.stdout.splitlines()]


@pytest.mark.parametrize("words", ["test people.toml", "status", "doctor people.toml", "plan people.toml"])
def test_no_colour_is_heeded(engine, words, monkeypatch, folder) -> None:
    """FORCE_COLOR dresses what a command prints, and NO_COLOR undresses it, whatever the command."""
    text = (folder / "people.toml").read_text()
    (folder / "people.toml").write_text(text + '[[test]]\nname = "x"\nrows = [{ external_id = "1", name = "A" }]\n')
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("NO_COLOR", "1")

    answer = engine(*words.split(), color=True)

    assert "\x1b[" not in answer.output
