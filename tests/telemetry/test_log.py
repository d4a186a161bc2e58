"""One fact is one line, whatever it holds."""

import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.events import EVENTS, JobGaveUp, RunEnded, RunStarted, Waited, Warned
from engine.telemetry.log import LogObserver, escape, level_of, name_of
from engine.telemetry.redact import Redactor

NOW_NS = 1_700_000_000_123_456_789
STARTED = RunStarted("r1", "profiles", "emulator", "a" * 32, {"submitted": 3})
NASTY = 'a\r\nlevel=error \x1b[2J\u2028\u2029\u202e\u2066\x85\x00\x7f\ud800"q" \\ é'


def lines_of(*events, **options) -> list[str]:
    stream = io.StringIO()
    log = LogObserver(stream, now_ns=lambda: NOW_NS, **options)
    for event in events:
        log.notice(event)
    text = stream.getvalue()
    assert not text or text.endswith("\n")
    return text.split("\n")[:-1]


def ended(outcome: str) -> RunEnded:
    return RunEnded("r1", "profiles", outcome, 5, 3, 1, 1, 0, 0, 1.23456789)


def test_a_logfmt_line() -> None:
    """A line of logfmt holds time, level, the fact's name and its fields; counts by state are flattened."""
    (line,) = lines_of(STARTED)

    assert line == (
        "ts=2023-11-14T22:13:20.123Z level=info event=run_started run_id=r1 pipeline=profiles "
        f"platform=emulator trace_id={'a' * 32} resumed.submitted=3 was_stopped=false swept=0"
    )


def test_a_json_line() -> None:
    """A line of JSON holds the same fields with their types."""
    (line,) = lines_of(STARTED, fmt="json")

    assert json.loads(line) == {
        "ts": "2023-11-14T22:13:20.123Z",
        "level": "info",
        "event": "run_started",
        "run_id": "r1",
        "pipeline": "profiles",
        "platform": "emulator",
        "trace_id": "a" * 32,
        "resumed": {"submitted": 3},
        "was_stopped": False,
        "swept": 0,
    }


def test_levels_decide() -> None:
    """Info tells of the run and of warnings, never of a job or a wait; debug tells everything."""
    facts = [STARTED, Waited("source", 0.1), JobGaveUp("k", 1, "c", "r"), Warned("c", "m"), ended("failed")]

    assert [len(lines_of(*facts, level=level)) for level in ("debug", "info", "warning", "error")] == [5, 3, 2, 1]
    assert (level_of(ended("completed")), level_of(ended("failed"))) == ("info", "error")


def test_every_fact_has_its_own_name() -> None:
    """Names of facts are distinct words in snake case."""
    names = {name_of(kind) for kind in EVENTS}

    assert len(names) == len(EVENTS)
    assert all(name.replace("_", "").isalpha() and name.islower() for name in names)


@pytest.mark.parametrize("fmt", ["text", "json"])
def test_nothing_breaks_out_of_its_line(fmt) -> None:
    """Line ends, escape sequences and bidirectional controls are written as escapes."""
    (line,) = lines_of(Warned("c", NASTY), fmt=fmt)

    assert line.isprintable()
    assert line.count("level=error") == 1
    if fmt == "json":
        assert json.loads(line)["message"] == NASTY


@given(st.lists(st.text(st.characters()), min_size=1, max_size=5), st.sampled_from(["text", "json"]))
def test_lines_are_as_many_as_facts(messages, fmt) -> None:
    """Whatever the messages hold, there is one printable line for each."""
    lines = lines_of(*(Warned("c", message) for message in messages), fmt=fmt)

    assert len(lines) == len(messages)
    assert all(line.isprintable() and len(line.splitlines()) == 1 for line in lines)


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_escapes_can_be_read_back(text: str) -> None:
    """An escaped text is printable, and Python's own reader of escapes gives the text again."""
    shown = escape(text)

    assert shown.isprintable()
    ascii_only = shown.encode("ascii", "backslashreplace")
    assert ascii_only.decode("unicode_escape") == text


@pytest.mark.parametrize("fmt", ["text", "json"])
def test_a_megabyte_is_cut(fmt) -> None:
    """A value of a megabyte is cut to a kilobyte, and says how much is gone."""
    (line,) = lines_of(Warned("c", "x" * 1_000_000), fmt=fmt)

    assert len(line) < 1200
    assert "[+999000]" in line


def test_secrets_are_masked_before_the_cut() -> None:
    """A secret that straddles the cut does not leave its first half."""
    (line,) = lines_of(Warned("c", "x" * 990 + "hunter2-hunter2"), redactor=Redactor(["hunter2-hunter2"]))

    assert "hunter" not in line


def test_a_span_is_logged_without_its_attributes(span) -> None:
    """At debug a span's ids and times are logged; what its attributes hold is not."""
    (line,) = lines_of(span(attributes={"name": "canary"}), level="debug")

    assert "event=span_ended" in line
    assert "canary" not in line


def test_a_closed_stream_silences_the_log() -> None:
    """A stream that refuses does not disturb whoever noticed the fact."""
    stream = io.StringIO()
    log = LogObserver(stream)
    stream.close()
    log.notice(STARTED)
    log.notice(STARTED)


def test_a_narrow_stream_gets_escapes() -> None:
    """A stream that cannot hold a letter gets its escape instead."""
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii", newline="")
    LogObserver(stream).notice(Warned("c", "é"))

    assert b"message=\\xe9\n" in raw.getvalue()
