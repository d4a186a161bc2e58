"""Inflating: whole streams come out whole, everything else is refused, memory stays small."""

import gzip
import sys
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.codec.inflate import PIECE_BYTES, inflater
from engine.errors import BrokenAnswer, CapExceeded

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

PACK = {"gzip": gzip.compress, "zstd": zstd.compress, "none": bytes}
PACKED = ("gzip", "zstd")


def inflate(encoding, data, size=1000, **caps):
    stream = inflater(encoding, **caps)
    pieces = [p for start in range(0, len(data), size) for p in stream.feed(data[start : start + size])]
    stream.finish()
    return pieces


@pytest.mark.parametrize("encoding", PACK)
@given(members=st.lists(st.binary(max_size=200), min_size=1, max_size=4), size=st.integers(1, 50))
def test_any_members_cut_anywhere_come_out_whole(encoding, members, size):
    """A stream of several members or frames, fed in chunks of any size, gives all of its bytes."""
    data = b"".join(PACK[encoding](member) for member in members)

    assert b"".join(inflate(encoding, data, size)) == b"".join(members)


@pytest.mark.parametrize("encoding", PACKED)
def test_a_cut_stream_is_never_taken_as_complete(encoding):
    """A stream cut at any byte raises at the end, also where the cut falls into the trailer."""
    data = PACK[encoding](b"some text that is long enough " * 3)

    for end in range(len(data)):
        with pytest.raises(BrokenAnswer, match="cut"):
            inflate(encoding, data[:end])


@pytest.mark.parametrize("encoding", PACKED)
@pytest.mark.parametrize("garbage", [b"garbage", b"\0" * 20])
def test_garbage_after_the_end_is_refused(encoding, garbage):
    """Bytes that follow the last member and begin none are an error, padding included."""
    with pytest.raises(BrokenAnswer):
        inflate(encoding, PACK[encoding](b"text") + garbage)


def test_a_flipped_bit_is_noticed():
    """A gzip stream with a wrong check sum is damaged."""
    data = bytearray(gzip.compress(b"text" * 50))
    data[-6] ^= 1

    with pytest.raises(BrokenAnswer, match="damaged"):
        inflate("gzip", bytes(data))


@pytest.mark.parametrize("encoding", PACKED)
def test_a_bomb_comes_out_in_small_pieces(encoding):
    """However dense the stream, no piece is larger than promised, and the bytes are all there."""
    pieces = inflate(encoding, PACK[encoding](bytes(8 * 1024 * 1024)), size=1 << 20)

    assert max(map(len, pieces)) <= PIECE_BYTES
    assert sum(map(len, pieces)) == 8 * 1024 * 1024


@pytest.mark.parametrize("encoding", PACKED)
def test_a_bomb_is_stopped_by_its_ratio(encoding):
    """Past the first MiB, a stream that inflates a hundredfold is refused, and the error says why."""
    with pytest.raises(CapExceeded, match="ratio"):
        inflate(encoding, PACK[encoding](bytes(8 * 1024 * 1024)), max_ratio=100)


@pytest.mark.parametrize("encoding", PACK)
def test_the_cap_on_bytes_is_its_own_error(encoding):
    """More plain bytes than allowed are refused, in any encoding."""
    with pytest.raises(CapExceeded, match="cap of 99 bytes"):
        inflate(encoding, PACK[encoding](b"x" * 100), max_bytes=99)


def test_a_small_dense_text_is_no_bomb():
    """The ratio says nothing about the first MiB."""
    assert sum(map(len, inflate("gzip", gzip.compress(bytes(1 << 20)), max_ratio=100))) == 1 << 20


def test_thousands_of_empty_members_are_read():
    """Members without content cost little and hide nothing."""
    data = gzip.compress(b"") * 5000 + gzip.compress(b"end")

    assert b"".join(inflate("gzip", data, size=1 << 20)) == b"end"


def test_raw_deflate_is_not_gzip():
    """Only the encoding that was named is accepted."""
    with pytest.raises(BrokenAnswer):
        inflate("gzip", zlib.compress(b"text"))
