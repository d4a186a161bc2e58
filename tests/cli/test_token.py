"""`engine token inspect|verify` and `engine verify token`: what a token says, and whether it is proven."""

import json
from pathlib import Path

import pytest

from engine.codec.payload import decode, encode
from engine.contract.keys import KeySet
from engine.errors import Exit
from engine.trust.minting import SigningKey

ISSUER = "https://auth.example"
KEY, OTHER = SigningKey.generate("key-1"), SigningKey.generate("key-2")
CLAIMS = {
    "iss": ISSUER, "aud": "sandbox", "sub": "app_1", "client_id": "app_1", "tenant_id": "tnt_1",
    "organization_id": "org_1", "scope": "argus:jobs:read", "iat": 1_778_241_600, "exp": 1_778_245_200, "jti": "j1",
}  # fmt: skip
AT = "2026-05-08T12:30:00Z"
PARTIES = ("--issuer", ISSUER, "--audience", "sandbox")


@pytest.fixture(autouse=True)
def files(folder):
    """A key set, and a token of its first key."""
    Path("jwks.json").write_bytes(encode(KeySet([KEY.public_jwk()])))
    save(CLAIMS)


def save(claims, key=KEY):
    """The token that is kept in the file, as people save it: with a line break."""
    token = key.sign(claims, typ="at+jwt")
    Path("token.txt").write_text(token + "\n")
    return token


def test_inspect_shows_what_a_token_says(engine) -> None:
    """Header and claims, times as dates; that nothing is proven, and never the token."""
    token = save({**CLAIMS, "note": "a\x1b[2Jb"})

    answer = engine("token", "inspect", "token.txt")

    assert answer.exit_code == 0
    said = {line.split()[0]: line.split(maxsplit=1)[1] for line in answer.stdout.splitlines()}
    assert (said["kid"], said["tenant_id"]) == ("key-1", "tnt_1")
    assert said["iat"].startswith("2026-05-08T12:00:00Z  ")
    assert "not proven" in answer.stderr
    shown = answer.stdout + answer.stderr
    assert "\x1b" not in shown
    assert token.rpartition(".")[2] not in shown


def test_inspect_gives_a_program_json(engine) -> None:
    """From stdin, with its scheme as in a header; the claims whole and said to be unproven."""
    answer = engine("token", "inspect", "--json", input=f"Bearer {save(CLAIMS)}")

    told = json.loads(answer.stdout)
    assert (told["proven"], told["claims"]) == (False, CLAIMS)
    assert told["header"] == {"alg": "RS256", "typ": "at+jwt", "kid": "key-1"}


@pytest.mark.parametrize("text", ["a.b", "a.b.c.d", "%.%.%", "e30.e30"])
def test_what_is_no_token_is_said_to_be_none(engine, text) -> None:
    """A failure of trust for both verbs that read it, with nothing on stdout and the text not repeated."""
    Path("token.txt").write_text(text)

    for words in (("token", "inspect", "token.txt"), ("verify", "token", "token.txt", "--keys", "jwks.json")):
        answer = engine(*words)
        assert (answer.exit_code, answer.stdout) == (Exit.CREDENTIALS, "")
        assert "error[trust.malformed]" in answer.stderr


@pytest.mark.parametrize("text", ["", "  \n", "Bearer "])
def test_an_empty_file_holds_no_token(engine, text) -> None:
    """That is a matter of usage."""
    Path("token.txt").write_text(text)

    answer = engine("token", "inspect", "token.txt")

    assert answer.exit_code == (Exit.CREDENTIALS if text == "Bearer " else Exit.USAGE)


def test_a_good_token_is_proven_from_files(engine) -> None:
    """Exit 0, who issued it, and its claims."""
    words = ("verify", "token", "token.txt", "--keys", "jwks.json", *PARTIES, "--at", AT)

    plain, for_program = engine(*words), engine(*words, "--json")

    assert plain.exit_code == for_program.exit_code == 0, plain.stderr
    assert f"token.txt: proven, issued by {ISSUER}" in plain.stderr
    assert "exp                2026-05-08T13:00:00Z  in 1800 s" in plain.stdout.splitlines()
    assert json.loads(for_program.stdout) == {"file": "token.txt", "proven": True, "claims": CLAIMS}


@pytest.mark.parametrize(
    ("key", "claims", "more", "code"),
    [
        (KEY, {}, ("--at", "2026-05-08T14:00:00Z"), "trust.expired"),
        (KEY, {}, ("--at", "2026-05-08T11:00:00Z"), "trust.not_yet_valid"),
        (KEY, {}, ("--at", AT, "--audience", "https://api.knogin.com"), "trust.audience"),
        (KEY, {"iss": "https://evil.example"}, ("--at", AT), "trust.issuer"),
        (OTHER, {}, ("--at", AT), "trust.unknown_key"),
        (SigningKey.from_pem("key-1", OTHER.pem()), {}, ("--at", AT), "trust.signature"),
    ],
)
def test_a_bad_token_is_refused_by_name(engine, key, claims, more, code) -> None:
    """Each refusal has its own code and the exit code of trust."""
    save({**CLAIMS, **claims}, key)

    answer = engine("verify", "token", "token.txt", "--keys", "jwks.json", *PARTIES, *more)

    assert (answer.exit_code, answer.stdout) == (Exit.CREDENTIALS, "")
    assert f"error[{code}]" in answer.stderr


def test_what_cannot_be_read_is_a_matter_of_usage(engine) -> None:
    """A missing file, a time that is none."""
    for words in (("none.txt", "--keys", "jwks.json"), ("token.txt", "--keys", "none.json")):
        answer = engine("verify", "token", *words)
        assert answer.exit_code == Exit.USAGE
        assert "cannot read none." in answer.stderr
    answer = engine("verify", "token", "token.txt", "--keys", "jwks.json", "--at", "noon")
    assert (answer.exit_code, "RFC 3339" in answer.stderr) == (Exit.USAGE, True)


@pytest.fixture
def platform(spawn):
    """An emulator as a process, named in config.toml, and a token of it in the file."""
    serving = spawn("emulator")
    ready = decode(serving.stdout.readline().encode(), dict)
    Path("config.toml").write_text(f'[platform.emulator]\nurl = "{ready["url"]}"\n')
    return ready


def test_a_token_is_proven_with_the_keys_of_the_platform(engine, platform) -> None:
    """One of the platform is good, for its audience alone; one that claims to be of it is not."""
    ask = {
        "grant_type": "client_credentials", "client_id": platform["client_id"],
        "client_secret": platform["client_secret"],
    }  # fmt: skip
    token = json.loads(engine("call", "oauth.token", json.dumps(ask)).stdout)["access_token"]

    good = engine("token", "verify", "--json", input=token)
    elsewhere = engine("token", "verify", "--audience", "sandbox", input=token)
    forged = engine("token", "verify", input=save({**CLAIMS, "iss": platform["url"]}))

    assert good.exit_code == 0, good.stderr
    assert json.loads(good.stdout)["claims"]["client_id"] == platform["client_id"]
    assert (elsewhere.exit_code, "error[trust.audience]" in elsewhere.stderr) == (Exit.CREDENTIALS, True)
    assert (forged.exit_code, "error[trust.unknown_key]" in forged.stderr) == (Exit.CREDENTIALS, True)
    assert token not in good.stderr + elsewhere.stdout + elsewhere.stderr


def test_keys_of_an_emulator_that_does_not_stay_are_nowhere(engine) -> None:
    """Without a URL there is nobody to ask."""
    answer = engine("token", "verify", "token.txt")

    assert answer.exit_code == Exit.CONFIGURATION
    assert "platform.emulator.url" in answer.stderr
