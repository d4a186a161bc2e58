"""Lines: a byte stream cut into lines, with the place of each, in bounded memory.

Lines end with LF; a CR before it is dropped unless kept on request, a UTF-8 byte order mark at the
start of the stream is dropped, and the last line needs no line end. An over-long line is cut to its
head and reported, never held. Knows nothing of what a line means.
"""

from __future__ import annotations

from io import BytesIO
from itertools import accumulate

import msgspec

BOM = b"\xef\xbb\xbf"
HEAD_BYTES = 64 * 1024


class Lines(msgspec.Struct, frozen=True, gc=False):
    """Consecutive complete lines; line i covers `[ends[i - 1], ends[i])`, the first begins at `start`.

    texts   each line without its line end
    ends    stream offset just past each line, its line end included
    line    number of the first line
    cut     indexes of over-long lines: their text is only the head (`HEAD_BYTES`), their extent is true
    """

    start: int
    line: int
    texts: list[bytes]
    ends: list[int]
    cut: tuple[int, ...] = ()

    @property
    def end(self) -> int:
        """Stream offset just past the last line."""
        return self.ends[-1]

    @property
    def next_line(self) -> int:
        """Number of the line that follows."""
        return self.line + len(self.texts)

    def extent(self, index: int) -> tuple[int, int]:
        """Where line `index` begins and ends in the stream."""
        return (self.ends[index - 1] if index else self.start), self.ends[index]


def lines_of(body: bytes) -> list[bytes]:
    """The lines of a text in which each ends with a LF, without it."""
    return [line[:-1] for line in BytesIO(body)]


class LineSplitter:
    """Takes windows of a stream, gives back the lines they complete.

    Work is per window, not per byte: one split, one running sum. Between windows it holds at most one
    unfinished line of up to `max_line` bytes; of a longer one only the head.
    """

    def __init__(self, max_line: int, *, offset: int = 0, line: int = 1, keep_cr: bool = False) -> None:
        self._max_line = max_line
        self._keep_cr = keep_cr
        self._offset = offset
        self._line = line
        self._pending: list[bytes] = []
        self._pending_bytes = 0
        self._over_long = False
        self._rest = b""

    @property
    def held_bytes(self) -> int:
        """What is held of a line that is not whole yet."""
        return HEAD_BYTES if self._over_long else self._pending_bytes

    @property
    def place(self) -> tuple[int, int]:
        """Offset and number of the line that is not whole yet, or comes next."""
        return self._offset, self._line

    @property
    def reach(self) -> int:
        """Offset just past everything that was fed or skipped."""
        return self._offset + self._pending_bytes

    def skip(self, window: bytes) -> None:
        """Pass over the lines that end in this window: they are counted, and not given out."""
        cut = window.rfind(b"\n")
        if cut >= 0:
            self._offset += self._pending_bytes + cut + 1
            self._line += window.count(b"\n")
            self._pending, self._pending_bytes, self._over_long = [], 0, False
        self._keep(window[cut + 1 :])

    def feed(self, window: bytes) -> Lines | None:
        """The lines that end in this window; None when none does."""
        cut = window.rfind(b"\n")
        if cut < 0:
            self._keep(window)
            return None
        lines = self._lines(window[: cut + 1], line_end=1)
        self._keep(window[cut + 1 :])
        return lines

    def join(self, window: bytes) -> bytes | None:
        """What `feed` would split, as one text with all its line ends: to be given to `split` or to `skip` next.

        None when no line ends in this window. Not to be called while an over-long line is passed (`is_cutting`).
        """
        cut = window.rfind(b"\n") + 1
        if not cut:
            self._keep(window)
            return None
        body = window[:cut]
        if self._pending:
            body = b"".join((*self._pending, body))
            self._pending, self._pending_bytes = [], 0
        self._rest = window[cut:]
        return body

    def split(self, body: bytes) -> Lines:
        """The lines of a text that `join` gave."""
        lines = self._lines(body, line_end=1)
        self._keep_rest()
        return lines

    def passed(self, body: bytes, lines: int) -> None:
        """Pass a text that `join` gave, of so many lines."""
        self._offset += len(body)
        self._line += lines
        self._keep_rest()

    @property
    def is_cutting(self) -> bool:
        """Whether an over-long line is being passed."""
        return self._over_long

    def finish(self) -> Lines | None:
        """The last line, when the stream ended without a line end."""
        return self._lines(b"", line_end=0) if self._pending_bytes else None

    def _keep_rest(self) -> None:
        rest, self._rest = self._rest, b""
        self._keep(rest)

    def _keep(self, rest: bytes) -> None:
        if not rest:
            return
        self._pending_bytes += len(rest)
        if not self._over_long:
            self._pending.append(rest)
            # One more than the line may have: a CR that belongs to the line end.
            if self._pending_bytes > self._max_line + 1:
                self._over_long = True
                self._pending = [b"".join(self._pending)[:HEAD_BYTES]]

    def _lines(self, body: bytes, *, line_end: int) -> Lines:
        """The lines of a text that ends with a LF, or without one (`line_end` 0), after what is pending."""
        held, was_cut = self._pending_bytes, self._over_long
        # Finds line ends several times as fast as `split` does.
        whole = BytesIO(body).readlines() or [b""]
        texts = [line[:-1] for line in whole] if line_end else whole
        sizes = list(map(len, whole))
        sizes[0] += held
        if held and not was_cut:
            # Only the line that began earlier is joined: it may be large, and is copied just once.
            texts[0] = b"".join((*self._pending, texts[0]))
            self._pending = []
        has_cr = not self._keep_cr and (b"\r" in body or texts[0].endswith(b"\r"))
        ends = list(accumulate(sizes, initial=self._offset))
        del ends[0]
        cut: tuple[int, ...] = ()
        if was_cut or max(sizes) - line_end > self._max_line:
            cut = self._cut(texts, [size - line_end for size in sizes])
        if was_cut:
            texts[0] = self._pending[0]
        if self._offset == 0:
            texts[0] = texts[0].removeprefix(BOM)
        if has_cr:
            texts = [text.removesuffix(b"\r") for text in texts]
        lines = Lines(self._offset, self._line, texts, ends, cut)
        self._offset, self._line = lines.end, lines.next_line
        self._pending, self._pending_bytes, self._over_long = [], 0, False
        return lines

    def _cut(self, texts: list[bytes], sizes: list[int]) -> tuple[int, ...]:
        long = [i for i, size in enumerate(sizes) if size - texts[i].endswith(b"\r") > self._max_line]
        for i in long:
            texts[i] = texts[i][:HEAD_BYTES]
        return tuple(long)
