"""The global options, the verbs by name, and what a failure looks like and exits with."""

import subprocess
import sys

import click
import pytest

from engine.cli.failures import exit_code_of, render
from engine.cli.main import VERBS, cli
from engine.cli.output import Paint, PipeClosed
from engine.errors import ERRORS, Exit, Refused, RunFailed, Throttled, TimedOut
from engine.pipeline.findings import FINDINGS

PLAIN = Paint(is_on=False)


def test_help_imports_no_heavy_library() -> None:
    """`engine --help` lists every verb without importing one of them, nor any library of theirs."""
    program = (
        "import contextlib, io, sys\n"
        "from engine.cli.main import cli\n"
        "with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()) as out:\n"
        "    cli.main(['--help'])\n"
        "print(*sorted(sys.modules)); print(out.getvalue())"
    )
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    modules, _, text = answer.stdout.partition("\n")
    loaded = {name.partition(".")[0] for name in modules.split()}

    assert not loaded & {
        "aiohttp",
        "opentelemetry",
        "uvloop",
        "cryptography",
        "joserfc",
        "orjson",
        "sqlite3",
        "msgspec",
    }
    assert all(f"  {verb} " in text for verb in VERBS)


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help(engine, verb) -> None:
    """Each verb can be imported and explains itself."""
    answer = engine(verb, "--help")

    assert answer.exit_code == 0
    assert "Usage: engine" in answer.stdout


def test_an_unknown_verb_is_guessed(engine) -> None:
    """A misspelt verb is a usage error that names the near one, on stderr only."""
    answer = engine("rnu")

    assert (answer.exit_code, answer.stdout) == (Exit.USAGE, "")
    assert "did you mean `run`?" in answer.stderr


def test_no_arguments_show_the_help(engine) -> None:
    """Without a verb the help is shown, as a usage error."""
    answer = engine()

    assert answer.exit_code == Exit.USAGE
    assert "Verbs:" in answer.output


def test_the_version_is_data(engine) -> None:
    """`--version` answers on stdout."""
    answer = engine("--version")

    assert (answer.exit_code, answer.stdout.split()[0]) == (0, "engine,")


@pytest.fixture
def broken_verb(monkeypatch):
    """A verb that fails in a way nobody foresaw."""

    @click.command()
    def broken() -> None:
        raise ZeroDivisionError("c4n4ry")

    monkeypatch.setattr(type(cli), "get_command", lambda *_: broken)


@pytest.mark.usefixtures("broken_verb")
def test_a_bug_is_one_line_and_exit_70(engine) -> None:
    """A foreign exception shows its type, a way to see more, and nothing of its text."""
    answer = engine("run")

    assert answer.exit_code == Exit.SOFTWARE
    assert "ZeroDivisionError" in answer.stderr
    assert "--debug" in answer.stderr
    assert "c4n4ry" not in answer.stderr
    assert "Traceback" not in answer.stderr


@pytest.mark.usefixtures("broken_verb")
@pytest.mark.parametrize("words", [("--debug", "run"), ("run",)])
def test_debug_shows_the_traceback(engine, words, monkeypatch) -> None:
    """With --debug or ENGINE_DEBUG=1 the traceback is shown as well."""
    if "--debug" not in words:
        monkeypatch.setenv("ENGINE_DEBUG", "1")

    assert "Traceback" in engine(*words).stderr


def test_exit_codes_come_from_the_error() -> None:
    """Each error ends the process with its own code, a failed run with that of its first cause."""
    refused = Refused("no", status=401)

    assert exit_code_of(refused) == Exit.CREDENTIALS
    assert exit_code_of(RunFailed("x", pipeline="p", causes=[refused])) == Exit.CREDENTIALS
    assert exit_code_of(RunFailed("x", pipeline="p", causes=[])) == Exit.FAILED
    assert exit_code_of(KeyboardInterrupt()) == Exit.FORCED
    assert exit_code_of(PipeClosed()) == 141


def test_an_error_says_what_and_what_next() -> None:
    """An error is its code, its sentence, its facts and its hint."""
    text = render(Refused("the token lacks a scope", status=403, trace_id="4bf9"), PLAIN)

    assert text == (
        "error[platform.refused]: the token lacks a scope\n"
        "  status    403\n"
        "  trace_id  4bf9\n"
        "  help: check client id, secret and scopes in config.toml"
    )


def test_a_failed_run_shows_every_cause() -> None:
    """Every cause of a failed run is shown below it."""
    causes = [Throttled("slow down", status=429), TimedOut("jobs.create took too long")]

    text = render(RunFailed("the run failed", pipeline="p", causes=causes), PLAIN)

    assert "error[run.failed]: the run failed" in text
    assert "  error[platform.throttled]: slow down" in text
    assert "  error[transport.timeout]: jobs.create took too long" in text


def test_colours_follow_the_usual_variables(engine, monkeypatch) -> None:
    """No colours into a pipe; FORCE_COLOR brings them, NO_COLOR and --no-color win over it."""
    assert "\x1b[" not in engine("rnu", color=True).stderr
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert "\x1b[" in engine("rnu", color=True).stderr
    assert "\x1b[" not in engine("--no-color", "rnu", color=True).stderr
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[" not in engine("rnu", color=True).stderr


def test_a_closed_pipe_is_quiet(spawn) -> None:
    """When whoever reads our data goes away, we go too: exit 141, not a word."""
    process = spawn("explain")
    assert process.stdout is not None
    process.stdout.close()
    process.stdout = None
    _, told = process.communicate(timeout=30)

    assert (process.returncode, told) == (141, "")


@pytest.mark.parametrize("code", [*(kind.code for kind in ERRORS), *FINDINGS])
def test_every_code_is_explained(engine, code) -> None:
    """`engine explain` knows every code an error or a finding can carry."""
    answer = engine("explain", code)

    assert answer.exit_code == 0
    assert len(answer.stdout.splitlines()) >= 3


def test_an_unknown_code_is_guessed(engine) -> None:
    """A misspelt code names the near one."""
    assert "did you mean `config.unit`?" in engine("explain", "config.unt").stderr


def test_set_needs_a_key_and_a_known_one(engine) -> None:
    """`--set` without `=` or with a key nobody knows is a configuration error that repeats no value."""
    answer = engine("--set", "hunter2", "check", "people.toml")
    assert answer.exit_code == Exit.CONFIGURATION
    assert "hunter2" not in answer.output

    answer = engine("--set", "plaform.profile=live", "check", "people.toml")
    assert answer.exit_code == Exit.CONFIGURATION
    assert "did you mean `platform`?" in answer.stderr
    assert answer.stderr.count("config.unknown_key]") == 1
