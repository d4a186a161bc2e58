"""Lines: every byte belongs to one line, whatever windows the stream came in."""

from hypothesis import given
from hypothesis import strategies as st

from engine.codec.lines import BOM, HEAD_BYTES, LineSplitter

pieces = st.lists(st.sampled_from([b"a", b"bc", b"\n", b"\r", b"\r\n", BOM, b" ", b"xyzxyz"]), max_size=30)


def split(data, size, max_line=1000, **options):
    splitter = LineSplitter(max_line, **options)
    windows = [splitter.feed(data[start : start + size]) for start in range(0, len(data), size)]
    return [lines for lines in (*windows, splitter.finish()) if lines]


def flat(windows):
    return [text for lines in windows for text in lines.texts]


@given(parts=pieces, size=st.integers(1, 12))
def test_windows_do_not_matter(parts, size):
    """Lines and their ends are those of the whole text, wherever it was cut."""
    data = b"".join(parts)
    windows = split(data, size)

    whole = data.split(b"\n")
    if whole[-1] == b"":
        del whole[-1]
    expected = [text.removesuffix(b"\r") for text in whole]
    if expected:
        expected[0] = whole[0].removeprefix(BOM).removesuffix(b"\r")
    ends = [end for lines in windows for end in lines.ends]
    assert flat(windows) == expected
    assert ends == [min(len(data), sum(map(len, whole[: i + 1])) + i + 1) for i in range(len(whole))]
    assert [lines.line for lines in windows] == [1 + len(flat(windows[:index])) for index in range(len(windows))]


@given(parts=pieces, size=st.integers(1, 12), max_line=st.integers(1, 8))
def test_an_over_long_line_keeps_its_extent(parts, size, max_line):
    """A line over the cap is reported with its true place, and the others are whole."""
    data = b"".join(parts).replace(BOM, b"")
    windows = split(data, size, max_line)

    for lines in windows:
        for index, text in enumerate(lines.texts):
            start, end = lines.extent(index)
            whole = data[start:end].removesuffix(b"\n").removesuffix(b"\r")
            assert (index in lines.cut) == (len(whole) > max_line)
            assert whole.startswith(text.removesuffix(b"\r"))
            assert index in lines.cut or text == whole
    assert (windows[-1].end if windows else 0) == len(data)


def test_an_endless_line_is_not_held():
    """Of a line that does not end, only the head stays in memory."""
    splitter = LineSplitter(1 << 20)
    for _ in range(64):
        assert splitter.feed(b"x" * (1 << 20)) is None
    assert sum(map(len, splitter._pending)) == HEAD_BYTES

    lines = splitter.feed(b"\nnext\n")

    assert lines.cut == (0,)
    assert lines.extent(0) == (0, (64 << 20) + 1)
    assert lines.texts[1] == b"next"


def test_a_carriage_return_can_be_kept():
    """For formats in which it may be content, the CR before a line end stays."""
    assert flat(split(b"a\r\nb\r", 2, keep_cr=True)) == [b"a\r", b"b\r"]


def test_going_on_in_the_middle_counts_from_there():
    """A splitter told where it starts reports places in the whole stream and looks for no BOM."""
    (lines,) = split(BOM + b"a\n", 100, offset=10, line=3)

    assert (lines.start, lines.end, lines.line, lines.texts) == (10, 15, 3, [BOM + b"a"])
