"""Live: what a run shows while it runs: a panel that is redrawn on a terminal, a line every 10 s elsewhere.

An observer: events only move counters (`tally`); one timer of the loop writes. Always on stderr, so stdout stays
data. It never raises into the run nor holds it up: what a stream refuses is dropped and counted.
"""

from __future__ import annotations

import asyncio
import json
import shutil
from typing import TextIO

from engine.cli.output import clock_text, grouped
from engine.cli.spout import Spout
from engine.cli.tally import STAGES, Tally
from engine.errors import Exit
from engine.events import Event, RunStarted, Warned

_REDRAW_S = 0.25
_LINE_S = 10.0
_BAR_CELLS = 25

# What becomes of a job that is found in a state: of one, of several.
_FOUND = {
    "committed": ("committed, skipped", "committed, skipped"),
    "dead": ("dead, skipped", "dead, skipped"),
    "submitted": ("re-attached", "re-attached"),
    "submitting": ("sent again with its key", "sent again with their keys"),
    "succeeded": ("fetched again", "fetched again"),
    "planned": ("still to be sent", "still to be sent"),
    "failed": ("failed, up for a new attempt", "failed, up for a new attempt"),
    "cancelled": ("cancelled", "cancelled"),
}


class LiveView:
    """Shows one run. `start` and `stop` are called on the loop; `notice` from it.

    `input_bytes` is the size of the whole input where it is known, for the bar.
    """

    def __init__(
        self, stream: TextIO, *, is_tty: bool, log_format: str = "text", input_bytes: int | None = None
    ) -> None:
        self.tally = Tally()
        self._spout = Spout(stream)
        self._is_tty = is_tty
        self._log_format = log_format
        self._input_bytes = input_bytes
        self._pipeline = ""
        self._drawn = 0
        self._started_s = 0.0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None

    def notice(self, event: Event) -> None:
        """Count a fact; say at once what an operator should not wait for."""
        self.tally.notice(event)
        if isinstance(event, RunStarted):
            self._pipeline = event.pipeline
            self.say(opening(event))
        elif isinstance(event, Warned):
            self._warn(event)

    def start(self) -> None:
        """Begin to show; needs a running loop."""
        self._loop = asyncio.get_running_loop()
        self._started_s = self._loop.time()
        self.tally.sample(self._started_s)
        self._arm()

    def stop(self) -> None:
        """Show the last state once more on a terminal, and leave it standing."""
        if self._timer:
            self._timer.cancel()
            self._timer = None
        if self._is_tty and self._loop and self.tally.counts.read and not self.tally.is_over:
            self._show()
        elif self._is_tty:
            # The report follows, and says the same with final numbers.
            self._write(self._erase())
        self._drawn = 0

    def say(self, lines: list[str]) -> None:
        """Write lines that stay, above the panel."""
        self._write(self._erase() + "".join(line + "\n" for line in lines))

    @property
    def fields(self) -> dict[str, object]:
        """The numbers of now, for whoever looks on from outside."""
        now_s = self._loop.time() if self._loop else self._started_s
        return line_fields(self.tally, self._pipeline, now_s - self._started_s)

    def _warn(self, event: Warned) -> None:
        if self._is_tty:
            self.say([f"  warning   {event.message} [{event.code}]"])
            return
        fields: dict[str, object] = {"event": "warning", "code": event.code, "message": event.message}
        self._write(self._line(fields))

    def _arm(self) -> None:
        if self._loop:
            self._timer = self._loop.call_later(_REDRAW_S if self._is_tty else _LINE_S, self._tick)

    def _tick(self) -> None:
        if self._loop:
            self.tally.sample(self._loop.time())
            self._show()
            self._arm()

    def _show(self) -> None:
        elapsed_s = self._loop.time() - self._started_s if self._loop else 0.0
        if not self._is_tty:
            self._write(self._line(line_fields(self.tally, self._pipeline, elapsed_s)))
            return
        if not self._pipeline:
            return
        columns = shutil.get_terminal_size().columns
        lines = panel(self.tally, self._pipeline, elapsed_s, self._input_bytes)
        # A line that wraps would count as two when the cursor goes back up.
        text = "".join(line[: columns - 1] + "\x1b[K\n" for line in lines)
        # One write: the terminal never shows half a panel.
        self._write((f"\x1b[{self._drawn}A" if self._drawn else "") + text)
        self._drawn = len(lines)

    def _erase(self) -> str:
        text = f"\x1b[{self._drawn}A\x1b[J" if self._drawn else ""
        self._drawn = 0
        return text

    def _line(self, fields: dict[str, object]) -> str:
        return _json_line(fields) if self._log_format == "json" else _logfmt_line(fields)

    def _write(self, text: str) -> None:
        if text:
            self._spout.write(text)


def opening(event: RunStarted) -> list[str]:
    """The first lines of a run: who, where, and what was left from last time."""
    lines = [
        f"{event.pipeline}  ·  run {event.run_id}  ·  trace {event.trace_id}",
        f"  platform  {event.platform}",
    ]
    if event.idle_s is None:
        return [*lines, "  resume    nothing unfinished"]
    ago = clock_text(event.idle_s)
    how = f"stopped {ago} ago" if event.was_stopped else f"killed about {ago} ago, no clean shutdown"
    found = [
        f"{grouped(event.resumed[state])} {words[event.resumed[state] > 1]}"
        for state, words in _FOUND.items()
        if event.resumed.get(state)
    ]
    if event.swept:
        found.append(f"{grouped(event.swept)} unfinished file{'' if event.swept == 1 else 's'} discarded")
    return [
        *lines,
        f"resuming run {event.run_id} ({how})",
        f"   {' · '.join(found) if found else 'no job was planned yet'}",
    ]


def panel(tally: Tally, pipeline: str, elapsed_s: float, input_bytes: int | None) -> list[str]:
    """The lines of the terminal's panel."""
    lines = ["", _progress(tally, pipeline, elapsed_s, input_bytes), ""]
    lines.append(f"  {'stage':<8}{'in flight':>10}{'rate':>18}   {'p50 / p95':<18}{'errors':>7}")
    for name in STAGES:
        stage = tally.stages[name]
        flight = "-" if name == "read" else grouped(tally.in_flight(name))
        spread = _spread(stage.quantile(0.5), stage.quantile(0.95))
        lines.append(f"  {name:<8}{flight:>10}{_rate(name, stage.per_s):>18}   {spread:<18}{grouped(stage.errors):>7}")
    lines += ["", "  accounts  " + balance(tally)]
    if tally.waits:
        lines.append("  waiting   " + " · ".join(f"{reason} {share:.0%}" for reason, share in tally.waits[:3]))
    if limit := tally.limits.limit:
        lines.append(f"  pace      set by {limit.stage} ({limit.share:.0%} of the time): {limit.remedy}")
    requests = f"  requests  {grouped(tally.requests)}, {grouped(tally.polls)} of them polls"
    if tally.throttled:
        requests += f", {grouped(tally.throttled)} answered 429"
    if tally.replays:
        requests += f", {grouped(tally.replays)} creates answered with the same job"
    return [*lines, requests + f"      Ctrl-C stops (exit {Exit.INTERRUPTED}, nothing is lost)"]


def balance(tally: Tally) -> str:
    """The equation of the rows so far; the mark says that it holds."""
    counts = tally.counts
    mark = "✓" if counts.open >= 0 else "✗"
    return (
        f"accepted {grouped(counts.accepted)} + rejected {grouped(counts.rejected)} + dead {grouped(counts.dead)}"
        f" + filtered {grouped(counts.filtered)} + open {grouped(counts.open)} = {grouped(counts.read)} read   {mark}"
    )


def line_fields(tally: Tally, pipeline: str, elapsed_s: float) -> dict[str, object]:
    """The panel's numbers as the fields of one line."""
    counts = tally.counts
    fields: dict[str, object] = {
        "event": "progress",
        "pipeline": pipeline,
        "seconds": round(elapsed_s, 1),
        "read": counts.read,
        "accepted": counts.accepted,
        "rejected": counts.rejected,
        "dead": counts.dead,
        "filtered": counts.filtered,
        "open": counts.open,
        "balanced": counts.open >= 0,
        "requests": tally.requests,
        "polls": tally.polls,
        "throttled": tally.throttled,
        "replays": tally.replays,
        "parts": tally.parts,
    }
    for name in STAGES:
        stage = tally.stages[name]
        fields[f"{name}_in_flight"] = tally.in_flight(name)
        fields[f"{name}_per_s"] = round(stage.per_s, 1)
        fields[f"{name}_errors"] = stage.errors
        for label, share in (("p50", 0.5), ("p95", 0.95)):
            if (took_s := stage.quantile(share)) is not None:
                fields[f"{name}_{label}_s"] = round(took_s, 4)
    if limit := tally.limits.limit:
        fields["limit"], fields["limit_share"] = limit.stage, limit.share
    return fields


def _progress(tally: Tally, pipeline: str, elapsed_s: float, input_bytes: int | None) -> str:
    counts = tally.counts
    ended = counts.read - counts.open
    share = ended / counts.read if counts.read else 0.0
    of = f"{grouped(ended)} of {grouped(counts.read)} rows read so far"
    if input_bytes:
        # Rows that ended, as a share of an input of which only a part has been read.
        share *= min(tally.read_bytes / input_bytes, 1.0)
        of = f"{grouped(ended)} rows ended, {grouped(counts.read)} read"
    full = round(share * _BAR_CELLS)
    return f"{pipeline}   {'█' * full}{'░' * (_BAR_CELLS - full)}  {share:4.0%}   {of}   {clock_text(elapsed_s)}"


def _rate(stage: str, per_s: float) -> str:
    if stage == "fetch":
        return f"{per_s / 1e6:.2f} MB/s"
    noun = "rows/s" if stage in ("read", "write") else "jobs/s"
    return f"{per_s / 1000:.1f} k {noun}" if per_s >= 1000 else f"{per_s:.1f} {noun}"


def _spread(p50_s: float | None, p95_s: float | None) -> str:
    if p50_s is None or p95_s is None:
        return "-"
    return f"{_took(p50_s)} / {_took(p95_s)}"


def _took(seconds: float) -> str:
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    return f"{seconds:.1f} s" if seconds < 100 else f"{seconds / 60:.0f} m"


def _json_line(fields: dict[str, object]) -> str:
    return json.dumps(fields, ensure_ascii=False) + "\n"


def _logfmt_line(fields: dict[str, object]) -> str:
    return " ".join(f"{name}={_word(value)}" for name, value in fields.items()) + "\n"


def _word(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    text = str(value)
    return json.dumps(text) if " " in text or '"' in text or not text else text
