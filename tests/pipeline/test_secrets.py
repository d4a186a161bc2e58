"""Secrets: a canary goes in by every way, and comes out by none."""

import json

import msgspec
import pytest

from engine.cli.failures import render
from engine.cli.output import Paint
from engine.errors import PlanError
from engine.pipeline.parse import load_settings

CANARY = "c4n4ry-1n-th3-m1n3"


def _refused(settings_of, text, **more) -> str:
    """Everything a user or a log could see of the refusal."""
    with pytest.raises(PlanError) as caught:
        settings_of(text, **more)
    found = caught.value.findings
    facts = [json.dumps([str(one), one.hint, one.facts, one.finding_code]) for one in found]
    return render(caught.value, Paint(is_on=False), debug=True) + "".join(facts) + repr(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        '[platform]\nclient_secret = "CANARY"',
        "[platform]\nclient_secret = 'CANARY'",
        '[platform]\nclient_secret = """CANARY"""',
        '[platform]\nclient_secret = """\nCANARY"""',
        '[platform]\nclient_secret = """\nCANARY" """ oops',
        '[platform.sandbox]\ntoken = "CANARY"',
        'platform = { sandbox = { token = "CANARY", tokn = 1 } }',
        '[platform]\nclient_secrt = 1\npassword = "CANARY"',
        '[platform]\nclient_secret = "CANARY',
        "[platform]\nclient_secret = CANARY",
        '[platform]\n"client_secret" = "CANARY" oops',
    ],
)
def test_an_inline_secret_is_refused_and_never_shown(settings_of, text) -> None:
    """A secret in the file is a finding, and the finding masks the line it stands on."""
    assert CANARY not in _refused(settings_of, text.replace("CANARY", CANARY))


def test_a_secret_on_the_command_line_is_refused(settings_of) -> None:
    """`--set` with a secret's text is refused: arguments are visible to the whole machine."""
    seen = _refused(settings_of, "", overrides={"platform.client_secret": CANARY})

    assert CANARY not in seen
    assert "command line" in seen


def test_a_secret_where_it_could_be_printed_is_refused(settings_of) -> None:
    """`${secret:…}` may only stand in an option that cannot be printed."""
    seen = _refused(settings_of, 'state_dir = "${secret:env:X}"', env={"X": CANARY})

    assert CANARY not in seen
    assert "config.secret" in seen


@pytest.mark.parametrize(
    "text",
    [
        '[platform]\ntimeout = "${env:X}"',
        '[platform]\nprofile = "${env:X}"',
        '[platform.limits]\nconcurrency = "${env:X}"',
        '[telemetry]\nlog_level = "${env:X}"',
    ],
)
def test_what_a_reference_brought_is_never_repeated(settings_of, text) -> None:
    """A wrong value that came from the environment is shown as the reference, not as its text."""
    seen = _refused(settings_of, text, env={"X": CANARY})

    assert CANARY not in seen
    assert "${env:X}" in seen


def test_a_secret_file_needs_a_private_mode(settings_of, tmp_path) -> None:
    """A secret's file that group or others may read is refused; mode 0600 is accepted, its line end cut."""
    file = tmp_path / "secret"
    file.write_text(CANARY + "\n")
    text = f'[platform]\nprofile = "live"\nclient_id = "a"\nclient_secret = "${{secret:file:{file}}}"\n'
    file.chmod(0o644)
    seen = _refused(settings_of, text)
    file.chmod(0o600)

    settings = settings_of(text)

    assert "chmod 600" in seen
    assert CANARY not in seen
    assert settings.platform.client_secret is not None
    assert settings.platform.client_secret.reveal() == CANARY


def test_loaded_settings_cannot_print_a_secret() -> None:
    """Neither repr, str nor encoding of settings shows a secret that came by the environment."""
    settings = load_settings(None, env={"ENGINE__PLATFORM__CLIENT_SECRET": CANARY})

    assert settings.platform.client_secret is not None
    assert settings.platform.client_secret.reveal() == CANARY
    assert CANARY not in repr(settings) + str(settings)
    with pytest.raises(TypeError):
        msgspec.to_builtins(settings)


def test_a_pipeline_holds_no_secret(findings, good) -> None:
    """A payload member that is called a secret may not be text in the file."""
    (found,) = findings(good.replace("[sink]", f'payload = {{ api_key = "{CANARY}" }}\n[sink]'))

    assert found.finding_code == "config.secret"
    assert CANARY not in str(found) + json.dumps(found.facts)
