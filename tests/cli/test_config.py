"""`engine config show`: what holds, who said so, and never what a secret is."""

import json

import pytest

from engine.cli.reference import options_of
from engine.errors import Exit
from engine.pipeline.schema import SCHEMAS

CONFIG = """\
version = 1

[platform]
profile = "live"
client_id = "${env:ID}"
client_secret = "${secret:env:HIDDEN}"
timeout = "10s"

[platform.sandbox]
token = "${secret:env:OTHER}"

[platform.limits]
requests = "600/min"

[telemetry]
otlp = "${env:COLLECTOR?}"
"""


@pytest.fixture
def show(engine, folder, monkeypatch):
    """`engine … config show --json` beside a file for the live profile: settings by key."""
    (folder / "config.toml").write_text(CONFIG)
    monkeypatch.setenv("ID", "app-7")
    monkeypatch.setenv("HIDDEN", "hush-hush")

    def run(*options: str, more: tuple[str, ...] = ()) -> dict[str, tuple[str, str, str]]:
        answer = engine(*options, "config", "show", "--json", *more)
        assert answer.exit_code == 0, answer.stderr
        assert "hush" not in answer.output
        told = [json.loads(line) for line in answer.stdout.splitlines()]
        return {one["key"]: (one["value"], one["origin"], one["where"]) for one in told}

    return run


def test_each_setting_has_its_value_and_its_origin(show, monkeypatch) -> None:
    """Flags over environment over the file over defaults; values with their units, references followed."""
    monkeypatch.setenv("ENGINE__PLATFORM__PATIENCE", "5m")
    monkeypatch.setenv("ENGINE__PLATFORM__TIMEOUT", "20s")

    shown = show("--set", "platform.timeout=2m")

    assert shown["platform.client_id"] == ("app-7", "file", "config.toml:5")
    assert shown["platform.client_secret"] == ("***", "file", "config.toml:6")
    assert shown["platform.timeout"] == ("120s", "flag", "--set platform.timeout")
    assert shown["platform.patience"] == ("300s", "env", "ENGINE__PLATFORM__PATIENCE")
    assert shown["platform.limits.requests"] == ("10/s", "file", "config.toml:13")
    assert shown["platform.sandbox.token"] == ("not read by this profile", "file", "config.toml:10")
    assert shown["telemetry.otlp"] == ("not set", "file", "config.toml:16")
    assert shown["state_dir"] == (".engine", "default", "")


def test_every_option_is_there(show) -> None:
    """All options of the schema, and no other."""
    assert set(show()) == {key for key, _ in options_of(SCHEMAS["config"]())}


def test_tables_and_what_was_set_can_be_asked_for(show, engine) -> None:
    """A key keeps what begins so, `--changed` what somebody has set; a key that nothing begins with is refused."""
    assert set(show(more=("platform.limits", "telemetry.otlp"))) == {
        "platform.limits.requests", "platform.limits.jobs_in_flight", "platform.limits.concurrency", "telemetry.otlp",
    }  # fmt: skip
    assert {origin for _, origin, _ in show(more=("--changed",)).values()} == {"file"}
    assert engine("config", "show", "platform.limit").exit_code == Exit.USAGE


def test_a_missing_secret_hides_nothing_else_and_a_password_is_hidden(show, folder, monkeypatch, engine) -> None:
    """Whoever looks need not have the app's secret; credentials in an address are stars."""
    text = CONFIG.replace('client_secret = "${secret:env:HIDDEN}"\n', "")
    (folder / "config.toml").write_text(text)
    assert show()["platform.client_secret"] == ("not set", "default", "")
    monkeypatch.setenv("COLLECTOR", "http://me:hush-hush@127.0.0.1:4318")
    answer = engine("config", "show", "telemetry")
    assert "hush" not in answer.output


def test_without_a_file_all_are_defaults(engine) -> None:
    """As a table, for people; what is wrong with the settings is told as by `check`."""
    lines = engine("config", "show").stdout.splitlines()
    assert lines[0].split() == ["SETTING", "VALUE", "FROM", "WHERE"]
    assert {line.split()[-1] for line in lines[1:]} == {"default"}
    assert engine("--set", "platform.timeout=soon", "config", "show").exit_code == Exit.CONFIGURATION
