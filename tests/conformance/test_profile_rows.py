"""Every open question of the contract is a row of the profile, and a row that is changed changes both sides.

For real, as in `test_profile`: one copy of the package has other answers in all the rows of the table below, and what
its client does with its emulator (`observing_rows`) is compared with what they do as they are.
"""

import ast
import json
import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from engine.contract.profile import NOT_ROWS, Profile

ROOT = Path(__file__).resolve().parents[2]
PROFILE_PATH = Path("engine") / "contract" / "profile.py"
CONTRACT = ROOT.parent / "shared" / "contract.md"
DEADLINE_S = 60
# The questions of the contract's table B, by their numbers, for wherever the contract itself is not at hand.
QUESTIONS = tuple(
    f"Q{number}"
    for first, last in ((1, 5), (10, 16), (20, 25), (30, 48), (50, 56), (60, 67), (70, 73), (80, 87), (90, 94))
    for number in range(first, last + 1)
)
_OTHER = "msgspec.structs.replace"
# For each row its other answer, as it is written in the profile, and what is then seen (`observing_rows`).
FLIPS: dict[str, tuple[str, dict[str, object]]] = {
    # Q1, Q4
    "problem_type": ('"application/error+json"', {"wire_type": "application/error+json"}),
    "problem_names": (
        'named("detail", "trace_id", "errors", code="reason")',
        {
            "wrong": ["platform.rejected", 412, "invalid_request", ""],
            "wire_wrong": ["detail", "errors", "instance", "reason", "status", "title", "trace_id", "type"],
        },
    ),
    "malformed_status": ("409", {"malformed": ["platform.rejected", 409, "malformed_json", ""]}),
    "invalid_status": ("412", {"wire_odd": 200, "wire_partial": 412}),
    "no_path_status": ("421", {"no_path": ["platform.missing", 421, "not_found", ""]}),
    "no_method_status": ("501", {"no_method": ["platform.rejected", 501, "method_not_allowed", ""]}),
    # Q2
    "token_error": (
        '"bad_token"',
        {
            "wire_token": 'Bearer error="bad_token", error_description="the header is not base64url in its one strict '
            'form (no padding, no spare bits)"'
        },
    ),
    "scope_error": ('"scope_needed"', {"wire_scope": 'Bearer error="scope_needed", needs="argus:jobs:read"'}),
    "challenge_scope": (
        '"needs"',
        {
            "lacking": [
                "platform.refused", 403, "scope_needed",
                "the token lacks the scope argus:jobs:read: grant it to the app, and ask for it in [platform] scopes",
            ]
        },
    ),
    # Q13, Q14, Q15
    "grant_types": (
        '("client_credentials", "authorization_code", "refresh_token", "device_code")',
        {
            "wire_grant": "unauthorized_client",
            "grant": ["platform.rejected", 400, "unauthorized_client", ""],
        },
    ),
    "refresh_ttl_s": ("0", {"renewed": ["platform.rejected", 400, "invalid_grant", ""]}),
    "jwks_type": (
        '"application/jwk-set+json"',
        {"keys_accept": "application/jwk-set+json", "wire_keys_type": "application/jwk-set+json"},
    ),
    "jwks_overlap_s": ("0", {"keys": 3}),
    "oauth_metadata_path": ('"/.well-known/of-oauth"', {"wire_metadata": [421, 200]}),
    # Q20, Q22
    "app_names": (
        'named("redirect_uris", "client_type", "client_secret", scopes="granted")', {"wire_app": ["granted"]}
    ),
    "app_created_status": ("200", {"app_created": 200}),
    "app_name_max": ("20", {"long_name": ["platform.rejected", 412, "invalid_request", ""]}),
    "governance_names": (
        ('named("allowed_scopes", "allowed_grant_types", "redirect_uris", "rate_limit_per_minute", "data_residency",'
        ' status="state", notes="remarks")'),
        {"governed": {"state": "active", "remarks": "reviewed"}},
    ),
    # Q21, Q23, Q24
    "page_names": (
        'named("limit", "total_count", cursor="after", next_cursor="next")',
        {"page_asked": ["after="], "wire_page": ["next"]},
    ),
    "service_token_names": (
        'named("scopes", "expires_at", "expires_in", "audience", token="jwt", ttl_seconds="life")',
        {"wire_service_token": ["jwt", "life"]},
    ),
    "rotation_names": (
        'named("rotated_at", "previous_secret_expires_at", grace_seconds="grace")', {"wire_rotated": ["grace"]}
    ),
    # 6.1, 6.3, Q33, Q36
    "webhook_names": ('named("status", "updated_at", created_at="made_at")', {"wire_webhook": ["made_at"]}),
    "webhook_created_status": ("200", {"webhook_statuses": [200, 201, 200]}),
    "webhook_deleted_status": ("200", {"webhook_statuses": [200, 201, 200]}),
    "test_status": ("201", {"webhook_statuses": [200, 201, 200]}),
    "callback_gone_status": ("404", {"deaf": "disabled"}),
    # Q30, Q31, Q32, Q34, Q35
    "webhook_secret_required": (
        "True",
        {
            "wire_secretless": 412,
            "secretless": ["record.invalid", None, None, "give one of 32 random characters, and keep it"],
        },
    ),
    "webhook_put_is_partial": ("False", {"wire_partial": 412}),
    "delivery_names": (
        'named("status", "response_status", "duration_ms", "error", "attempted_at", attempt="try")',
        {"wire_attempt": ["try"]},
    ),
    "webhook_families": ('("svix", "webhook")', {"wire_family": ["svix"]}),
    "event_names": (
        'named("id", "type", "data", timestamp="at")', {"wire_event": ["at", "data", "id", "type"]}
    ),
    # Q38, Q39, Q42
    "callback_secret_of": ('"tenant"', {"signed_by": ["tenant"]}),
    "callback_key": ('"standard"', {"wire_key": [False, True]}),
    "callback_signs": ('"canonical"', {"wire_canonical": False}),
    "job_error_names": (
        'named("message", "retryable", code="reason")', {"wire_error": ["message", "reason", "retryable"]}
    ),
    "callback_statuses": ('("succeeded",)', {"told_of_failure": 0}),
    # Q41
    "result_not_ready_status": ("425", {"not_ready": ["platform.conflict", 425, "too_early", ""]}),
    "result_not_ready_code": ('"too_early"', {"not_ready": ["platform.conflict", 425, "too_early", ""]}),
    "result_retry_after_s": ("7", {"wire_not_ready": "7"}),
    "result_failed_status": ("424", {"failed": ["platform.conflict", 424, "job_failed", ""]}),
    "result_expired_status": ("409", {"expired": ["platform.missing", 409, "result_expired", ""]}),
    # Q46
    "cancel_queued_status": ("204", {"wire_cancelled": [204, 202, 424, 200]}),
    "cancel_again_status": ("202", {"wire_cancelled": [204, 202, 424, 200]}),
    "cancel_ended_status": ("424", {"wire_cancelled": [204, 202, 424, 200]}),
    "cancel_running_status": ("200", {"wire_cancelled": [204, 202, 424, 200]}),
    # Q48
    "status_separator": ('","', {"both_statuses": "ok"}),
    "refuses_unknown_status": (
        "False",
        {
            "odd_status": [
                "record.invalid", None, None, "use one of queued, running, succeeded, failed, cancelled"
            ],
            "wire_odd": 200,
        },
    ),
    # Q51, Q54, Q56
    "refuses_unknown_scenario": (
        "False",
        {"unknown_scenario": ["record.invalid", None, None, "ask sandbox.scenarios"], "wire_scenarios": []},
    ),
    "canned_entities": ("3", {"canned_rows": 3}),
    "canned_unknown": ('"absent"', {"canned": [True, False]}),
    "sandbox_callbacks": ("False", {"sandbox_callbacks": 0}),
    # Q60, Q61, Q65
    "other_tenant_status": ("409", {"other_tenant": ["platform.rejected", 409, "NO_TENANT", ""]}),
    "other_tenant_code": ('"NO_TENANT"', {"other_tenant": ["platform.rejected", 409, "NO_TENANT", ""]}),
    "graphql_type": (
        '"application/graphql+json"',
        {
            "graphql_accept": "application/graphql+json, application/json",
            "wire_graphql": [403, "application/graphql+json"],
        },
    ),
    "graphql_unfit_status": ("403", {"wire_graphql": [403, "application/graphql+json"]}),
    "introspection_code": ('"NO_LOOKING"', {"introspection": ["platform.rejected", 403, "NO_LOOKING", ""]}),
    "not_approved_code": ('"NOT_LISTED"', {"not_approved": ["platform.rejected", 403, "NOT_LISTED", ""]}),
    "acqi_names": (
        ('named("indicator", "code", "numerator", "denominator", "value", "unit", period_start="begins",'
        ' period_end="ends")'),
        {"wire_acqi": ["begins"], "acqi_asked": ["begins"]},
    ),
    # Q62, Q63, Q66, Q80
    "encounter_names": (
        ('named("incident_id", "status", "started_at", "ended_at", "triage", "patient", "vitals", "interventions",'
        ' "medications", "disposition", chief_complaint="complaint")'),
        {"wire_complaint": ["complaint", "complaint"]},
    ),
    "bundle_type": ('"document"', {"bundle": "document"}),
    "ingestion_pending": ('"in_flight"', {"wire_ingestion": ["in_flight", "complete"]}),
    "ingestion_stored": ('"complete"', {"wire_ingestion": ["in_flight", "complete"]}),
    "verdict_names": (
        'named("failures", "root_signature_valid", "record_count", "verified_at", valid="holds")',
        {"wire_verdict": ["holds"]},
    ),
    # Q64
    "device_names": (
        (
            'named("manufacturer", "model", "type_code", "status", "enrolled_at", "last_seen_at", "udi",'
            ' "encounter_id", serial_number="serial")'
        ),
        {"wire_device": ["serial"]},
    ),
    "observation_names": (
        'named("code", "code_system", "value", "effective_at", "encounter_id", unit="ucum")',
        {"wire_observed": ["ucum"]},
    ),
    # Q82, Q84, Q85
    "provenance_key_type": ('"ML-DSA"', {"key_type": "ML-DSA"}),
    "deed_names": (
        'named(create="evidence.made", update="evidence.changed", view="evidence.seen", export="evidence.sent")',
        {"deed": "evidence.made"},
    ),
    "too_secret_status": (
        "403",
        {"too_secret": ["platform.refused", 403, "not_found", "check client id, secret and scopes in config.toml"]},
    ),
    # Q91, Q93
    "schema_names": (
        'named("id", "version", "title", "required_scopes", "schema", kind="sort")', {"wire_schema": ["sort"]}
    ),
    "catalog_hosts": ('("api",)', {"anchors": 1}),
    # Q70, Q71, Q72, Q73
    "import_bulk": (
        (f'{_OTHER}(kinds.IMPORT_BULK, path=("from", "rows"), results="made", match="ref", status="end", total="got",'
        ' accepted=("new", "changed", "joined"), rejected=("passed", "broken"))'),
        {"import.bulk": [4, 0, 0, 0, ["end", "errors", "id", "index", "ref"]]},
    ),
    "enrich_bulk": (
        (f'{_OTHER}(kinds.ENRICH_BULK, path=("ids",), results="profiles", match="ref", status="end", total="asked",'
        ' accepted=("ok",), rejected=("bad",))'),
        {
            "wire_total": ["asked"],
            "intelligence.enrich.bulk": [4, 1, 0, 0, ["attributes", "end", "enrichment_score", "error", "ref"]],
        },
    ),
    "result_summary": ('"books"', {"wire_summary": ["books"]}),
    "export_file_names": ('named("name", "format", "rows", "bytes", "sha256", url="link")', {"wire_file": ["link"]}),
    "export_bulk": (
        f'{_OTHER}(kinds.EXPORT_BULK, path=("where", "names"), results="parts", match="ref", total="in_all")',
        {
            "export.bulk": [
                4, 0, 0, 0, ["enrichment", "entity_type", "external_id", "label", "properties", "ref", "updated_at"]
            ]
        },
    ),
    "graph_compute": (
        f'{_OTHER}(kinds.GRAPH_COMPUTE, path=("within", "members"), results="points", match="ref", total="asked")',
        {"graph.compute": [4, 0, 0, 0, ["community", "ref", "role", "score", "x", "y"]]},
    ),
}  # fmt: skip
# What has to stay as it is whatever the words are: that both sides still understand each other.
LASTING = {
    "app_scopes": ["openid"], "changed": [["c.d"], True], "event": ["webhook.test", True], "attempt": 1,
    "acqi": "2026-01-01", "complaint": "pain", "ingestion": [False, True], "verdict": True, "error": "no_memory",
    "schema_kinds": ["entity", "event", "job_payload", "resource"], "received": "succeeded",
    "service_token": [True, 600], "rotated": True, "webhook": ["active", True], "serials": ["S-1", "S-2"],
    "observed": "ok", "proven": True, "cancelled": ["cancelled", "cancelled", "succeeded", "running"],
}  # fmt: skip

# Rows that one side alone goes by, and why the other one need not.
ONE_SIDED = {
    "the client is told in every answer": {
        "token_ttl_s", "token_ttl_min_s", "code_ttl_s", "refresh_ttl_s", "jwks_max_age_s", "jwks_overlap_s",
        "page_limit", "secret_grace_s", "secret_grace_max_s", "result_retry_after_s", "signed_url_ttl_s",
        "documents_max_age_s", "provenance_keys_max_age_s", "live_on_sandbox", "sandbox_on_live", "sandbox_scopes",
        "rate_limit_per_minute", "ingestion_pending", "catalog_hosts", "bundle_type", "app_name_max",
        "too_secret_status",
    },
    "the client takes any": {
        "idempotency_key_max", "test_event", "job_event_prefix", "incident_event", "incident_type", "job_actor_kind",
        "device_code_system", "device_offline_after_s", "sandbox_header_on_live", "sandbox_events",
        "oauth_metadata_path",
    },
    "how the platform works inside": {
        "reaper_attempts", "heartbeat_s", "heartbeat_lost_s", "callback_delays_s", "callback_timeout_s",
        "webhook_circuit_failures", "webhook_circuit_s", "delivery_retention_s", "deliveries_max", "job_retention_s",
        "result_retention_s", "canned_entities", "canned_unknown", "sandbox_now", "cors_origin", "evidence_types",
        "clearance", "callback_secret_of", "callback_gone_status",
    },
    "the emulator is an issuer of its own": {"issuer"},
}  # fmt: skip


def observed(folder: Path, flips: dict[str, str]) -> dict[str, object]:
    """Run a copy of the engine in which these rows have other values, given as source; what it did."""
    shutil.copytree(ROOT / "engine", folder / "engine", ignore=shutil.ignore_patterns("__pycache__"))
    path = folder / PROFILE_PATH
    lines = path.read_text(encoding="utf-8").splitlines()
    for name, node in reversed(_rows("\n".join(lines)).items()):
        if name in flips:
            assert node.value is not None
            head = f"    {name}: {ast.unparse(node.annotation)} = {flips[name]}"
            lines[node.lineno - 1 : node.end_lineno] = [head]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    done = subprocess.run(
        [sys.executable, Path(__file__).with_name("observing_rows.py"), str(port), str(folder)],
        capture_output=True, text=True, timeout=DEADLINE_S, check=False, cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    seen: dict[str, object] = json.loads(done.stdout)
    assert Path(str(seen.pop("where"))).is_relative_to(folder)
    return seen


@pytest.fixture(scope="module")
def as_it_is(tmp_path_factory):
    """What is seen with the profile of today."""
    return observed(tmp_path_factory.mktemp("today"), {})


@pytest.fixture(scope="module")
def otherwise(tmp_path_factory):
    """What is seen with every row of the table changed."""
    return observed(tmp_path_factory.mktemp("other"), {name: source for name, (source, _) in FLIPS.items()})


@pytest.mark.parametrize("row", FLIPS)
def test_a_row_changes_both_sides(row, as_it_is, otherwise) -> None:
    """With another answer in this row, client and emulator do something else, and the same thing."""
    for name, expected in FLIPS[row][1].items():
        assert otherwise[name] == expected
        assert as_it_is[name] != expected


def test_both_sides_go_on_understanding_each_other(as_it_is, otherwise) -> None:
    """Whatever things are called and whichever statuses they have, what is meant arrives."""
    assert {name: as_it_is[name] for name in LASTING} == LASTING
    assert {name: otherwise[name] for name in LASTING} == LASTING


def test_the_questions_are_those_of_the_contract() -> None:
    """The list above is the contract's own, where that is at hand."""
    if not CONTRACT.is_file():
        pytest.skip("contract.md not found")

    assert tuple(re.findall(r"^\| (Q\d+) \|", CONTRACT.read_text(encoding="utf-8"), re.MULTILINE)) == QUESTIONS


def test_every_question_is_a_row_or_has_a_reason() -> None:
    """Each question stands above a row of the profile, or among those that no value decides, never in both places."""
    questions = _questions((ROOT / PROFILE_PATH).read_text(encoding="utf-8"))

    assert set(QUESTIONS) == {*questions, *(name for name in NOT_ROWS if name.startswith("Q"))}
    assert not questions.keys() & NOT_ROWS.keys()
    assert all(rows for rows in questions.values())
    assert all(len(reason) > 20 for reason in NOT_ROWS.values())


def test_no_row_is_unread() -> None:
    """Whatever a row says, some file of the engine asks for it by name."""
    readers = _readers()

    assert [row for row in Profile.__struct_fields__ if not readers[row]] == []


def test_rows_are_read_on_both_sides() -> None:
    """By the emulator and by what speaks to it, or by what both of them speak, but for rows with a reason."""
    shared, one_sided = {"contract", "trust"}, set()
    for row, rooms in _readers().items():
        is_both = bool(rooms & shared) or ("emulator" in rooms and len(rooms) > 1)
        if not is_both:
            one_sided.add(row)

    assert one_sided == set().union(*ONE_SIDED.values())


def _readers() -> dict[str, set[str]]:
    """The rooms of the engine that ask for each row by name."""
    found: dict[str, set[str]] = {row: set() for row in Profile.__struct_fields__}
    for path in (ROOT / "engine").rglob("*.py"):
        room = path.relative_to(ROOT / "engine").parts[0]
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and node.attr in found:
                asked = ast.unparse(node.value).lower()
                # In its own file, a row is read by what the profile works out of it.
                if asked.endswith("profile") or (asked == "self" and path.name == PROFILE_PATH.name):
                    found[node.attr].add(room)
    return found


def _rows(source: str) -> dict[str, ast.AnnAssign]:
    """The rows of the profile, by name, in their order."""
    [table] = [
        node for node in ast.parse(source).body if isinstance(node, ast.ClassDef) and node.name == Profile.__name__
    ]
    return {
        node.target.id: node
        for node in table.body
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
    }


def _questions(source: str) -> dict[str, list[str]]:
    """The rows that stand below each question, up to the next comment."""
    lines, found = source.splitlines(), {}
    for name, node in _rows(source).items():
        at = node.lineno - 1
        while not lines[at].lstrip().startswith("#") or "fmt:" in lines[at]:
            at -= 1
            assert at > 0, f"{name} is below no comment"
        for question in re.findall(r"\bQ\d+\b", lines[at]):
            found.setdefault(question, []).append(name)
    return found
