"""The PROV corpus of others, before our decoder and verifier: none of it is a transcript, and all of it is read."""

import json
import tarfile

import pytest

from engine.codec.canonical import canonical
from engine.codec.payload import loads
from engine.errors import RecordError
from engine.trust.transcript import verify_text


@pytest.fixture(scope="module")
def corpus(vectors):
    """Every JSON and JSON-LD document of the archive by its name, read from it as it is."""
    with tarfile.open(vectors("prov") / "prov-vectors.tar.gz") as archive:
        return {
            member.name: archive.extractfile(member).read()
            for member in archive.getmembers()
            if member.isfile() and member.name.endswith((".json", ".jsonld"))
        }


def test_documents_have_one_canonical_form(corpus) -> None:
    """Each that is JSON is decoded, and its canonical form read again is the same document with the same form."""
    count = 0
    for name, text in corpus.items():
        try:
            document = loads(text)
        except RecordError:
            assert name in ("malformed/empty.json", "malformed/not_json.json")
            continue
        once = canonical(document)
        assert canonical(loads(once)) == once, name
        assert json.loads(once) == json.loads(text), name
        count += 1

    assert count > 400


def test_none_is_taken_for_a_transcript(corpus) -> None:
    """PROV-JSON, PROV-JSONLD or malformed: each is refused with what is missing, and never with another error."""
    for name, text in corpus.items():
        with pytest.raises(RecordError) as caught:
            verify_text(text, [])
        assert caught.value.message, name
