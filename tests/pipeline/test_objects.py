"""What a pipeline and config.toml may say of object stores."""

from __future__ import annotations

import pytest

from engine.errors import PlanError


@pytest.mark.parametrize(
    ("old", "new", "code"),
    [
        ("data/*.ndjson", "s3://bucket/in/*.ndjson", ""),
        ('path = "out"', 'path = "s3://bucket/out/x"', ""),
        ("data/*.ndjson", "gs://bucket/in", "config.choice"),
        ("data/*.ndjson", "s3:///in", "config.range"),
        ('path = "out"', 'path = "s3://B/out"', "config.range"),
        ('path = "out"', 'path = "http://bucket/out"', "config.choice"),
    ],
)
def test_paths_may_lead_to_a_bucket(findings, good, old, new, code) -> None:
    """`s3://BUCKET/KEY` is right for inputs and outputs; another scheme, or no bucket, is one finding."""
    assert old in good
    assert [one.finding_code for one in findings(good.replace(old, new))] == ([code] if code else [])


def test_a_run_does_not_read_what_it_wrote_into_a_bucket(findings, good) -> None:
    """An input under the sink's prefix is refused, as it is for directories."""
    text = good.replace("data/*.ndjson", "s3://bucket/out/*.ndjson").replace(
        'path = "out"', 'path = "s3://bucket/out/"'
    )

    assert [one.finding_code for one in findings(text)] == ["config.unsafe"]


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ('endpoint = "http://127.0.0.1:9000"', ""),
        ('endpoint = "https://store.example"\naccess_key_id = "${env:A}"\nsecret_access_key = "${env:A}"', ""),
        ('endpoint = "http://store.example"', "config.unsafe"),
        ('endpoint = "store.example"', "config.range"),
        ('endpoint = "https://me:pw@store.example"', "config.secret"),
        ('access_key_id = "${env:A}"', "config.conflict"),
        ('secret_access_key = "inline"', "config.secret"),
    ],
)
def test_a_store_is_described_in_config_toml(settings_of, text, code) -> None:
    """Keys are references and come in pairs; nothing travels unencrypted but on loopback."""
    env = {"A": "a"}
    if not code:
        assert settings_of(f"[objects]\n{text}", env=env).objects.endpoint
        return
    with pytest.raises(PlanError) as caught:
        settings_of(f"[objects]\n{text}", env=env)
    assert code in [one.finding_code for one in caught.value.findings]
