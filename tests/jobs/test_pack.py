"""Request bodies: what the callback URL changes, and what it must not."""

from engine.codec.payload import loads
from engine.contract.profile import PROFILE
from engine.jobs.pack import digest_body, packer_of, with_callback


def test_the_callback_url_is_no_part_of_a_jobs_identity() -> None:
    """A body is digested without its URL, so another port after a restart gives the same key."""
    packer = packer_of(PROFILE.kinds["import.bulk"], {"entity_type": "location"})
    body = packer.body([b'{"id":"a"}'])
    sent = [loads(with_callback(body, f"http://127.0.0.1:{port}/callbacks")) for port in (1, 2)]

    assert [one.pop("callback_url") for one in sent] == ["http://127.0.0.1:1/callbacks", "http://127.0.0.1:2/callbacks"]
    assert sent == [loads(body)] * 2
    assert with_callback(body, None) is body
    assert digest_body(body) == digest_body(packer.body([b'{"id":"a"}']))
