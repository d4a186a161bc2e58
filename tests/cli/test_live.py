"""The live view: events become numbers, numbers become a panel or a line."""

import io
import json
import os
import re

import pytest

from engine.cli.live import LiveView, balance, line_fields, opening, panel
from engine.cli.tally import Tally
from engine.events import (
    BatchRead,
    Event,
    JobGaveUp,
    JobSettled,
    JobsPlanned,
    JobSubmitted,
    PartCommitted,
    Polled,
    RequestDone,
    ResultFetched,
    RunEnded,
    RunStarted,
    SpanEnded,
    Waited,
    Warned,
)

pytestmark = pytest.mark.anyio

STARTED = RunStarted(
    "r1", "people", "emulator, http://127.0.0.1:1", "t1", {"submitted": 2, "committed": 5, "dead": 0}, idle_s=191.0
)


def _span(state: str, accepted: int, rejected: int, dead: int) -> SpanEnded:
    books = {"accepted": accepted, "rejected": rejected, "dead": dead, "state": state}
    told = {f"engine.job.{name}": value for name, value in books.items()}
    return SpanEnded("t", "s", None, "job", "internal", 0, 1, told)


EVENTS: list[Event] = [
    STARTED,
    BatchRead(90, 4, 6, 1000, 0.01),
    JobsPlanned(3, 90),
    JobSubmitted("k", 30, replayed=False, took_s=0.2),
    JobSubmitted("k", 30, replayed=True, took_s=0.4),
    JobSubmitted("k", 30, replayed=False, took_s=0.3),
    Polled(3, by_page=True),
    JobSettled("k", "succeeded", 3.0),
    JobSettled("k", "failed", 5.0),
    JobGaveUp("k", 30, "x", "y"),
    ResultFetched(30, 5000, 0.5),
    RequestDone("jobs.create", "POST", "/v1/jobs", "api", 429, 0.1, 0),
    RequestDone("jobs.create", "POST", "/v1/jobs", "api", 201, 0.1, 1),
    Waited("remote", 3.0),
    Waited("create", 1.0),
    PartCommitted("part", 28, 900, 1, 0.05),
    _span("committed", 28, 2, 0),
    _span("dead", 0, 0, 30),
]


def _tally() -> Tally:
    tally = Tally()
    for event in EVENTS:
        tally.notice(event)
    return tally


def test_the_books_are_folded_from_facts() -> None:
    """Rows read, filtered, bad, given up and committed add up; a dead job is not counted twice."""
    counts = _tally().counts

    assert (counts.read, counts.accepted, counts.rejected, counts.dead, counts.filtered) == (100, 28, 2, 34, 6)
    assert counts.open == 30


def test_jobs_in_flight_begin_with_the_resumed_ones() -> None:
    """What was found submitted counts as running until it is settled."""
    tally = _tally()

    assert [tally.in_flight(name) for name in ("create", "running", "fetch", "write")] == [0, 3, 0, 0]


def test_the_end_of_a_run_has_the_last_word() -> None:
    """The counts of RunEnded replace what was folded: they are the ledger's."""
    tally = _tally()
    tally.notice(RunEnded("r1", "people", "done", 200, 190, 10, 0, 0, 0, 1.0))

    assert balance(tally) == "accepted 190 + rejected 10 + dead 0 + filtered 0 + open 0 = 200 read   ✓"


def test_rates_are_over_a_window() -> None:
    """A rate is the difference of two samples over the time between them."""
    tally = Tally()
    tally.sample(10.0)
    tally.notice(BatchRead(500, 0, 0, 1, 0.1))
    tally.sample(12.0)

    assert tally.stages["read"].per_s == 250.0


def test_the_panel_says_everything_in_few_lines() -> None:
    """Progress, one line per stage, the balance, why it waits, and the traffic."""
    text = "\n".join(panel(_tally(), "people", 65.0, None))

    assert "people   " in text
    assert "70 of 100 rows read so far   00:01:05" in text
    assert re.search(r"create +0 +0\.0 jobs/s +300 ms / 400 ms +1", text)
    assert re.search(r"running +3 .* 5\.0 s / 5\.0 s +1", text)
    assert "open 30 = 100 read   ✓" in text
    assert "  waiting   remote 100% · create 100%" in text
    assert "  pace      set by create (100% of the time): the platform takes new jobs slowly" in text
    assert "1 answered 429" in text
    assert all(len(line) <= 150 for line in text.splitlines())


def test_the_opening_says_where_and_what_was_left() -> None:
    """The first lines name the platform and the jobs found from last time, states without jobs left out."""
    assert opening(STARTED) == [
        "people  ·  run r1  ·  trace t1",
        "  platform  emulator, http://127.0.0.1:1",
        "resuming run r1 (killed about 00:03:11 ago, no clean shutdown)",
        "   5 committed, skipped · 2 re-attached",
    ]


async def test_a_pipe_gets_lines_and_no_escapes() -> None:
    """Away from a terminal there are plain lines only: the opening, then logfmt."""
    stream = io.StringIO()
    view = LiveView(stream, is_tty=False)
    view.start()
    for event in EVENTS:
        view.notice(event)
    view._tick()
    view.stop()

    *_, line = stream.getvalue().splitlines()
    assert "\x1b" not in stream.getvalue()
    assert line.startswith("event=progress pipeline=people seconds=")
    assert "balanced=true" in line
    assert "create_p50_s=0.3" in line


async def test_a_pipe_gets_json_when_asked() -> None:
    """With log_format json the progress line is one object with the same fields."""
    stream = io.StringIO()
    view = LiveView(stream, is_tty=False, log_format="json")
    view.start()
    for event in EVENTS:
        view.notice(event)
    view._tick()
    view.stop()

    fields = json.loads(stream.getvalue().splitlines()[-1])
    assert set(fields) == set(line_fields(view.tally, "people", 0.0))
    assert (fields["read"], fields["limit"]) == (100, "create")


async def test_a_terminal_is_redrawn_in_place() -> None:
    """The second panel goes over the first, and a warning stays above it."""
    stream = io.StringIO()
    view = LiveView(stream, is_tty=True)
    view.start()
    for event in EVENTS:
        view.notice(event)
    view._tick()
    lines = stream.getvalue().count("\x1b[K\n")
    view._tick()
    view.notice(Warned("state.slow", "the disk is slow"))
    view.stop()

    assert stream.getvalue().count(f"\x1b[{lines}A") == 2
    assert "\x1b[J  warning   the disk is slow [state.slow]\n" in stream.getvalue()


async def test_a_terminal_that_goes_away_fails_no_run() -> None:
    """A stream that refuses silences the view; notice does not raise."""
    read_end, write_end = os.pipe()
    os.close(read_end)
    with os.fdopen(write_end, "w", buffering=1) as stream:
        view = LiveView(stream, is_tty=False)
        view.start()
        view.notice(STARTED)
        view.notice(STARTED)
        view.stop()
        # What could not be written must not be tried again on closing.
        os.dup2(os.open(os.devnull, os.O_WRONLY), write_end)
