"""Golden texts: what a user reads for each kind of mistake, character by character."""

import shutil
from pathlib import Path

import pytest

from engine.cli.failures import render
from engine.cli.output import Paint
from engine.errors import PlanError
from engine.pipeline.findings import FINDINGS
from engine.pipeline.parse import load_pipeline
from tests.pipeline.conftest import marked_in

TYPO = """\
error[config.unknown_key]: unknown key `jobs_in_fligth` in [job]
   ┌─ p.toml:11:1
11 │ jobs_in_fligth = 500
   │ ^^^^^^^^^^^^^^ did you mean `jobs_in_flight`?
  = options here: kind, batch, timeout, retry, poll, jobs_in_flight, secrecy_level, payload
  = help: engine explain config.unknown_key"""

BARE_NUMBER = """\
error[config.unit]: `timeout` needs a unit: 90 is a bare number
   ┌─ p.toml:11:11
11 │ timeout = 90
   │           ^^ did you mean "90s"?
  = help: engine explain config.unit"""

WRONG_UNIT = """\
error[config.unit]: `bytes`: "768 parsecs" is no size
   ┌─ p.toml:11:19
11 │ batch = { bytes = "768 parsecs" }
   │                   ^^^^^^^^^^^^^ write "768KiB", "8MiB", "1GB"
  = help: engine explain config.unit"""

WRONG_TYPE = """\
error[config.type]: `rows` needs an integer, not "many"
   ┌─ p.toml:11:18
11 │ batch = { rows = "many" }
   │                  ^^^^^^
  = help: engine explain config.type"""

UNSET = """\
error[config.unset]: `${env:TENANT}` is not set
   ┌─ p.toml:11:22
11 │ payload = { tenant = "${env:TENANT}" }
   │                      ^^^^^^^^^^^^^^^ looked in: process environment, ./.env (no such file)
  = help: engine explain config.unset"""

OUT_OF_RANGE = """\
error[config.range]: `rows`: 0 is out of range; it must be at least 1
   ┌─ p.toml:11:18
11 │ batch = { rows = 0 }
   │                  ^
  = help: engine explain config.range"""

UNKNOWN_KIND = """\
error[config.choice]: unknown job kind `import.bluk`
   ┌─ p.toml:10:8
10 │ kind = "import.bluk"
   │        ^^^^^^^^^^^^^ did you mean `import.bulk`?
  = options here: import.bulk, intelligence.enrich.bulk, export.bulk, graph.compute
  = help: engine explain config.choice"""

KIND = 'kind = "intelligence.enrich.bulk"\n'


@pytest.mark.parametrize(
    ("line", "golden"),
    [
        (KIND + "jobs_in_fligth = 500", TYPO),
        (KIND + "timeout = 90", BARE_NUMBER),
        (KIND + 'batch = { bytes = "768 parsecs" }', WRONG_UNIT),
        (KIND + 'batch = { rows = "many" }', WRONG_TYPE),
        (KIND + 'payload = { tenant = "${env:TENANT}" }', UNSET),
        (KIND + "batch = { rows = 0 }", OUT_OF_RANGE),
        ('kind = "import.bluk"', UNKNOWN_KIND),
    ],
)
def test_a_mistake_is_shown_in_place(findings, good, line, golden) -> None:
    """A finding shows file, line and column, the line with carets, and what was probably meant."""
    text = good.replace(KIND, line + "\n")

    assert render(PlanError(findings(text)), Paint(is_on=False)) == golden


GOLDEN = Path(__file__).parent / "golden"


def test_every_code_has_its_golden_file() -> None:
    """There is a faulty file, and the text that is said of it, for each code a finding can carry; and no other."""
    assert {path.stem for path in GOLDEN.glob("*.toml")} == set(FINDINGS)
    assert {path.stem for path in GOLDEN.glob("*.txt")} == set(FINDINGS)


@pytest.mark.parametrize("code", FINDINGS)
def test_each_code_is_shown_in_place(code, tmp_path) -> None:
    """For each code: one finding, with its line and its carets under what is wrong, character by character."""
    shutil.copy(GOLDEN / f"{code}.toml", tmp_path)

    with pytest.raises(PlanError) as caught:
        load_pipeline(f"{code}.toml", env={})

    shown = render(caught.value, Paint(is_on=False))
    assert [found.finding_code for found in caught.value.findings] == [code]
    assert shown + "\n" == (GOLDEN / f"{code}.txt").read_text(encoding="utf-8")


# What is wrong in each faulty file, as it stands there.
MARKED = {
    "config.choice": '"import.bluk"',
    "config.conflict": '"3s"',
    "config.missing": "[source]",
    "config.range": "0",
    "config.reference": '"${evn:TENANT}"',
    "config.secret": '"hunter2"',
    "config.syntax": '"',
    "config.type": '"many"',
    "config.unit": "90",
    "config.unknown_key": "jobs_in_fligth",
    "config.unreadable": "\ufffd",
    "config.unsafe": '"out/x.ndjson"',
    "config.unset": '"${env:LEVEL}"',
}


@pytest.mark.parametrize("code", FINDINGS)
def test_carets_mark_what_is_wrong(code, tmp_path) -> None:
    """The place of each finding, cut out of its file, is the very text at fault: no more, no less."""
    shutil.copy(GOLDEN / f"{code}.toml", tmp_path)

    with pytest.raises(PlanError) as caught:
        load_pipeline(f"{code}.toml", env={})

    text = (GOLDEN / f"{code}.toml").read_bytes().decode("utf-8", "replace")
    assert marked_in(text, caught.value.findings) == [MARKED[code]]


@pytest.mark.parametrize("begin", [b"", b"\xef\xbb\xbf"])
def test_what_is_no_text_is_shown_in_place(tmp_path, begin) -> None:
    """The byte that is not UTF-8, also on the first line and after a byte order mark."""
    (tmp_path / "p.toml").write_bytes(begin + b'name = "caf\xe9"\n')

    with pytest.raises(PlanError) as caught:
        load_pipeline("p.toml", env={})

    assert render(caught.value, Paint(is_on=False)).splitlines()[1:4] == [
        "  ┌─ p.toml:1:12",
        '1 │ name = "caf\ufffd"',
        "  │            ^",
    ]


def test_carets_stand_under_wide_characters(findings, good) -> None:
    """Where characters take two places of the screen before and in the fault, the carets follow."""
    (found,) = findings(good.replace('path = "out"', 'rotate = { "行数" = 1 }\npath = "out"'))
    (value,) = findings(good.replace(KIND, 'kind = "漢字" # e\u0301\n'))

    assert render(found, Paint(is_on=False)).splitlines()[2:4] == [
        '14 │ rotate = { "行数" = 1 }',
        "   │            ^^^^^^",
    ]
    assert render(value, Paint(is_on=False)).splitlines()[3] == "   │        ^^^^^^"


def test_a_missing_key_points_at_its_table(findings, good) -> None:
    """A key that is absent is reported at the header of the table it belongs to, with its meaning."""
    (found,) = findings(good.replace('key = "profile_id"\n', ""))

    assert render(PlanError([found]), Paint(is_on=False)) == (
        "error[config.missing]: `key` is missing in [source]\n"
        "  ┌─ p.toml:4:1\n"
        "4 │ [source]\n"
        "  │ ^^^^^^^^ Field that identifies a row in results, dead letters and replay.\n"
        "  = help: engine explain config.missing"
    )


def test_a_missing_table_is_named(findings, good) -> None:
    """A table that is absent is reported by its header."""
    (found,) = findings(good[: good.index("[sink]")])

    assert (found.message, found.finding_code) == ("the table [sink] is missing", "config.missing")


def test_a_syntax_error_has_its_place(findings, good) -> None:
    """Text that is not TOML is one finding with line, column and the line."""
    (found,) = findings(good.replace('path = "out"', 'path = "out'))

    assert (found.finding_code, found.line, found.facts["excerpt"]) == ("config.syntax", 14, 'path = "out')
    assert found.column > 1


def test_every_finding_comes_at_once_in_order(findings, good) -> None:
    """Faults of types, units, sense and references of one file are told together, by position."""
    text = (
        good.replace('"profiles"', '"My profiles"')
        .replace('"ndjson"\npaths', '"ndjsn"\npaths')
        .replace("[sink]", 'timeout = "soon"\nsecrecy_level = "topsecret"\n\n[sink]\nfoo = "${env:A}"')
        .replace('path = "out"', "")
    )

    found = findings(text)

    assert [(f.line, f.finding_code) for f in found] == [
        (2, "config.range"),
        (5, "config.choice"),
        (12, "config.unit"),
        (13, "config.choice"),
        (15, "config.missing"),
        (16, "config.unknown_key"),
    ]


@pytest.mark.parametrize(
    ("name", "content", "code"),
    [
        ("absent.toml", None, "config.unreadable"),
        ("latin.toml", b'version = 1\nname = "\xe9"', "config.unreadable"),
        ("deep.toml", b"a = " + b"[" * 5000, "config.syntax"),
        ("long.toml", b"a = " + b"1" * 5000, "config.syntax"),
    ],
)
def test_an_unreadable_file_is_a_finding(tmp_path, name, content, code) -> None:
    """A file that is absent, not UTF-8, too deep or absurd ends in a finding, never in a foreign exception."""
    if content is not None:
        (tmp_path / name).write_bytes(content)

    with pytest.raises(PlanError) as caught:
        load_pipeline(name, env={})

    assert [found.finding_code for found in caught.value.findings] == [code]
