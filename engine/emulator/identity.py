"""Identity: the apps of each tenant, the scopes they may have, and who governs them (contract 3, routes 1-5).

Knows what an app is approved for and whether a secret is its own. What tokens it then gets is decided in `oauth`.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

import msgspec
from msgspec import UNSET

from engine.codec.payload import decode, encode, loads
from engine.contract import identity as contract
from engine.contract.identity import App, AppList, CreateApp, GovernApp, Scope, ScopeList
from engine.contract.paging import Cursor, write_cursor
from engine.contract.problem import FieldFault
from engine.contract.profile import PROFILE
from engine.emulator.call import Call, Caller, Handler, Reply
from engine.emulator.paging import limit_of, place_of
from engine.emulator.refusal import Refusal, invalid, unfit
from engine.emulator.state import State
from engine.trust.minting import is_secret, seal_secret

SCHEMA = """
CREATE TABLE IF NOT EXISTS apps (
  client_id TEXT PRIMARY KEY, tenant_id TEXT NOT NULL, created_at TEXT NOT NULL, app BLOB NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS apps_by_tenant ON apps (tenant_id, created_at DESC, client_id DESC);
CREATE TABLE IF NOT EXISTS app_secrets (client_id TEXT NOT NULL, sealed BLOB NOT NULL, expires_ns INTEGER);
CREATE INDEX IF NOT EXISTS app_secrets_by_app ON app_secrets (client_id);
"""
ACTIVE, SUSPENDED, REVOKED = "active", "suspended", "revoked"
CLIENT_CREDENTIALS, AUTHORIZATION_CODE, REFRESH_TOKEN = "client_credentials", "authorization_code", "refresh_token"
GRANT_TYPES = PROFILE.grant_types
CONFIDENTIAL, PUBLIC = "confidential", "public"
_NAMES, _SETTINGS = PROFILE.app_names, PROFILE.governance_names
# What governs, by its name on the wire (Q22).
_GOVERNED = {field.encode_name: field.name for field in msgspec.structs.fields(GovernApp) if field.name != "client_id"}

# Every scope the contract names (1.4), and our defaults for those it leaves open (Q11).
_NAMED: tuple[Scope, ...] = (
    *(Scope(name, "Read webhook subscriptions and their deliveries") for name in PROFILE.webhooks_read_scopes),
    *(Scope(name, "Create and update outbound webhook subscriptions") for name in PROFILE.webhooks_write_scopes),
    *(Scope(name, "Read asynchronous jobs and their results") for name in PROFILE.jobs_read_scopes),
    *(Scope(name, "Enqueue and cancel asynchronous jobs") for name in PROFILE.jobs_write_scopes),
    Scope("argus:profiles:read", "Read profiles"),
    Scope("argus:profiles:write", "Create and update profiles"),
    *(Scope(name, "Look up traces") for name in PROFILE.traces_read_scopes),
    *(Scope(name, "Read and verify provenance transcripts") for name in PROFILE.provenance_read_scopes),
    *(Scope(name, "Read data schemas") for name in PROFILE.discovery_scopes),
    *(Scope(name, "Run approved GraphQL operations") for name in PROFILE.graphql_scopes),
    *(Scope(name, "Read patient care encounters") for name in PROFILE.epcr_read_scopes),
    *(Scope(name, "Create patient care encounters") for name in PROFILE.epcr_write_scopes),
    *(Scope(name, "List medical devices") for name in PROFILE.devices_read_scopes),
    *(Scope(name, "Enrol medical devices and submit observations") for name in PROFILE.devices_write_scopes),
    *(Scope(name, "Administer apps and mint tokens for them") for name in PROFILE.admin_scopes),
    Scope("openid", "Sign in with Argus"),
    Scope("profile", "Read the signed-in user's name"),
    Scope("email", "Read the signed-in user's e-mail address"),
)
# One name may open several doors; it is listed once, with the last thing it is good for: writing after reading.
SCOPES: tuple[Scope, ...] = tuple({scope.name: scope for scope in _NAMED}.values())
SCOPE_NAMES = tuple(scope.name for scope in SCOPES)

# What is there from the start. The emulator is for one machine, so its first secret is no secret; the second
# tenant is there to see that tenants do not see each other.
FIRST_SECRET = "emulator-secret"
FIRST_APPS = (
    ("app_local", "tnt_local", "org_local", "Local app"),
    ("app_other", "tnt_other", "org_other", "App of another tenant"),
)


class Apps:
    """The registered apps, kept with the state. `ceilings` are the requests a minute of those governed so."""

    def __init__(self, state: State) -> None:
        self._state = state
        self.ceilings: dict[str, int] = {}
        state.apply_schema(SCHEMA)
        for row in state.db.execute("SELECT app FROM apps").fetchall():
            self._keep_ceiling(decode(row[0], App))
        for client_id, tenant_id, organization_id, name in FIRST_APPS:
            if self.find(client_id) is None:
                app = App(
                    client_id=client_id,
                    name=name,
                    grant_types=[name for name in (CLIENT_CREDENTIALS, AUTHORIZATION_CODE) if name in GRANT_TYPES],
                    scopes=list(SCOPE_NAMES),
                    redirect_uris=["http://127.0.0.1/callback"],
                    client_type=CONFIDENTIAL,
                    tenant_id=tenant_id,
                    organization_id=organization_id,
                    created_at=state.now_text(),
                    updated_at=state.now_text(),
                )
                self.add(app, FIRST_SECRET)

    def add(self, app: App, secret: str | None) -> None:
        """Register an app, with a secret unless it is public."""
        with self._state.transaction() as db:
            db.execute(
                "INSERT INTO apps VALUES (?, ?, ?, ?)", (app.client_id, app.tenant_id, app.created_at, encode(app))
            )
            if secret is not None:
                db.execute("INSERT INTO app_secrets VALUES (?, ?, NULL)", (app.client_id, seal_secret(secret)))

    def find(self, client_id: str) -> App | None:
        """An app of any tenant."""
        row = self._state.db.execute("SELECT app FROM apps WHERE client_id = ?", (client_id,)).fetchone()
        return decode(row[0], App) if row else None

    def of(self, caller: Caller | None, client_id: str) -> App:
        """An app of the caller's tenant.

        Raises:
            Refusal: 404, also for one of another tenant (contract 1.5).
        """
        app = self.find(client_id)
        if app is None or caller is None or app.tenant_id != caller.tenant_id:
            raise Refusal(404, "not_found", "No app of this id.")
        return app

    def put(self, app: App) -> None:
        """Keep a changed app."""
        self._state.db.execute("UPDATE apps SET app = ? WHERE client_id = ?", (encode(app), app.client_id))
        self._keep_ceiling(app)

    def _keep_ceiling(self, app: App) -> None:
        ceiling = (app.governance or {}).get("rate_limit_per_minute")
        if ceiling is None:
            self.ceilings.pop(app.client_id, None)
        else:
            self.ceilings[app.client_id] = ceiling

    def page(self, tenant_id: str, cursor: Cursor | None, limit: int) -> AppList:
        """A page of a tenant's apps, newest first."""
        db = self._state.db
        after = (cursor.created_at, cursor.id) if cursor else ("~", "~")
        rows = db.execute(
            "SELECT app FROM apps WHERE tenant_id = ? AND (created_at, client_id) < (?, ?)"
            " ORDER BY created_at DESC, client_id DESC LIMIT ?",
            (tenant_id, *after, limit + 1),
        ).fetchall()
        apps = [decode(row[0], App) for row in rows]
        total = db.execute("SELECT count(*) FROM apps WHERE tenant_id = ?", (tenant_id,)).fetchone()[0]
        last = apps[limit - 1] if len(apps) > limit else None
        following = write_cursor(Cursor(last.created_at or "", last.client_id)) if last else None
        return AppList(apps[:limit], following, total)

    def has_secret(self, client_id: str, secret: str) -> bool:
        """Whether this is the app's secret, or an older one still in its days of grace."""
        rows = self._state.db.execute(
            "SELECT sealed FROM app_secrets WHERE client_id = ? AND (expires_ns IS NULL OR expires_ns > ?)",
            (client_id, self._state.clock.now_ns()),
        ).fetchall()
        # The list first: every secret is compared, so the time does not tell which one matched.
        return any([is_secret(secret, bytes(row[0])) for row in rows])  # noqa: C419

    def rotate_secret(self, client_id: str, grace_s: int) -> tuple[str, int]:
        """Replace the secret: the new one, and when the old one ends (nanoseconds since 1970 UTC)."""
        secret = new_secret()
        ends_ns = self._state.clock.now_ns() + grace_s * 1_000_000_000
        with self._state.transaction() as db:
            # Only the newest of the old secrets gets the grace; one that was ending already ends now.
            db.execute("DELETE FROM app_secrets WHERE client_id = ? AND expires_ns IS NOT NULL", (client_id,))
            db.execute("UPDATE app_secrets SET expires_ns = ? WHERE client_id = ?", (ends_ns, client_id))
            db.execute("INSERT INTO app_secrets VALUES (?, ?, NULL)", (client_id, seal_secret(secret)))
        return secret, ends_ns


def new_secret() -> str:
    """256 random bits as text."""
    return secrets.token_urlsafe(32)


def approved_scopes(app: App) -> tuple[str, ...]:
    """What the app may ask for: its own scopes, less what its governance takes away."""
    allowed = (app.governance or {}).get("allowed_scopes")
    return tuple(scope for scope in app.scopes if allowed is None or scope in allowed)


def approved_grants(app: App) -> tuple[str, ...]:
    """The grants the app may use, less what its governance takes away."""
    allowed = (app.governance or {}).get("allowed_grant_types")
    return tuple(grant for grant in app.grant_types if allowed is None or grant in allowed)


def approved_redirects(app: App) -> list[str]:
    """Where the app's users may be sent back to."""
    governed = (app.governance or {}).get("redirect_uris")
    return app.redirect_uris if governed is None else list(governed)


def handlers(state: State, apps: Apps) -> dict[str, Handler]:
    """Routes 1-5."""

    def scopes(call: Call) -> Reply:
        return Reply(body=ScopeList(list(SCOPES)))

    def create(call: Call) -> Reply:
        ask: CreateApp = call.ask
        caller = call.known
        client_type = CONFIDENTIAL if ask.client_type is UNSET else ask.client_type
        wanted_scopes = [] if ask.scopes is UNSET else list(dict.fromkeys(ask.scopes))
        redirect_uris = [] if ask.redirect_uris is UNSET else ask.redirect_uris
        _check_app(ask, client_type, wanted_scopes, redirect_uris)
        now = state.now_text()
        app = App(
            client_id=state.new_id("app_"),
            name=ask.name,
            grant_types=list(dict.fromkeys(ask.grant_types)),
            scopes=wanted_scopes,
            redirect_uris=redirect_uris,
            client_type=client_type,
            tenant_id=caller.tenant_id,
            organization_id=caller.organization_id,
            created_at=now,
            updated_at=now,
        )
        secret = new_secret() if client_type == CONFIDENTIAL else None
        apps.add(app, secret)
        headers = {"Location": f"/v1/platform/apps/{app.client_id}", "Cache-Control": "no-store"}
        shown = msgspec.structs.replace(app, client_secret=secret)
        return Reply(status=state.profile.app_created_status, body=_full(shown), headers=headers)

    def page(call: Call) -> Reply:
        limit = limit_of(call.ask.limit, state.profile)
        found = apps.page(call.known.tenant_id, place_of(call.ask.cursor), limit)
        return Reply(body=msgspec.structs.replace(found, apps=[_full(app) for app in found.apps]))

    def get(call: Call) -> Reply:
        return Reply(body=_full(apps.of(call.caller, call.ask.client_id)))

    def govern(call: Call) -> Reply:
        return Reply(body=_full(_govern(state, apps, call)))

    return {
        contract.LIST_SCOPES.name: scopes,
        contract.CREATE_APP.name: create,
        contract.LIST_APPS.name: page,
        contract.GET_APP.name: get,
        contract.GOVERN_APP.name: govern,
    }


def _govern(state: State, apps: Apps, call: Call) -> App:
    """Apply a JSON merge patch (RFC 7396): null takes a setting away, what is absent stays."""
    app = apps.of(call.caller, call.ask.client_id)
    patch = loads(call.body) if call.body else {}
    unknown = sorted(patch.keys() - set(_GOVERNED))
    if unknown:
        faults = [FieldFault(["body", name], "is not a governance setting", "extra_forbidden") for name in unknown]
        raise unfit(f"Unknown settings: {', '.join(unknown)}.", faults)
    patch = {_GOVERNED[name]: value for name, value in patch.items()}
    _check_governance(patch)
    governance = dict(app.governance or {})
    for name, value in patch.items():
        if value is None:
            governance.pop(name, None)
        else:
            governance[name] = value
    status = patch.get("status", app.status)
    governed = msgspec.structs.replace(
        app, status=status, governance={"status": status, **governance}, updated_at=state.now_text()
    )
    apps.put(governed)
    return governed


def _check_governance(patch: dict[str, Any]) -> None:
    """The types are right already; these are the values."""
    if patch.get("status", ACTIVE) not in (ACTIVE, SUSPENDED, REVOKED):
        raise invalid("body", _SETTINGS["status"], f"must be {ACTIVE}, {SUSPENDED} or {REVOKED}")
    _check_known(_SETTINGS["allowed_scopes"], patch.get("allowed_scopes") or (), SCOPE_NAMES)
    _check_known(_SETTINGS["allowed_grant_types"], patch.get("allowed_grant_types") or (), GRANT_TYPES)
    _check_redirects(patch.get("redirect_uris") or (), _SETTINGS["redirect_uris"])
    rate = patch.get("rate_limit_per_minute")
    if rate is not None and rate < 1:
        raise invalid("body", _SETTINGS["rate_limit_per_minute"], "must be 1 or more, or null")


def _check_app(ask: CreateApp, client_type: str, scopes: Sequence[str], redirect_uris: Sequence[str]) -> None:
    if not 1 <= len(ask.name) <= PROFILE.app_name_max:
        raise invalid("body", "name", f"must have 1 to {PROFILE.app_name_max} characters")
    if not ask.grant_types:
        raise invalid("body", "grant_types", "must name at least one grant")
    _check_known("grant_types", ask.grant_types, GRANT_TYPES)
    _check_known(_NAMES["scopes"], scopes, SCOPE_NAMES)
    if client_type not in (CONFIDENTIAL, PUBLIC):
        raise invalid("body", _NAMES["client_type"], f"must be {CONFIDENTIAL} or {PUBLIC}")
    if client_type == PUBLIC and CLIENT_CREDENTIALS in ask.grant_types:
        # RFC 6749 section 4.4: only confidential clients may use it.
        raise invalid("body", "grant_types", "a public client has no credentials to use client_credentials with")
    if AUTHORIZATION_CODE in ask.grant_types and not redirect_uris:
        raise invalid("body", _NAMES["redirect_uris"], "is required with authorization_code", "missing")
    _check_redirects(redirect_uris, _NAMES["redirect_uris"])


def _check_known(name: str, values: Sequence[str], known: Sequence[str]) -> None:
    unknown = [value for value in values if value not in known]
    if unknown:
        raise invalid("body", name, f"{unknown[0]!r} is not one of: {', '.join(known)}")


def _check_redirects(redirect_uris: Sequence[str], member: str) -> None:
    """Absolute, without fragment (RFC 6749 section 3.1.2); https, or http on loopback (RFC 8252 section 7.3)."""
    for uri in redirect_uris:
        try:
            parts = urlsplit(uri)
            is_good = bool(parts.hostname) and not parts.fragment and parts.username is None
            is_safe = parts.scheme == "https" or (parts.scheme == "http" and _is_loopback_literal(parts.hostname))
        except ValueError:
            is_good = is_safe = False
        if not (is_good and is_safe):
            raise invalid("body", member, f"{uri!r} must be https, or http on loopback, without fragment")


def _is_loopback_literal(host: str | None) -> bool:
    """Whether a host of a URL is this machine, by its literal or its usual name."""
    return host in ("127.0.0.1", "::1", "localhost")


def _full(app: App) -> Any:
    """An app as the contract shows it (Q20): with `redirect_uris` and `status` even when they say nothing new."""
    governance = app.governance and {_SETTINGS[name]: value for name, value in app.governance.items()}
    shown: dict[str, Any] = {_NAMES["redirect_uris"]: [], "status": ACTIVE}
    shown.update(loads(encode(msgspec.structs.replace(app, governance=governance))))
    return shown
