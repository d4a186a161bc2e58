"""Tally: what was injected, what was survived, and the totals that must be zero. Pure bookkeeping.

A fault is survived when the stage it happened in ended with exit 0 and the auditor found nothing wrong there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from engine.chaos.audit import Finding
from engine.chaos.mischief import Mischief
from engine.chaos.stage import Outcome


class Line(msgspec.Struct, kw_only=True):
    """One row of the table; `faults` are its ids in the fault matrix."""

    fault: str
    faults: tuple[str, ...]
    injected: int = 0
    survived: int = 0


class Tally:
    """Adds up rounds. `skipped` says by name what this machine did not allow."""

    def __init__(self) -> None:
        self.lines: dict[str, Line] = {}
        self.findings: list[tuple[int, Finding]] = []
        self.skipped: dict[str, str] = {}
        self.rounds = 0
        self.starts = 0
        self.kills = 0
        self.rows = 0

    def add(
        self,
        number: int,
        mischief: Sequence[Mischief],
        outcomes: Sequence[Outcome],
        strikes: Mapping[int, int],
        platform: Sequence[Finding],
    ) -> None:
        """A round that is over: `strikes` by rule number, `platform` what the platform's books say is wrong."""
        self.rounds += 1
        is_clean = not platform and not any(outcome.findings for outcome in outcomes)
        for outcome in outcomes:
            self.starts += outcome.starts
            self.kills += len(outcome.kills)
            self.rows += len(outcome.audited.landed) if outcome.audited else 0
            for kill in outcome.kills:
                self._count(kill.name, _faults_of(kill.name), 1, survived=not platform and not outcome.findings)
        number_of_rule = 0
        for m in mischief:
            struck = sum(strikes.get(number_of_rule + turn, 0) for turn in range(1, len(m.rules) + 1))
            number_of_rule += len(m.rules)
            if m.disk is not None:
                struck = sum(outcome.full_disks for outcome in outcomes)
            elif m.rotates:
                struck = sum(len(outcome.kills) for outcome in outcomes)
            self._count(m.name, m.faults, struck, survived=is_clean)
        self.findings += [(number, finding) for outcome in outcomes for finding in outcome.findings]
        self.findings += [(number, finding) for finding in platform]

    def skip(self, name: str, why: str) -> None:
        """This mischief is not possible here."""
        self.skipped[name] = why

    def total(self, *kinds: str) -> int:
        """How much of these kinds of fault the auditor found."""
        return sum(finding.count for _, finding in self.findings if finding.fault in kinds)

    @property
    def totals(self) -> dict[str, int]:
        """What must be zero, in the order it is told."""
        return {
            "rows lost": self.total("lost"),
            "rows doubled": self.total("doubled"),
            "rows changed": self.total("changed"),
            "jobs twice": self.total("job twice"),
            "unbalanced runs": self.total("unbalanced"),
            "untrue files": self.total("files"),
        }

    @property
    def is_clean(self) -> bool:
        """Whether all of it is zero."""
        return not self.findings

    def _count(self, name: str, faults: tuple[str, ...], injected: int, *, survived: bool) -> None:
        line = self.lines.setdefault(name, Line(fault=name, faults=faults))
        line.injected += injected
        line.survived += injected if survived else 0


# Which row of the fault matrix a kill belongs to, by where it strikes.
_ROWS: dict[str, tuple[str, ...]] = {
    "before ledger:planned": ("F01",), "after ledger:planned": ("F01",),
    "before ledger:submitted": ("F02", "F03"), "after ledger:submitted": ("F04",),
    "before ledger:succeeded": ("F04",), "after ledger:succeeded": ("F05",),
    "before ledger:committed": ("F06",),
    "before sink:commit": ("F06", "F33"), "after sink:commit": ("F06", "F33"),
}  # fmt: skip


def _faults_of(name: str) -> tuple[str, ...]:
    place = name.removeprefix("kill -9 ")
    return _ROWS.get(place) or (("F06",) if " sink:" in place else ())
