"""Forecast: what a run would ask of the platform, and how long that takes. Arithmetic on counts; nothing is opened.

A figure that nothing supports is None: an invented time is worse than none.
"""

from __future__ import annotations

import math

import msgspec

# How often a job is asked about, found again and again with jobs of seconds; larger runs are asked about page-wise.
POLLS_PER_JOB = 2.4
POLLS_PER_JOB_BY_PAGES = 0.4
PAGE_WORTH = 200
# Requests of one connection, where nothing else limits: creating and fetching at a platform that answers at once.
_REQUEST_S = 0.02


class Ahead(msgspec.Struct, frozen=True, kw_only=True):
    """What lies before a run: rows to send, jobs to create or questions to ask, jobs that are at the platform."""

    rows: int
    jobs: int
    waiting: int = 0
    has_jobs: bool = True


class Pace(msgspec.Struct, frozen=True, kw_only=True):
    """What bounds it: requests per second (None: no ceiling), jobs and requests at once, and what was seen before.

    `job_s` is how long a job usually takes, `rows_per_s` how fast an earlier run of this pipeline went.
    """

    requests_per_s: float | None
    jobs_in_flight: int
    concurrency: int
    job_s: float | None = None
    rows_per_s: float | None = None


class Forecast(msgspec.Struct, frozen=True, kw_only=True):
    """Requests by lane, and seconds: None where nothing is known to go by."""

    create: int
    poll: int
    fetch: int
    seconds: float | None


def forecast(ahead: Ahead, pace: Pace) -> Forecast:
    """What a run with this before it asks, and how long it takes at this pace."""
    if not ahead.has_jobs:
        seconds = _seconds(ahead.jobs, pace, 0) if ahead.jobs else _by_rows(ahead, pace)
        return Forecast(create=ahead.jobs, poll=0, fetch=0, seconds=seconds)
    waited = ahead.jobs + ahead.waiting
    per_job = POLLS_PER_JOB if waited <= PAGE_WORTH else POLLS_PER_JOB_BY_PAGES
    poll = math.ceil(waited * per_job)
    # A result is asked for at the platform, and its bytes at the store.
    fetch = 2 * waited
    seconds = _by_rows(ahead, pace)
    if seconds is None:
        seconds = _seconds(ahead.jobs + poll + waited, pace, waited)
    return Forecast(create=ahead.jobs, poll=poll, fetch=fetch, seconds=seconds)


def _by_rows(ahead: Ahead, pace: Pace) -> float | None:
    """As fast as the last time, where there was one; jobs that wait already are a part of a run like any other."""
    if not ahead.rows and not ahead.waiting:
        return 0.0
    return ahead.rows / pace.rows_per_s if pace.rows_per_s and not ahead.waiting else None


def _seconds(requests: int, pace: Pace, jobs: int) -> float | None:
    """The slowest of what has to happen: requests under the ceiling, and jobs side by side."""
    per_s = min(pace.requests_per_s or math.inf, pace.concurrency / _REQUEST_S)
    asking = requests / per_s
    if not jobs:
        return asking
    if pace.job_s is None:
        return None
    return max(asking, math.ceil(jobs / pace.jobs_in_flight) * pace.job_s)
