"""The key set and its rotation (contract 5)."""

import pytest
from joserfc import jwt
from joserfc.jwk import KeySet

from engine.emulator.faults import Faults

pytestmark = pytest.mark.anyio

PATHS = ("/.well-known/jwks.json", "/v1/auth/jwks.json")


async def _kids(api):
    return [key["kid"] for key in (await api.send("GET", PATHS[0])).json["keys"]]


async def test_both_paths_serve_one_set(api):
    """The two paths give the same keys, cacheable, and no private number."""
    first, second = [await api.send("GET", path) for path in PATHS]

    assert first.body == second.body
    assert first.headers["Cache-Control"] == "public, max-age=300"
    for key in first.json["keys"]:
        assert key.keys() == {"kty", "kid", "use", "alg", "n", "e"}
        assert (key["kty"], key["use"], key["alg"]) == ("RSA", "sig", "RS256")


async def test_another_library_verifies_our_tokens(api):
    """A token checks out with an independent JOSE implementation and the published set."""
    keys = KeySet.import_key_set((await api.send("GET", PATHS[0])).json)

    token = jwt.decode(await api.token(), keys, algorithms=["RS256"])

    assert token.header["typ"] == "at+jwt"
    assert token.claims["client_id"] == "app_local"


@pytest.mark.parametrize("form", ["{}", "W/{}", '"other", {}', "*"])
async def test_an_unchanged_set_is_not_sent_again(api, form):
    """If-None-Match with the current tag answers 304 without a body."""
    etag = (await api.send("GET", PATHS[0])).headers["ETag"]

    answer = await api.send("GET", PATHS[0], headers={"If-None-Match": form.format(etag)})

    assert (answer.status, answer.body) == (304, b"")
    assert answer.headers["ETag"] == etag


async def test_a_rotation_is_announced_and_breaks_nothing(emulator, api):
    """The next key was published before it signs, and tokens of the old key stay good (F14)."""
    token, published = await api.token(), await _kids(api)

    rotated = await api.send("POST", "/__emulator/rotate-keys")

    assert rotated.json["kid"] in published
    assert rotated.json["kid"] != published[0]
    assert (await api.send("GET", "/v1/platform/scopes", token=token)).status == 200
    assert (await api.send("GET", "/v1/platform/scopes", token=await api.token())).status == 200
    assert set(await _kids(api)) > set(published)


async def test_a_rotation_without_overlap_refuses_what_was_signed_before(api):
    """When a key is thrown away its tokens end with it, the remembered ones too (F14)."""
    token = await api.token()
    before = await api.send("GET", "/v1/platform/scopes", token=token)

    await api.send("POST", "/__emulator/rotate-keys", json={"overlap": False})
    after = await api.send("GET", "/v1/platform/scopes", token=token)

    assert (before.status, after.status) == (200, 401)
    assert after.json["reason"] == "trust.unknown_key"
    assert (await api.send("GET", "/v1/platform/scopes", token=await api.token())).status == 200


async def test_the_key_set_can_fail(start):
    """A script makes the key set unavailable, then garbage, then well again (F13)."""
    faults = Faults(
        [{"at": "jwks", "status": 503, "retry_after": 3, "first": 1}, {"at": "jwks", "garbage": True, "first": 1}]
    )
    _, api = await start(faults=faults)

    answers = [await api.send("GET", PATHS[0]) for _ in range(3)]

    assert [answer.status for answer in answers] == [503, 200, 200]
    assert answers[0].headers["Retry-After"] == "3"
    assert answers[1].body.startswith(b"<html>")
    assert answers[2].json["keys"]
