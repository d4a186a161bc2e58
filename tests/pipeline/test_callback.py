"""`[callback]`: what it may say, and what each profile asks of it."""

import pytest

from engine.errors import PlanError
from engine.pipeline.callback import host_and_port, unmet
from engine.pipeline.parse import load_pipeline
from engine.pipeline.spec import CallbackSpec
from engine.settings import Secret


def test_an_empty_table_is_enough(findings, good, tmp_path) -> None:
    """Every option has a default; a pipeline without the table has no callbacks."""
    assert findings(good + "[callback]\n") == []
    assert load_pipeline("p.toml", env={}).callback == CallbackSpec()
    assert findings(good) == []
    assert load_pipeline("p.toml", env={}).callback is None


def test_secrets_are_references_and_an_optional_one_may_be_unset(findings, good) -> None:
    """Two while one replaces the other; the text of neither can be printed."""
    text = (
        good
        + '[callback]\nsecrets = ["${secret:env:NEW}", "${secret:env:OLD?}"]\nfallback = { no_callback_for = "5m" }\n'
    )
    for env, secrets in (({"NEW": "n", "OLD": "o"}, 2), ({"NEW": "n"}, 1)):
        assert findings(text, env=env) == []
        spec = load_pipeline("p.toml", env=env)
        assert spec.callback is not None
        assert len(spec.callback.secrets) == secrets
        assert spec.callback.secrets[0] == Secret("n")
        assert "'n'" not in repr(spec)
        assert spec.callback.fallback.no_callback_for == 300


@pytest.mark.parametrize(
    ("options", "key", "code"),
    [
        ('listen = "8443"', "callback.listen", "config.range"),
        ('listen = "127.0.0.1"', "callback.listen", "config.range"),
        ('listen = "127.0.0.1:99999"', "callback.listen", "config.range"),
        ('listen = "http://127.0.0.1:1"', "callback.listen", "config.range"),
        ('public_url = "http://hooks.example.net/a"', "callback.public_url", "config.unsafe"),
        ('public_url = "https://a:b@hooks.example.net/a"', "callback.public_url", "config.secret"),
        ('public_url = "hooks.example.net/a"', "callback.public_url", "config.range"),
        ('public_url = "https://hooks.example.net/#a"', "callback.public_url", "config.range"),
        ('secrets = ["plain"]', "callback.secrets.0", "config.secret"),
        ('secrets = ["${secret:env:A}", "${secret:env:A}", "${secret:env:A}"]', "callback.secrets", "config.range"),
        ("fallback = { no_callback_for = 120 }", "callback.fallback.no_callback_for", "config.unit"),
        ('fallback = { no_callback_for = "0s" }', "callback.fallback.no_callback_for", "config.range"),
        ('secret = "x"', "callback.secret", "config.unknown_key"),
    ],
)
def test_what_cannot_work_is_found(findings, good, options, key, code) -> None:
    """Each fault is one finding, at the option that has to change."""
    found = findings(f"{good}[callback]\n{options}\n", env={"A": "a"})
    assert [(one.facts["key"], one.finding_code) for one in found] == [(key, code)]


@pytest.mark.parametrize(
    ("listen", "halves"),
    [("127.0.0.1:8443", ("127.0.0.1", 8443)), ("localhost:0", ("localhost", 0)), ("[::1]:80", ("::1", 80))],
)
def test_an_address_has_two_halves(listen, halves) -> None:
    """Host and port, also of IPv6."""
    assert host_and_port(listen) == halves


def test_only_the_emulator_needs_nothing() -> None:
    """A real platform needs an https URL that leads to us, and a secret that proves it was the one who called."""
    url = "https://hooks.example.net/argus"
    cases = {
        CallbackSpec(): True,
        CallbackSpec(public_url=url): True,
        CallbackSpec(public_url="http://127.0.0.1:1/a", secrets=(Secret("s"),)): True,
        CallbackSpec(public_url=url, secrets=(Secret("s"),)): False,
    }
    for callback, lacks in cases.items():
        assert unmet(callback, profile="emulator", path="p.toml") is None
        finding = unmet(callback, profile="live", path="p.toml")
        assert (finding is not None) == lacks
        assert finding is None or "p.toml" in str(PlanError([finding]))
