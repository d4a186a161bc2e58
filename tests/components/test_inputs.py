"""Inputs: which files are read, from where, and what makes a position stale."""

import gzip
import os
import sys
import threading

import pytest

from engine.errors import ConfigError, InputError, RecordError, StaleCheckpoint
from engine.record import Slice

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

LINES = b"".join(b'{"id":"%04d"}\n' % n for n in range(1000))
SIZE = len(b'{"id":"0000"}\n')


def keys(batches):
    return [key for batch in batches for key in batch.keys]


def marks_after(source, batches, offset=None, line=None):
    last = {batch.input: batch for batch in batches}
    return {
        name: source.mark(name, batch.end if offset is None else offset, batch.next_line if line is None else line)
        for name, batch in last.items()
    }


def test_inputs_are_read_once_in_the_order_of_their_names(source, here):
    """Globs and paths are joined, sorted, and no file is read twice."""
    (here / "sub").mkdir()
    for name in ("b.ndjson", "a.ndjson", "sub/c.ndjson"):
        (here / name).write_text(f'{{"id":"{name}"}}\n')

    batches = source("ndjson", "*.ndjson", "./a.ndjson", "**/c.*").read({})

    assert keys(batches) == ["a.ndjson", "b.ndjson", "sub/c.ndjson"]


def test_a_name_with_glob_characters_is_a_name_if_it_exists(source, here):
    """A file called like a pattern is that file."""
    (here / "a[1].ndjson").write_text('{"id":"a"}\n')

    assert keys(source("ndjson", "a[1].ndjson").read({})) == ["a"]


@pytest.mark.parametrize("pattern", ["missing.ndjson", "missing-*.ndjson"])
def test_nothing_to_read_names_pattern_and_directory(source, here, pattern):
    """The error says what was looked for, and where."""
    with pytest.raises(InputError) as caught:
        list(source("ndjson", pattern).read({}))

    assert pattern in caught.value.message
    assert str(here) in caught.value.message


def test_a_directory_is_no_input(source, here):
    """Naming a directory is an error that says how to name its files."""
    (here / "sub").mkdir()

    with pytest.raises(InputError, match="directory"):
        list(source("ndjson", "sub").read({}))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission_is_an_input_error(source, here):
    """A file that may not be opened is named."""
    (here / "in.ndjson").touch(mode=0o000)

    with pytest.raises(InputError, match=r"in\.ndjson"):
        list(source().read({}))


@pytest.mark.parametrize(
    ("name", "pack", "compression"),
    [
        ("in.ndjson.gz", gzip.compress, "auto"),
        ("in.ndjson.zst", zstd.compress, "auto"),
        ("in.ndjson", zstd.compress, "zstd"),
        ("in.gz", bytes, "none"),
    ],
)
def test_compression_goes_by_suffix_or_by_word(source, here, name, pack, compression):
    """Every member is read, and offsets count plain bytes."""
    (here / name).write_bytes(pack(LINES[: 500 * SIZE]) + pack(LINES[500 * SIZE :]))

    batches = list(source(compression=compression).read({}))

    assert len(keys(batches)) == 1000
    assert batches[-1].end == len(LINES)


@pytest.mark.parametrize("pack", [gzip.compress, zstd.compress])
def test_a_cut_file_gives_what_stands_before_the_cut(source, here, pack):
    """Whole records are delivered, then the error names file and offset."""
    noise = b"".join(b'{"id":"%s"}\n' % os.urandom(32).hex().encode() for _ in range(20_000))
    suffix = "gz" if pack is gzip.compress else "zst"
    (here / f"in.{suffix}").write_bytes(pack(noise)[:-5000])
    batches = []

    with pytest.raises(InputError) as caught:
        batches.extend(source().read({}))

    assert keys(batches)
    assert noise.startswith(b"".join(raw + b"\n" for batch in batches for raw in batch.raws))
    assert "cut" in caught.value.message
    assert caught.value.facts["input"] == f"in.{suffix}"
    assert caught.value.facts["offset"] >= batches[-1].end


@pytest.mark.parametrize("name", ["in.ndjson", "in.gz"])
def test_reading_goes_on_at_the_mark(source, here, name):
    """What lies before the mark is not read again, and places go on counting."""
    (here / name).write_bytes(gzip.compress(LINES) if name == "in.gz" else LINES)
    first = source()
    marks = marks_after(first, list(first.read({})), offset=400 * SIZE, line=401)

    batches = list(source().read(marks))

    assert keys(batches) == [f"{n:04d}" for n in range(400, 1000)]
    assert (batches[0].start, batches[0].line) == (400 * SIZE, 401)


@pytest.mark.parametrize("name", ["in.ndjson", "in.gz"])
def test_nothing_new_gives_no_batches(source, here, name):
    """An input that was read to its end is left alone."""
    (here / name).write_bytes(gzip.compress(LINES) if name == "in.gz" else LINES)
    first = source()
    marks = marks_after(first, list(first.read({})))

    assert list(source().read(marks)) == []


def test_what_was_appended_and_what_appeared_is_read(source, here):
    """A file that grew goes on where it was, also from within its first kilobytes; a new file is read."""
    (here / "in.1").write_bytes(LINES[: 3 * SIZE])
    first = source()
    marks = marks_after(first, list(first.read({})))
    (here / "in.1").write_bytes(LINES)
    (here / "in.0").write_bytes(b'{"id":"new"}')

    second = source()
    batches = list(second.read(marks))

    assert keys(batches) == ["new"] + [f"{n:04d}" for n in range(3, 1000)]
    assert second.mark("in.1", 0, 1).head == 4096


@pytest.mark.parametrize("name", ["in.ndjson", "in.gz"])
@pytest.mark.parametrize("change", [lambda data: b" " + data, lambda data: data[: 100 * SIZE]])
def test_another_file_under_the_name_is_stale(source, here, name, change):
    """A file that changed at its beginning, or shrank, stops the run and says how to go on."""
    pack = gzip.compress if name == "in.gz" else bytes
    (here / name).write_bytes(pack(LINES))
    first = source()
    marks = marks_after(first, list(first.read({})))
    (here / name).write_bytes(pack(change(LINES)))

    with pytest.raises(StaleCheckpoint) as caught:
        list(source().read(marks))

    assert name in caught.value.message
    assert "--fresh" in caught.value.hint


def test_a_slice_past_the_end_is_stale(source, here):
    """A file that shrank between two readings is noticed."""
    (here / "in.ndjson").write_bytes(LINES)

    with pytest.raises(StaleCheckpoint):
        list(source().reread([Slice("in.ndjson", 0, len(LINES) + 1, 1)]))


def test_a_mark_can_be_made_without_reading(source, here):
    """After a restart an input can be marked before it is read; the fingerprint is that of the file."""
    (here / "in.ndjson").write_bytes(LINES)
    first = source()
    list(first.read({}))
    second = source()

    assert second.mark("in.ndjson", 5, 1) == first.mark("in.ndjson", 5, 1)


def pipe_with(data):
    reading, writing = os.pipe()
    os.write(writing, data)
    os.close(writing)
    return reading


def test_stdin_is_read_and_resumed_by_skipping(source, stdin):
    """The same bytes through stdin go on at the mark; other bytes are a new input."""
    reader = source("ndjson", "-")
    stdin(pipe_with(LINES))
    batches = list(reader.read({}))
    marks = marks_after(reader, batches, offset=990 * SIZE, line=991)

    stdin(pipe_with(LINES))
    same = list(source("ndjson", "-").read(marks))
    stdin(pipe_with(b'{"id":"other"}\n'))
    other = list(source("ndjson", "-").read(marks))

    assert not reader.can_reread
    assert len(keys(batches)) == 1000
    assert keys(same) == [f"{n:04d}" for n in range(990, 1000)]
    assert keys(other) == ["other"]
    assert other[0].start == 0


def test_files_can_be_read_again(source, here):
    """Regular files and patterns can; a named pipe cannot."""
    (here / "in.ndjson").touch()
    os.mkfifo(here / "pipe")

    assert source().can_reread
    assert source("ndjson", "in.ndjson").can_reread
    assert not source("ndjson", "pipe").can_reread


def test_closing_ends_a_blocked_read(source, stdin):
    """A reader that waits for stdin stops soon after close, and half a line is not taken for a record."""
    reading, writing = os.pipe()
    stdin(reading)
    reader = source("ndjson", "-")
    os.write(writing, b'{"id":"a"}\n{"id":"b"}')
    batches = reader.read({})
    found = [next(batches)]
    thread = threading.Thread(target=lambda: found.extend(batches))
    thread.start()

    reader.close()
    thread.join(timeout=10)

    assert not thread.is_alive()
    assert keys(found) == ["a"]
    os.close(writing)
    os.close(reading)


def test_a_key_type_that_cannot_name_rows_is_refused(source):
    """The key may be text, a whole number or a choice."""
    with pytest.raises(RecordError, match="cannot name a row"):
        source(fields={"id": "float"})


def test_config_errors_are_not_input_errors():
    """The operator and the author of the TOML are told apart by exit code."""
    assert InputError.exit_code != ConfigError.exit_code
