"""Settings: precedence, references, and what a profile does not read."""

import pytest

from engine.errors import PlanError
from engine.pipeline.parse import load_settings

FILE = """\
[platform]
profile = "emulator"
client_id = "${env:ARGUS_CLIENT_ID}"
client_secret = "${secret:env:ARGUS_CLIENT_SECRET}"
timeout = "10s"

[platform.sandbox]
token = "${secret:env:ARGUS_SANDBOX_TOKEN?}"

[platform.limits]
requests = "600/min"
"""


def _codes(caught) -> list[tuple[str, str]]:
    return [(found.path, found.finding_code) for found in caught.value.findings]


def test_no_file_is_all_defaults() -> None:
    """Without a config.toml the emulator is chosen and nothing needs to be set."""
    settings = load_settings(None, env={})

    assert (settings.platform.profile, settings.state_dir) == ("emulator", ".engine")


def test_flags_win_over_environment_over_file(settings_of) -> None:
    """Precedence is flags, environment, file, defaults, key by key."""
    env = {"ENGINE__PLATFORM__TIMEOUT": "20s", "ENGINE__TELEMETRY__LOG_LEVEL": "debug", "ENGINE__STATE_DIR": "x"}

    settings = settings_of(FILE, env=env, overrides={"platform.timeout": "30s", "state_dir": "y"})

    assert settings.platform.timeout == 30.0
    assert settings.state_dir == "y"
    assert settings.telemetry.log_level == "debug"
    assert settings.platform.limits.requests == 10.0
    assert settings.platform.limits.concurrency == 32


def test_who_carries_requests_is_one_word(settings_of) -> None:
    """The engine's own connections unless said otherwise, in the file, a variable or a flag; nothing else is a word."""
    assert settings_of(FILE).platform.transport == "direct"
    assert settings_of('[platform]\ntransport = "aiohttp"\n').platform.transport == "aiohttp"
    assert settings_of(FILE, env={"ENGINE__PLATFORM__TRANSPORT": "aiohttp"}).platform.transport == "aiohttp"
    with pytest.raises(PlanError) as caught:
        settings_of('[platform]\ntransport = "fast"\n')
    assert [code for _, code in _codes(caught)] == ["config.choice"]


def test_overrides_are_read_by_the_type_of_the_option(settings_of) -> None:
    """Text from a variable or a flag becomes the integer, the number or the list the option is."""
    settings = settings_of(
        "",
        env={"ENGINE__PLATFORM__LIMITS__JOBS_IN_FLIGHT": "7", "ENGINE__PLATFORM__CLIENT_ID": "123"},
        overrides={"platform.scopes": "a, b", "platform.limits.concurrency": "9"},
    )

    limits = settings.platform.limits
    assert (limits.jobs_in_flight, limits.concurrency) == (7, 9)
    assert (settings.platform.scopes, settings.platform.client_id) == (("a", "b"), "123")


def test_a_wrong_override_names_its_origin(settings_of) -> None:
    """A fault that came from a variable or a flag is reported there, not at a line of the file."""
    with pytest.raises(PlanError) as caught:
        settings_of(
            FILE,
            env={"ENGINE__PLATFORM__TIMOUT": "1s"},
            overrides={"platform.limits.concurrency": "many"},
        )

    assert sorted(_codes(caught)) == [
        ("--set platform.limits.concurrency", "config.type"),
        ("environment variable ENGINE__PLATFORM__TIMOUT", "config.unknown_key"),
    ]


def test_the_emulator_reads_no_credentials(settings_of) -> None:
    """References that the chosen profile does not use are not followed, so they need not be set."""
    settings = settings_of(FILE)

    assert (settings.platform.client_id, settings.platform.client_secret) == (None, None)


def test_live_names_every_missing_value_at_once(settings_of) -> None:
    """All unset references of the chosen profile are told together, with the places looked in."""
    with pytest.raises(PlanError) as caught:
        settings_of(FILE, overrides={"platform.profile": "live"})

    assert _codes(caught) == [("config.toml", "config.unset")] * 2
    assert caught.value.findings[0].hint == (
        'required by profile "live"; looked in: process environment, ./.env (no such file)'
    )


def test_a_sandbox_token_makes_credentials_needless(settings_of) -> None:
    """With a minted token, client id and secret are not read; without one, they are required."""
    env = {"ENGINE__PLATFORM__PROFILE": "sandbox"}

    settings = settings_of(FILE, env={**env, "ARGUS_SANDBOX_TOKEN": "minted"})
    assert settings.platform.sandbox.token is not None
    with pytest.raises(PlanError) as caught:
        settings_of(FILE, env=env)

    assert settings.platform.sandbox.token.reveal() == "minted"
    assert _codes(caught) == [("config.toml", "config.unset")] * 2


def test_live_without_credentials_is_missing_them(settings_of) -> None:
    """A live profile whose file does not mention credentials says which are missing, and where."""
    with pytest.raises(PlanError) as caught:
        settings_of('[platform]\nprofile = "live"\n')

    assert [(found.line, found.finding_code) for found in caught.value.findings] == [(1, "config.missing")] * 2


def test_dotenv_is_looked_in_after_the_environment(settings_of, tmp_path) -> None:
    """A `.env` in the working directory answers references that the environment does not."""
    (tmp_path / ".env").write_text('export ARGUS_CLIENT_ID=file # note\nARGUS_CLIENT_SECRET="from file"\nnot a line\n')
    overrides = {"platform.profile": "live"}

    platform = settings_of(FILE, env={"ARGUS_CLIENT_ID": "env"}, overrides=overrides).platform

    assert platform.client_id == "env"
    assert platform.client_secret is not None
    assert platform.client_secret.reveal() == "from file"


def test_references_inside_text_and_escapes(settings_of) -> None:
    """A reference may be a part of a text, an optional one may be empty there, and $${ is literal."""
    text = 'state_dir = "a-${env:X}-${env:Y?}-$${env:Z}"'

    assert settings_of(text, env={"X": "${env:NEVER}"}).state_dir == "a-${env:NEVER}--${env:Z}"


def test_an_optional_reference_that_is_unset_is_the_default(settings_of) -> None:
    """`${env:X?}` alone, unset, is as if the key were not there."""
    assert settings_of('[telemetry]\notlp = "${env:X?}"').telemetry.otlp is None


def test_a_substituted_value_can_never_add_a_key(settings_of) -> None:
    """What a reference brings is a value, whatever it looks like."""
    with pytest.raises(PlanError) as caught:
        settings_of('platform = "${env:X}"', env={"X": '{ profile = "live" }'})

    assert _codes(caught) == [("config.toml", "config.type")]


@pytest.mark.parametrize("reference", ["${X}", "${env:}", "${file:x}", "${secret:X}", "${env:X", "${vault:a}"])
def test_a_malformed_reference_is_a_finding(settings_of, reference) -> None:
    """A reference of no known form is told with the forms there are."""
    with pytest.raises(PlanError) as caught:
        settings_of(f'state_dir = "{reference}"', env={"X": "x"})

    assert _codes(caught) == [("config.toml", "config.reference")]


def test_the_request_ceiling_spares_the_emulator(settings_of) -> None:
    """[platform.limits] requests binds real accounts; the emulator has a ceiling only of its own."""
    env = {"ARGUS_CLIENT_ID": "a", "ARGUS_CLIENT_SECRET": "b"}

    assert settings_of(FILE).platform.requests_per_s is None
    assert settings_of(FILE, overrides={"platform.emulator.requests": "5/s"}).platform.requests_per_s == 5.0
    assert settings_of(FILE, env=env, overrides={"platform.profile": "live"}).platform.requests_per_s == 10.0


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ('api_url = "http://api.example.net"', "config.unsafe"),
        ('api_url = "https://user:pw@api.example.net"', "config.secret"),
        ('api_url = "api.example.net"', "config.range"),
        ('api_url = "https://host:notaport"', "config.range"),
    ],
)
def test_an_address_that_would_expose_something_is_refused(settings_of, line, code) -> None:
    """Hosts that get credentials are https or loopback, and hold no credentials themselves."""
    with pytest.raises(PlanError) as caught:
        settings_of(f'[platform]\nprofile = "live"\nclient_id = "a"\nclient_secret = "${{env:S}}"\n'
                    f"[platform.live]\n{line}\n", env={"S": "x"})  # fmt: skip

    assert [found.finding_code for found in caught.value.findings] == [code]


def test_user_tables_are_free(settings_of) -> None:
    """Top-level tables whose name begins with x- are the user's own."""
    assert settings_of("[x-notes]\nanything = 1\n").version == 1
