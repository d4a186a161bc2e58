"""Golden texts of errors that are no findings: what is said when one ends a command, and what `engine explain` says."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine import errors
from engine.cli.failures import exit_code_of, render
from engine.cli.output import Paint
from engine.contract.problem import refusal
from engine.errors import ERRORS, EngineError, Finding, PlanError, RunFailed

GOLDEN = Path(__file__).parent / "golden"
_PROBLEM = b'{"title": "No", "status": %d, "detail": "said by the platform", "code": "a_code"}'
_HEADERS = {"content-type": "application/problem+json", "x-argus-trace-id": "4bf92f3577b34da6a3ce929d0e0e4736"}
_FINDING = Finding(
    "`rows` is out of range", code="config.range", path="p.toml", line=3, column=8, excerpt="rows = 0", length=1
)
_MEANT = Finding("`a` is no table", code="config.type", path="--set a.b")


def _refused(status: int, **more: str) -> EngineError:
    """What the door makes of an answer."""
    return refusal("jobs.create", status, {**_HEADERS, **more}, _PROBLEM % status, now_s=0.0)


# One of each code, as its own place in the code makes it.
MADE: dict[str, EngineError] = {
    "platform.error": _refused(302),
    "platform.refused": _refused(401, **{"www-authenticate": 'Bearer error="invalid_token"'}),
    "platform.missing": _refused(404),
    "platform.rejected": _refused(422),
    "platform.conflict": _refused(409),
    "platform.throttled": _refused(429, **{"retry-after": "7"}),
    "platform.unavailable": _refused(503),
    "config.finding": _FINDING,
    "config.findings": PlanError([_MEANT, _FINDING]),
    "config.missing_extra": errors.MissingExtra(need="a parquet sink", extra="parquet"),
    "record.partial": errors.PartialFailure("2 of 3 records failed", failures={0: "a", 2: "b"}),
    "run.failed": RunFailed(
        "people: two stages failed",
        pipeline="people",
        causes=[errors.OutputError("out: no space", hint="free some"), errors.TimedOut("jobs.get: after 30 s")],
    ),
}


def _made(kind: type[EngineError]) -> EngineError:
    """The error of a code; those that are made of words alone are made of these."""
    return MADE.get(kind.code) or kind("what happened, and where", job="job_1", status=None)


def _page(kind: type[EngineError], explained: str) -> str:
    error = _made(kind)
    return f"{render(error, Paint(is_on=False))}\n(exit {exit_code_of(error)})\n\n{explained}"


def test_every_code_has_its_golden_file_and_its_own_error() -> None:
    """A code without a text, a text without a code, and two errors of one code fail here."""
    assert {path.stem for path in GOLDEN.glob("*.txt")} == {kind.code for kind in ERRORS}
    assert len({kind.code for kind in ERRORS}) == len(ERRORS)
    assert all(error.code == code for code, error in MADE.items())


@pytest.mark.parametrize("kind", ERRORS, ids=lambda kind: kind.code)
def test_each_code_is_said_and_explained(engine, kind) -> None:
    """Character by character: the words, the facts, the next step, the exit code and the page."""
    answer = engine("explain", kind.code)

    assert answer.exit_code == 0
    assert _page(kind, answer.stdout) == (GOLDEN / f"{kind.code}.txt").read_text(encoding="utf-8")
