"""Output: data to stdout, everything else to stderr, colours where they are wanted, closed pipes in silence.

The only place that decides on colour or writes to the standard streams for a verb.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from typing import Any, TextIO

from engine.cli.spout import Spout

# What a shell reports for a process that SIGPIPE ended.
PIPE_CLOSED = 141


class PipeClosed(Exception):
    """Whoever read our standard output is gone; nothing is wrong with us."""


class Paint:
    """Words in colour, or as they are."""

    def __init__(self, *, is_on: bool) -> None:
        self.is_on = is_on

    def _dress(self, text: str, code: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self.is_on and text else text

    def bad(self, text: str) -> str:
        """Something failed."""
        return self._dress(text, "1;31")

    def good(self, text: str) -> str:
        """Something went well."""
        return self._dress(text, "32")

    def strong(self, text: str) -> str:
        """A word that carries the line."""
        return self._dress(text, "1")

    def dim(self, text: str) -> str:
        """A word that can be skipped."""
        return self._dress(text, "2")


def wants_colour(stream: TextIO, env: Mapping[str, str], *, no_color: bool) -> bool:
    """`--no-color`, then NO_COLOR, then FORCE_COLOR or CLICOLOR_FORCE, then whether a terminal looks on."""
    if no_color or env.get("NO_COLOR"):
        return False
    if env.get("FORCE_COLOR", "0") not in ("", "0") or env.get("CLICOLOR_FORCE", "0") not in ("", "0"):
        return True
    return stream.isatty() and env.get("TERM") != "dumb"


def emit(text: str) -> None:
    """Write a line of data to stdout, now.

    Raises:
        PipeClosed: nobody reads it any more. OutputError: its disk takes no more.
    """
    try:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()
    except BrokenPipeError:
        _silence_stdout()
        raise PipeClosed from None
    except OSError as exc:
        from engine.errors import OutputError

        _silence_stdout()
        raise OutputError(f"standard output: {exc.strerror}", hint="free space, or send it elsewhere") from exc


def emit_json(value: Any, say: Callable[[str], None] = emit) -> None:
    """Write one JSON value as one line of data, to stdout or by `say`.

    Raises:
        PipeClosed: nobody reads it any more.
    """
    # Imported here: help must not load the JSON libraries.
    from engine.codec.payload import encode

    say(encode(value).decode("utf-8"))


def tell(text: str) -> None:
    """Write a line for a human to stderr; one that nobody can read is dropped."""
    Spout(sys.stderr).write(text + "\n")


def _silence_stdout() -> None:
    """Point stdout nowhere: the interpreter flushes it once more on its way out, and would complain."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def grouped(number: int) -> str:
    """A whole number with its thousands apart: 10 204 113."""
    return f"{number:,}".replace(",", " ")


def plural(number: int, noun: str) -> str:
    """A number with its noun: 1 job, 2 jobs."""
    return f"{grouped(number)} {noun}{'' if number == 1 else 's'}"


def clock_text(seconds: float) -> str:
    """Hours, minutes, seconds: 00:40:58; with one decimal below a minute: 4.2 s."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    whole = int(seconds)
    return f"{whole // 3600:02}:{whole // 60 % 60:02}:{whole % 60:02}"
