"""What it costs to notice that jobs have ended: our schedule against asking each job every 1, 5 and 30 s.

    python benchmarks/polling.py [--jobs N] [--in-flight N] [--seed N]

A pure simulation: the same durations for everybody, time on a manual clock, a list page of 200 as in contract 9.6.
Nothing is measured but counts and simulated delays, so the figures are the same on every machine. Prints one JSON
line: for each spread of durations the requests per job and the mean detection delay of ours and of the three, and
both as ratios (theirs over ours; above 1 is in our favour).
"""

from __future__ import annotations

import argparse
import json
import math
import random
from collections.abc import Callable
from typing import NamedTuple

from engine.clock import ManualClock
from engine.jobs.schedule import Schedule
from engine.pipeline.spec import PollSpec

PAGE = 200
ROUND_TRIP_S = 0.05
SIDE_BY_SIDE = 16
FIXED_S = (1.0, 5.0, 30.0)
Draw = Callable[[random.Random], float]

SPREADS: dict[str, Draw] = {
    "around a minute": lambda chance: chance.lognormvariate(math.log(60), 0.5),
    "any time, 30 s on average": lambda chance: chance.expovariate(1 / 30),
    "most 5 s, some 2 min": lambda chance: chance.uniform(4, 6) if chance.random() < 0.8 else chance.uniform(100, 140),
    "about a second": lambda chance: chance.lognormvariate(0, 0.4),
}


class Cost(NamedTuple):
    """Of noticing the end of a job."""

    requests_per_job: float
    delay_s: float


class Platform:
    """Jobs that end when their time has come; `in_flight` are kept going until all have been made."""

    def __init__(self, durations: list[float], in_flight: int, clock: ManualClock) -> None:
        self.clock = clock
        self.requests = 0
        self.delays: list[float] = []
        self.schedule = Schedule(PollSpec())
        self.open: dict[str, float] = {}
        self._durations = durations
        self._in_flight = in_flight
        self._order: list[str] = []
        self._refill()

    def page(self, cursor: str | None) -> tuple[list[str], str | None]:
        """Of a list page, newest first, the jobs that are open, and the cursor of the next. Takes no time by itself."""
        self.requests += 1
        end = len(self._order) if cursor is None else int(cursor)
        start = max(0, end - PAGE)
        ours = [job for job in self._order[start:end][::-1] if job in self.open]
        self.schedule.read_page(cursor, ours, self.clock.monotonic())
        return ours, str(start) if start else None

    def get(self, job: str) -> None:
        """Ask about one job."""
        self.requests += 1
        self.clock.advance(ROUND_TRIP_S)
        self.answer(job)

    def answer(self, job: str) -> None:
        """Let the schedule know how a job is."""
        now = self.clock.monotonic()
        ends = self.open[job]
        if ends > now:
            self.schedule.still_going(job, now)
            return
        del self.open[job]
        self.delays.append(now - ends)
        self.schedule.ended(job, now, took_s=float(round(self._durations[int(job)])))
        self._refill()

    def _refill(self) -> None:
        now = self.clock.monotonic()
        while len(self.open) < self._in_flight and len(self._order) < len(self._durations):
            job = str(len(self._order))
            self.open[job] = now + self._durations[int(job)]
            self._order.append(job)
            self.schedule.add(job, now)


def ours(durations: list[float], in_flight: int) -> Cost:
    """Play the watcher: kept pages, sixteen at once; new ones while they are worth it; then the ripe jobs alone."""
    platform = Platform(durations, in_flight, ManualClock())
    while platform.open:
        look = platform.schedule.look(platform.clock.monotonic())
        asked = look.singles
        for start in range(0, len(look.bookmarks), SIDE_BY_SIDE):
            platform.clock.advance(ROUND_TRIP_S)
            for cursor in look.bookmarks[start : start + SIDE_BY_SIDE]:
                for job in platform.page(cursor)[0]:
                    platform.answer(job)
        if look.pages:
            asked = _sweep(platform, dict(look.chances), look.worth)
        elif not (asked or look.bookmarks):
            platform.clock.advance(look.wait_s or 0.0)
        for job in asked:
            if job in platform.open:
                platform.get(job)
    return Cost(platform.requests / len(durations), sum(platform.delays) / len(durations))


def _sweep(platform: Platform, unseen: dict[str, float], worth: float) -> list[str]:
    seen = pages = 0
    cursor: str | None = None
    while True:
        platform.clock.advance(ROUND_TRIP_S)
        page, cursor = platform.page(cursor)
        pages, seen = pages + 1, seen + len(page)
        for job in page:
            unseen.pop(job, None)
            platform.answer(job)
        if cursor is None or len(page) < 4 or sum(unseen.values()) < worth:
            break
    platform.schedule.read_pages(pages, ours=seen)
    return [job for job, chance in unseen.items() if chance >= 0.3]


def fixed(durations: list[float], every_s: float) -> Cost:
    """Ask each job every so often, from its creation on."""
    polls = [max(1, math.ceil(seconds / every_s)) for seconds in durations]
    delays = [count * every_s - seconds for count, seconds in zip(polls, durations, strict=True)]
    return Cost(sum(polls) / len(polls), sum(delays) / len(delays))


def compare(draw: Draw, jobs: int, in_flight: int, seed: int) -> dict[str, object]:
    """One spread of durations: everybody's costs, and theirs over ours."""
    chance = random.Random(seed)
    durations = [draw(chance) for _ in range(jobs)]
    mine = ours(durations, in_flight)
    told: dict[str, object] = {"ours": [round(figure, 3) for figure in mine]}
    for every_s in FIXED_S:
        theirs = fixed(durations, every_s)
        told[f"every {every_s:g} s"] = [round(figure, 3) for figure in theirs]
        told[f"every {every_s:g} s / ours"] = [round(them / us, 2) for them, us in zip(theirs, mine, strict=True)]
    return told


def main() -> None:
    """Read the flags, compare, print."""
    parser = argparse.ArgumentParser(description="polls per job and detection delay, against fixed polling")
    parser.add_argument("--jobs", type=int, default=2_000)
    parser.add_argument("--in-flight", type=int, default=500)
    parser.add_argument("--seed", type=int, default=1)
    flags = parser.parse_args()
    spreads = {name: compare(draw, flags.jobs, flags.in_flight, flags.seed) for name, draw in SPREADS.items()}
    print(json.dumps({"jobs": flags.jobs, "in_flight": flags.in_flight, "[requests per job, delay s]": spreads}))


if __name__ == "__main__":
    main()
