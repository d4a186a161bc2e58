"""What a pipeline may ask of routes beside jobs: each mistake is one finding, at the option that has to change."""

from __future__ import annotations

import pytest

from engine.contract.catalog import ROUTES
from engine.contract.rows import is_asked_per_row, is_repeatable, is_write, key_member, listing_of

_FILES = 'type = "ndjson"\npaths = ["data/*.ndjson"]'
_JOB = '[job]\nkind = "intelligence.enrich.bulk"\n'
_SINK = '[sink]\ntype = "ndjson"\npath = "out"'
_TO_ROUTE = '[sink]\ntype = "platform"\nroute = "devices.observe"'


@pytest.fixture
def direct(good) -> str:
    """A pipeline without jobs, and without a fault."""
    return good.replace(_JOB, "")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (_FILES, _FILES),
        (_FILES, 'type = "platform"\nroute = "devices.list"'),
        (_FILES, 'type = "platform"\nroute = "devices.list"\nmembers = { status = "online" }'),
        (_FILES, 'type = "platform"\nroute = "webhooks.deliveries"\nmembers = { webhook_id = "wh_1" }'),
        (_SINK, _TO_ROUTE),
        (_SINK, '[request]\nroute = "epcr.bundle"\ninto = "bundle"\n' + _SINK),
        (_SINK, '[request]\nroute = "provenance.get"\nverify = true\n' + _SINK),
    ],
)
def test_pipelines_without_jobs_are_right(findings, direct, old, new) -> None:
    """Rows may pass, come from a listing, be asked for, or go to a route."""
    assert old in direct
    assert findings(direct.replace(old, new)) == []


@pytest.mark.parametrize(
    ("old", "new", "key", "code"),
    [
        (_FILES, 'type = "platform"', "source.route", "config.missing"),
        (_FILES, 'type = "platform"\nroute = "device.list"', "source.route", "config.choice"),
        (_FILES, 'type = "platform"\nroute = "devices.enrol"', "source.route", "config.choice"),
        (_FILES, 'type = "platform"\nroute = "webhooks.deliveries"', "source.members", "config.range"),
        (
            _FILES,
            'type = "platform"\nroute = "devices.list"\nmembers = { colour = "red" }',
            "source.members",
            "config.range",
        ),
        (
            _FILES,
            'type = "platform"\nroute = "devices.list"\nmembers = { cursor = "c" }',
            "source.members.cursor",
            "config.conflict",
        ),
        (
            _FILES,
            'type = "platform"\nroute = "devices.list"\npaths = ["a"]',
            "source.paths",
            "config.conflict",
        ),
        (_FILES, _FILES + '\nroute = "devices.list"', "source.route", "config.conflict"),
        (_FILES, _FILES + '\nmembers = { status = "online" }', "source.members", "config.conflict"),
        (_FILES, 'type = "ndjson"', "source.paths", "config.missing"),
        (_SINK, '[sink]\ntype = "ndjson"', "sink.path", "config.missing"),
        (_SINK, '[sink]\ntype = "platform"', "sink.route", "config.missing"),
        (_SINK, _TO_ROUTE + '\npath = "out"', "sink.path", "config.conflict"),
        (_SINK, _SINK + '\nroute = "devices.observe"', "sink.route", "config.conflict"),
        (_SINK, '[sink]\ntype = "platform"\nroute = "devices.list"', "sink.route", "config.choice"),
        (_SINK, '[sink]\ntype = "platform"\nroute = "oauth.rotate_secret"', "sink.route", "config.choice"),
        (_SINK, '[request]\nroute = "identity.create_app"\n' + _SINK, "request.route", "config.choice"),
        (_SINK, '[request]\nroute = "epcr.bundle"\nverify = true\n' + _SINK, "request.verify", "config.conflict"),
        (_SINK, '[request]\nroute = "epcr.bundle"\n' + _TO_ROUTE, "sink.type", "config.conflict"),
        (_SINK, "[callback]\ncanonical = true\n" + _SINK, "callback", "config.conflict"),
        (_SINK, '[results]\nmatch = "id"\n' + _SINK, "results.match", "config.conflict"),
    ],
)
def test_what_cannot_be_asked_so_is_found(findings, direct, old, new, key, code) -> None:
    """A route that is not there, cannot do it, or does not go with the other options."""
    assert old in direct
    found = findings(direct.replace(old, new))
    assert [(one.facts["key"], one.finding_code) for one in found] == [(key, code)]


@pytest.mark.parametrize(("table", "key"), [('[request]\nroute = "epcr.bundle"\n', "request"), ("", "sink.type")])
def test_jobs_and_requests_do_not_mix(findings, good, table, key) -> None:
    """A row travels one way only."""
    changed = good.replace(_SINK, table + _SINK) if table else good.replace(_SINK, _TO_ROUTE)
    assert [one.facts["key"] for one in findings(changed)] == [key]


def test_a_mistyped_route_gets_the_right_suggestion(findings, direct) -> None:
    """The nearest route that can do it."""
    [found] = findings(direct.replace(_SINK, '[sink]\ntype = "platform"\nroute = "devices.observ"'))
    assert "devices.observe" in found.hint


def test_every_paged_route_can_be_a_source() -> None:
    """Whatever has a cursor lists things, and is known to do so by pages."""
    paged = {name for name, route in ROUTES.items() if "cursor" in route.ask.__struct_fields__}
    found = {name: listing_of(route) for name, route in ROUTES.items()}
    assert paged == {name for name, listing in found.items() if listing is not None and listing.is_paged}
    assert paged == {"identity.list_apps", "webhooks.list", "webhooks.deliveries", "devices.list", "jobs.list"}


def test_no_route_that_tells_a_credential_writes_files() -> None:
    """Tokens, secrets and signed URLs never become rows."""
    asked = {name for name, route in ROUTES.items() if is_asked_per_row(route)}
    assert not {name for name in asked if name.startswith(("oauth.", "jobs.", "keys.")) or name == "sandbox.token"}
    assert {"identity.get_app", "identity.create_app", "webhooks.create", "webhooks.update"}.isdisjoint(asked)


def test_writes_are_known_by_whether_they_may_be_repeated() -> None:
    """A key makes it so, or the method does."""
    writes = {name: is_repeatable(route) for name, route in ROUTES.items() if is_write(route)}
    assert writes["devices.observe"]
    assert writes["webhooks.update"]
    assert not writes["devices.enrol"]
    assert not writes["epcr.create"]
    assert key_member(ROUTES["devices.observe"]) == "idempotency_key"
