"""The auditor: reads files, ledger and the emulator's own books, and says what is wrong with a run.

It believes nobody: rows are counted in the files, digests are computed, the ledger is added up with SQL of its own,
and the platform's jobs are read where the platform keeps them. It uses none of the engine's accounting, so a mistake
in that cannot hide itself. Reads only.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec

from engine.chaos.rows import Part, Reference, Row
from engine.chaos.targets import Target
from engine.store.sqlite import connect

Fault = Literal["lost", "doubled", "changed", "job twice", "unbalanced", "files"]
_ENDED = ("committed", "dead")


class Finding(msgspec.Struct, frozen=True):
    """Something that is wrong: `count` rows, jobs, runs or files of it, and a sentence that says where."""

    fault: Fault
    count: int
    text: str


class Sums(msgspec.Struct, frozen=True, kw_only=True):
    """A ledger, added up. `letters` are the keys of the dead letters, `remotes` the platform's ids it holds."""

    read: int
    filtered: int
    accepted: int
    rejected: int
    dead: int
    runs: int
    open_jobs: int
    crooked_jobs: int
    letters: list[str]
    parts: dict[str, tuple[int, int, str]]
    remotes: set[str]
    attempts: int


class Audited(msgspec.Struct, frozen=True, kw_only=True):
    """What one pipeline's files and ledger say, and what is wrong with them."""

    findings: list[Finding]
    landed: list[Row]
    sums: Sums | None


def audit_pipeline(
    target: Target, ledger: Path, in_input: int | None, reference: Reference | None, *, may_die: bool = False
) -> Audited:
    """Audit one pipeline that has ended, by where its rows are, its ledger, and the rows in its input, if known.

    `reference` is what it brings undisturbed (None: it is the undisturbed run). `may_die`: rows may be dead letters
    instead; otherwise a row there that was not there undisturbed is a lost one.
    """
    parts = target.parts()
    findings = list(_files(target, parts)) if target.has_parts else []
    if not ledger.is_file():
        return Audited(findings=[*findings, Finding("unbalanced", 1, f"{ledger} does not exist")], landed=[], sums=None)
    sums = _add_up(ledger)
    findings += _balance(sums, parts, in_input, has_parts=target.has_parts)
    if reference is not None:
        excused = set(sums.letters) if may_die else set()
        findings += compare(parts, reference, excused=excused)
        findings += _both_ways(parts, reference, set(sums.letters))
    return Audited(findings=findings, landed=[row for part in parts for row in part.rows], sums=sums)


def _files(target: Target, parts: Sequence[Part]) -> Iterator[Finding]:
    """The manifest lists exactly the files that are there, and says of each what it is."""
    try:
        listed = {part["name"]: part for part in target.manifest()["parts"]}
    except (KeyError, TypeError) as exc:
        if parts:
            yield Finding("files", 1, f"no manifest that can be read ({type(exc).__name__}) beside {parts[0].name}")
        return
    present = {part.name for part in parts}
    for name in sorted(present - listed.keys()):
        yield Finding("files", 1, f"{name} is in no manifest")
    for name in sorted(listed.keys() - present):
        yield Finding("files", 1, f"{name} is in the manifest and not there")
    for part in parts:
        said = listed.get(part.name)
        if said is not None and (said["rows"], said["bytes"], said["sha256"]) != _account(part):
            yield Finding("files", 1, f"{part.name} is not what the manifest says of it")


def _account(part: Part) -> tuple[int, int, str]:
    return len(part.rows), part.body_bytes, part.sha256


def _add_up(path: Path) -> Sums:
    db = connect(path, read_only=True)
    try:

        def rows(sql: str) -> list[tuple[Any, ...]]:
            return db.execute(sql).fetchall()

        read, filtered, dead, runs = rows(
            "SELECT coalesce(sum(read),0), coalesce(sum(filtered),0), coalesce(sum(dead),0), count(*) FROM runs"
        )[0]
        jobs = rows("SELECT state, rows, accepted, rejected, dead, remote_id FROM jobs")
        ended = [job for job in jobs if job[0] in _ENDED]
        attempts = rows("SELECT remote_id FROM attempts WHERE remote_id IS NOT NULL")
        return Sums(
            read=read,
            filtered=filtered,
            accepted=sum(job[2] for job in ended),
            rejected=sum(job[3] for job in ended),
            dead=dead + sum(job[4] for job in ended),
            runs=runs,
            open_jobs=len(jobs) - len(ended),
            crooked_jobs=sum(1 for job in ended if job[1] != job[2] + job[3] + job[4]),
            letters=[row[0] for row in rows("SELECT key FROM dead_letters")],
            parts={row[0]: row[1:] for row in rows("SELECT name, rows, body_bytes, sha256 FROM parts")},
            remotes={job[5] for job in jobs if job[5]} | {row[0] for row in attempts},
            attempts=len(attempts),
        )
    finally:
        db.close()


def _balance(sums: Sums, parts: Sequence[Part], in_input: int | None, *, has_parts: bool) -> Iterator[Finding]:
    """The ledger's equation, and each of its sides against what can be counted elsewhere."""
    ends = sums.accepted + sums.rejected + sums.dead + sums.filtered
    in_files = sum(len(part.rows) for part in parts)
    checks = (
        (sums.read == ends, f"{sums.read} rows read, {ends} accounted for"),
        (not sums.open_jobs, f"{sums.open_jobs} jobs have not ended"),
        (not sums.crooked_jobs, f"{sums.crooked_jobs} jobs whose rows do not add up"),
        (sums.accepted == in_files, f"{sums.accepted} rows accepted, {in_files} where they land"),
        (
            sums.rejected + sums.dead == len(sums.letters),
            f"{sums.rejected + sums.dead} rows rejected or dead, {len(sums.letters)} dead letters",
        ),
        (in_input is None or in_input == sums.read, f"{in_input} rows in the input, {sums.read} read"),
        (sums.runs == 1, f"{sums.runs} runs in the ledger instead of one that was continued"),
        (
            not has_parts or sums.parts == {part.name: _account(part) for part in parts},
            f"the ledger lists {len(sums.parts)} parts, and they are not the {len(parts)} files",
        ),
    )
    wrong = [text for is_right, text in checks if not is_right]
    if wrong:
        yield Finding("unbalanced", 1, "; ".join(wrong))


def compare(parts: Sequence[Part], reference: Reference, *, excused: set[str]) -> Iterator[Finding]:
    """Rows against the undisturbed run's, as multisets; `excused` are names of rows that may be missing."""
    rows = Counter(reference.plain(row) for part in parts for row in part.rows)
    missing, extra = reference.rows - rows, rows - reference.rows
    lost = Counter({text: n for text, n in missing.items() if reference.names[text] not in excused})
    doubled = sum(n for text, n in extra.items() if text in reference.rows)
    changed = sum(extra.values()) - doubled
    # A row that is there with another content is one finding, not a lost and a new one.
    lost_rows = max(0, sum(lost.values()) - changed)
    if lost_rows:
        yield Finding("lost", lost_rows, f"{lost_rows} rows are missing, as {_example(lost)}")
    if doubled:
        yield Finding("doubled", doubled, f"{doubled} rows are there again, as {_example(extra)}")
    if changed:
        yield Finding("changed", changed, f"{changed} rows are not those of an undisturbed run, as {_example(extra)}")


def _example(rows: Counter[str]) -> str:
    return min(rows)[:200]


def _both_ways(parts: Sequence[Part], reference: Reference, letters: set[str]) -> Iterator[Finding]:
    """A row has one end: it is in the files or in the dead letters."""
    if reference.match:
        both = [row for part in parts for row in part.rows if reference.name_of(row) in letters]
        if both:
            yield Finding("doubled", len(both), f"{len(both)} rows are in the files and in the dead letters")


def audit_platform(database: Path, books: dict[str, Any], ledgers: Sequence[Sums]) -> list[Finding]:
    """What the platform says it did, against what the ledgers say they asked for: one job each, and none besides."""
    db = connect(database, read_only=True)
    try:
        ids = {row[0] for row in db.execute("SELECT id FROM jobs")}
        twice = db.execute(
            "SELECT coalesce(sum(n - 1), 0) FROM (SELECT count(*) n FROM jobs WHERE status = 'succeeded'"
            " GROUP BY realm, kind, digest HAVING count(*) > 1)"
        ).fetchone()[0]
        traces = db.execute("SELECT count(*) - count(DISTINCT trace_id) FROM jobs").fetchone()[0]
    finally:
        db.close()
    known = {remote for sums in ledgers for remote in sums.remotes}
    attempts = sum(sums.attempts for sums in ledgers)
    findings = []
    if twice:
        findings.append(Finding("job twice", twice, f"{twice} payloads were worked on by more than one job"))
    if traces > attempts:
        findings.append(Finding("job twice", traces - attempts, f"{traces} jobs share a trace, {attempts} may"))
    if orphans := ids - known:
        findings.append(Finding("job twice", len(orphans), f"{len(orphans)} jobs no ledger knows, as {min(orphans)}"))
    if missing := known - ids:
        findings.append(Finding("unbalanced", 1, f"{len(missing)} jobs the platform does not know, as {min(missing)}"))
    if books["creates"] != len(ids):
        findings.append(Finding("job twice", 1, f"{books['creates']} creates answered 201, {len(ids)} jobs exist"))
    return findings
