"""GraphQL by the client: errors are errors, partial data too unless it is allowed (contract 7.1, 7.8)."""

import pytest

from engine.contract.graphql import HEALTH_CHECK
from engine.errors import BrokenAnswer, Rejected
from engine.transport.incoming import Outgoing

pytestmark = pytest.mark.anyio


async def test_approved_operations_are_typed(emulator, client_of) -> None:
    """The probe and the indicators of route 26, over real connections."""
    graphql = client_of(emulator).graphql

    probe = await graphql.execute(HEALTH_CHECK)
    metrics = await graphql.acqi_metrics("2026-05-01", "2026-05-31")

    assert probe.answer.data == {"viewer": {"id": emulator.client_id}}
    assert [metric.code for metric in metrics.answer] == ["ACQI-1", "ACQI-2", "ACQI-3", "ACQI-4"]
    assert metrics.answer[0].period_end == "2026-05-31"


async def test_errors_are_raised_with_their_code(emulator, client_of) -> None:
    """What is not approved, dates in the wrong order, and another tenant are Rejected, each with its code."""
    graphql = client_of(emulator).graphql

    for asked, code in (
        (graphql.execute("query Other { viewer { id } }"), "OPERATION_NOT_ALLOWED"),
        (graphql.acqi_metrics("2026-06-01", "2026-05-01"), "BAD_USER_INPUT"),
        (graphql.execute(HEALTH_CHECK, tenant_id="ten_else"), "TENANT_NOT_FOUND"),
    ):
        with pytest.raises(Rejected) as caught:
            await asked
        assert caught.value.facts["code"] == code


@pytest.mark.parametrize(
    ("body", "allowed", "kind"),
    [
        ({"data": {"a": 1}, "errors": [{"message": "half"}]}, False, Rejected),
        ({"data": {"a": 1}, "errors": [{"message": "half"}]}, True, None),
        ({"data": None, "errors": [{"message": "none"}]}, True, Rejected),
        ({"errors": [{"message": "none"}]}, True, Rejected),
        ({"errors": []}, True, Rejected),
        ({}, True, BrokenAnswer),
        ({"data": None}, False, None),
        ({"errors": "all"}, False, BrokenAnswer),
    ],
)  # fmt: skip
async def test_f44_both_members_are_read(platform, scripted, answer_json, body, allowed, kind) -> None:
    """A 200 is no success by itself (T21)."""
    platform.script["POST /graphql"] = answer_json(body)

    if kind is None:
        assert (await scripted.graphql.execute("{ a }", allow_partial=allowed)).answer.data == body["data"]
    else:
        with pytest.raises(kind):
            await scripted.graphql.execute("{ a }", allow_partial=allowed)


@pytest.mark.parametrize(
    "answer",
    [
        Outgoing(headers={"Content-Type": "text/html"}, body=b"<html>"),
        Outgoing(headers={"Content-Type": "application/json"}, body=b'{"data":{"a":[{"id":1},{"id'),
        Outgoing(headers={"Content-Type": "application/json"}, body=b'[{"data":{"a":1}}'),
    ],
    ids=["html", "cut", "cut batch"],
)
async def test_f44_what_is_no_whole_answer_is_broken(platform, scripted, answer) -> None:
    """A proxy's page with 200, and JSON that ends too early, are never taken for data."""
    platform.script["POST /graphql"] = answer

    with pytest.raises(BrokenAnswer):
        await scripted.graphql.execute("{ a }", allow_partial=True)
