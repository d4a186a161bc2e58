"""Spout: lines for a stream that may be full, closed or blocked: written whole, or dropped and counted.

Losing a line must not lose the run, nor hold it up: nothing here waits or raises. Once the stream takes lines again,
one of them says how many are missing. What the lines say is not decided here.
"""

from __future__ import annotations

import os
import select
from typing import TextIO

# A pipe that is ready takes this many bytes without waiting (POSIX: PIPE_BUF is at least 512; Linux has 4096).
_PIECE_BYTES = 512 if not hasattr(select, "PIPE_BUF") else select.PIPE_BUF


class Spout:
    """Writes to a stream past its buffer, which would keep what a full disk refused and fail once more at exit.

    A stream without a file descriptor is written to as it is.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._fd = _descriptor(stream)
        self._owed = 0
        self._is_closed = False
        self._is_torn = False
        self.dropped = 0

    def write(self, text: str) -> bool:
        """Write the text now; False: it is lost, whole or in part."""
        if self._is_closed or not self._put(self._debt() + text):
            self._owed += 1
            self.dropped += 1
            return False
        self._owed = 0
        return True

    def _debt(self) -> str:
        torn = "\n" if self._is_torn else ""
        return f"{torn}… {self._owed} lines were lost here: the stream took none\n" if self._owed else torn

    def _put(self, text: str) -> bool:
        try:
            if self._fd is None:
                self._stream.write(text)
                self._stream.flush()
                return True
            return self._put_bytes(self._fd, text.encode(self._stream.encoding or "utf-8", "backslashreplace"))
        except BrokenPipeError:
            self._is_closed = True
        except (OSError, ValueError):
            # Full, or closed by somebody: a full disk may have room again, a closed stream is not worth asking.
            self._is_closed = self._stream.closed or self._fd is None
        return False

    def _put_bytes(self, fd: int, data: bytes) -> bool:
        done = 0
        poll = select.poll()
        poll.register(fd, select.POLLOUT)
        try:
            while done < len(data):
                if not poll.poll(0):
                    return False
                done += os.write(fd, data[done : done + _PIECE_BYTES])
        finally:
            self._is_torn = 0 < done < len(data) or (self._is_torn and not done)
        return True


def _descriptor(stream: TextIO) -> int | None:
    try:
        stream.flush()
        return stream.fileno()
    except (OSError, ValueError, AttributeError):
        return None
