"""`[[test]]`: what a pipeline does with some rows, as its author expects it. The types, and what they mean together.

A scenario is data: rows, trouble, and how it ends. Playing it is `engine test`'s business; whether the rules of its
fault script make sense, the emulator's.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from engine.pipeline.findings import Fault, did_you_mean
from engine.pipeline.locate import KeyPath
from engine.settings import Seconds

LETTER_MEMBERS = ("key", "code", "bucket", "stage", "reason", "line")


class OutcomeSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[test.expect]`: how the run ends; what is not named is not looked at."""

    outcome: Annotated[
        Literal["done", "over_budget", "unbalanced", "too_few_rows", "failed"],
        Meta(description="How the run ends."),
    ] = "done"
    read: Annotated[int, Meta(description="Rows read.", ge=0)] | None = None
    accepted: Annotated[int, Meta(description="Rows accepted.", ge=0)] | None = None
    rejected: Annotated[int, Meta(description="Rows that the platform rejected.", ge=0)] | None = None
    dead: Annotated[int, Meta(description="Rows given up.", ge=0)] | None = None
    filtered: Annotated[int, Meta(description="Rows filtered on purpose.", ge=0)] | None = None
    jobs: Annotated[int, Meta(description="Remote jobs.", ge=0)] | None = None
    rows: Annotated[
        tuple[dict[str, Any], ...] | None,
        Meta(description="All rows that land, in any order, each by the members that are named."),
    ] = None
    dead_letters: Annotated[
        tuple[dict[str, Any], ...] | None,
        Meta(description=f"All dead letters, in any order, each by some of {', '.join(LETTER_MEMBERS)}."),
    ] = None
    error: Annotated[str | None, Meta(description="Code of an error that the run failed with.")] = None
    within: Annotated[Seconds, Meta(description="Longest that the run may take, by its own clock.", gt=0)] | None = None


class ScenarioSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[[test]]`: the pipeline over these rows, with an emulator of its own and on a clock of its own."""

    name: Annotated[str, Meta(description="What is tested, in a sentence.", min_length=1)]
    rows: Annotated[tuple[dict[str, Any], ...], Meta(description="The input, in place of the files.")] = ()
    text: Annotated[
        str | None, Meta(description="The input as the file would hold it, in place of `rows`: for what is no row.")
    ] = None
    faults: Annotated[
        tuple[dict[str, Any], ...], Meta(description="A fault script: the rules of its [[fault]] tables.")
    ] = ()
    latency: Annotated[Seconds, Meta(description="Median duration of a job.", ge=0)] | None = None
    seed: Annotated[int, Meta(description="Makes the emulator's choices repeatable.")] = 0
    expect: OutcomeSpec = OutcomeSpec()


def check_scenarios(scenarios: Sequence[ScenarioSpec | None], *, reads_files: bool) -> Iterator[Fault]:
    """What is wrong with the `[[test]]` blocks of a pipeline; None stands for one whose types were at fault."""
    names = Counter(scenario.name for scenario in scenarios if scenario)
    for index, scenario in enumerate(scenarios):
        if scenario is None:
            continue
        at: KeyPath = ("test", index)
        if names[scenario.name] > 1:
            yield _fault((*at, "name"), "conflict", "another test has this name")
        has_input = bool(scenario.rows) or scenario.text is not None
        if scenario.rows and scenario.text is not None:
            yield _fault((*at, "text"), "conflict", "`rows` are the input, and so is `text`", "leave out one")
        elif reads_files and not has_input:
            hint = 'for example: rows = [{ id = "1" }]'
            yield _fault((*at, "rows"), "missing", "the test has no input: neither `rows` nor `text`", hint)
        elif not reads_files and has_input:
            name = "rows" if scenario.rows else "text"
            yield _fault((*at, name), "conflict", "the platform lists the rows of this source")
        yield from _letters(scenario.expect, (*at, "expect"))


def _letters(expect: OutcomeSpec, at: KeyPath) -> Iterator[Fault]:
    for index, letter in enumerate(expect.dead_letters or ()):
        for member in letter:
            if member not in LETTER_MEMBERS:
                yield Fault(
                    at=(*at, "dead_letters", index, member),
                    code="config.unknown_key",
                    message=f"a dead letter has no `{member}`",
                    hint=did_you_mean(member, LETTER_MEMBERS),
                    about="key",
                    options=LETTER_MEMBERS,
                )
    if expect.error is not None and expect.outcome != "failed":
        hint = 'add outcome = "failed"'
        yield _fault((*at, "error"), "conflict", f"a run that ends with `{expect.outcome}` has no `error`", hint)


def _fault(at: KeyPath, code: str, message: str, hint: str = "") -> Fault:
    return Fault(at=at, code=f"config.{code}", message=message, hint=hint)
