"""Matrix: the fault matrix as data, one row per fault, with the tests that hold it and how it came out.

The rows are in `matrix.toml` beside this file; here is only what a row may say. Nothing is run.
"""

from __future__ import annotations

import tomllib
from importlib.resources import files
from typing import Literal

import msgspec

Result = Literal["survived", "partly", "open", "not here"]
_NEEDS_A_TEST = ("survived", "partly")


class Row(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One fault.

    id        `F01` to `F46`
    fault     what goes wrong, in words
    injector  what makes it happen: `failpoint`, `kill`, `emulator`, `proxy`, `tmpfs`, a tool's name
    tests     `tests/room/test_file.py::test_name` of each test that injects it and looks at what came of it
    result    survived · partly (some of its cases, `reason` says which not) · open (nothing holds it yet) · not here
              (it cannot be injected on this machine, or its part of the engine does not exist)
    reason    why it is not simply survived, or the figures behind it
    """

    id: str
    fault: str
    injector: str
    result: Result
    tests: tuple[str, ...] = ()
    reason: str = ""

    @property
    def flaw(self) -> str | None:
        """What this row owes its reader; None when it is in order."""
        if self.result in _NEEDS_A_TEST and not self.tests:
            return f"{self.id} says `{self.result}` and names no test"
        if self.result != "survived" and not self.reason:
            return f"{self.id} says `{self.result}` and does not say why"
        return None


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    fault: tuple[Row, ...]


def load() -> tuple[Row, ...]:
    """The rows, in the order of the file."""
    text = files("engine.chaos").joinpath("matrix.toml").read_text(encoding="utf-8")
    return msgspec.convert(tomllib.loads(text), _File).fault
