"""Units in values: "30s", "8MiB", "50/s" and "1%" as seconds, bytes, per second and fractions.

Pure text to number. Which field has which unit is said by its type (`engine.settings`).
"""

from __future__ import annotations

import re
from collections.abc import Callable

_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86_400.0}
_BYTES = {
    "B": 1, "kB": 10**3, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30,
}  # fmt: skip
_PER = {"s": 1.0, "sec": 1.0, "min": 60.0, "m": 60.0, "h": 3600.0}

_NUMBER = r"(\d+(?:_\d+)*(?:\.\d+)?)"
# Longer names first: "ms" must not be read as "m" and a stray "s".
_DURATION = re.compile(_NUMBER + r"\s*(ms|min|s|m|h|d)", re.ASCII)
_SIZE = re.compile(_NUMBER + r"\s*([KMG]iB|[kKMG]B|B)", re.ASCII)
_RATE = re.compile(_NUMBER + r"\s*/\s*(sec|s|min|m|h)", re.ASCII)
_FRACTION = re.compile(_NUMBER + r"\s*%", re.ASCII)
# No unit of ours needs more digits; a longer number is a mistake, or mischief.
_TEXT_MAX = 64


def _number(text: str) -> float:
    return float(text.replace("_", ""))


def duration(text: str) -> float:
    """Seconds of "250ms", "30s", "5m", "2h", "1d", also joined as in "1h30m".

    Raises:
        ValueError: not a duration.
    """
    total, end = 0.0, 0
    for found in _DURATION.finditer(text):
        if found.start() != end:
            break
        total, end = total + _number(found[1]) * _SECONDS[found[2]], found.end()
    if not text or end != len(text):
        raise ValueError(text)
    return total


def size(text: str) -> int:
    """Bytes of "512B", "768KiB", "1.5MiB", "2GB".

    Raises:
        ValueError: not a size, or not a whole number of bytes.
    """
    found = _SIZE.fullmatch(text)
    if not found:
        raise ValueError(text)
    exact = _number(found[1]) * _BYTES[found[2]]
    if exact != int(exact):
        raise ValueError(text)
    return int(exact)


def rate(text: str) -> float:
    """Per second of "50/s", "600/min", "1000/h".

    Raises:
        ValueError: not a rate.
    """
    found = _RATE.fullmatch(text)
    if not found:
        raise ValueError(text)
    return _number(found[1]) / _PER[found[2]]


def fraction(text: str) -> float:
    """The fraction that "1%" or "0.5%" is.

    Raises:
        ValueError: not a percentage.
    """
    found = _FRACTION.fullmatch(text)
    if not found:
        raise ValueError(text)
    return _number(found[1]) / 100


class Unit:
    """How one unit is read, what it is called, and how it is suggested."""

    def __init__(self, noun: str, examples: str, read: Callable[[str], float], pattern: str) -> None:
        self.noun = noun
        self.examples = examples
        self._read = read
        self.pattern = pattern

    def read(self, text: str) -> float:
        """The number a text stands for.

        Raises:
            ValueError: the text is not of this unit.
        """
        if len(text) > _TEXT_MAX:
            raise ValueError("too long")
        return self._read(text.strip())

    def suggest(self, number: float) -> str:
        """How a bare number was probably meant, as a value to type."""
        plain = _digits(number) if 0 <= number < 1e15 else "1"
        match self.noun:
            case "duration":
                return f"{plain}s"
            case "size":
                return _whole_size(int(float(plain)))
            case "rate":
                return f"{plain}/s"
            case _:
                return f"{_digits(number * 100)}%" if 0 <= number <= 1 else f"{plain}%"


def _digits(number: float) -> str:
    """Without an exponent, which no unit takes."""
    return f"{number:.6f}".rstrip("0").rstrip(".")


def _whole_size(number: int) -> str:
    for name, factor in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if number and number % factor == 0:
            return f"{number // factor}{name}"
    return f"{number}B"


UNITS: dict[str, Unit] = {
    "duration": Unit("duration", '"250ms", "30s", "5m", "2h"', duration, r"^(\d[\d_.]*\s*(ms|min|s|m|h|d))+$"),
    "size": Unit("size", '"768KiB", "8MiB", "1GB"', size, r"^\d[\d_.]*\s*([KMG]iB|[kKMG]B|B)$"),
    "rate": Unit("rate", '"50/s", "600/min"', rate, r"^\d[\d_.]*\s*/\s*(sec|s|min|m|h)$"),
    "fraction": Unit("percentage", '"1%", "0.5%"', fraction, r"^\d[\d_.]*\s*%$"),
}
