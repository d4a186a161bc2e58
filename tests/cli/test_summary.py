"""The words at the end of a run, by outcome."""

import pytest

from engine.cli.output import Paint, clock_text, grouped
from engine.cli.summary import report_fields, report_lines
from engine.runtime.report import Report

PLAIN = Paint(is_on=False)


def _report(**changed) -> Report:
    members = {
        "run_id": "r1", "pipeline": "people", "outcome": "done", "read": 10_204_113, "accepted": 10_195_377,
        "rejected": 8325, "dead": 411, "filtered": 0, "open": 0, "jobs": 2041, "requests": 10_818, "seconds": 2458.0,
        "parts": 412, "epoch": 1, "polls": 6735, "replays": 1, "manifest": "out/_manifest.json", "peak_mib": 187.0,
    }  # fmt: skip
    return Report(**{**members, **changed})


def test_a_done_run_reads_as_one_account() -> None:
    """Outcome and equation, traffic, the manifest, and the next commands."""
    equation = (
        "10 204 113 rows in = 10 195 377 accepted + 8 325 rejected + 411 dead-lettered + 0 filtered      balanced"
    )

    assert report_lines(_report(lines=["1 file discarded"]), "p.toml", PLAIN) == [
        f"✓ done in 00:40:58     {equation}",
        "  2 041 jobs (1 create repeated, same job returned)   10 818 requests   3.3 polls/job   peak 187 MiB",
        "  1 file discarded",
        "  out/_manifest.json (412 parts)",
        "  next  engine dlq ls people   engine runs show r1   engine jobs ls people",
    ]


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"outcome": "nothing_new", "read": 0, "jobs": 0, "requests": 0}, ["nothing new", "--fresh"]),
        ({"outcome": "interrupted", "open": 5, "exit_code": 75}, ["stopped", "5 open      balanced", "(exit 75)"]),
        ({"outcome": "over_budget", "exit_code": 5}, ["too many rows", "(exit 5)"]),
        ({"outcome": "unbalanced", "open": 3, "exit_code": 6}, ["do not balance", "NOT balanced", "(exit 6)"]),
        ({"outcome": "too_few_rows", "exit_code": 6}, ["min_rows"]),
        ({"outcome": "failed", "exit_code": 7}, ["failed", "engine run p.toml"]),
    ],
)  # fmt: skip
def test_every_outcome_says_what_it_means(changed, told) -> None:
    """Each outcome has its sentence, its exit code where it is not 0, and what to type next."""
    text = "\n".join(report_lines(_report(**changed), "p.toml", PLAIN))

    assert all(word in text for word in told)


def test_the_json_line_has_every_member() -> None:
    """The fields that scripts rely on are all there, under their names."""
    wanted = "run_id pipeline outcome read accepted rejected dead filtered open jobs requests seconds parts"

    assert set(wanted.split()) <= set(report_fields(_report()))


def test_numbers_and_times_are_readable() -> None:
    """Thousands are apart, short times have a decimal, long ones a clock."""
    assert (grouped(1_234_567), clock_text(4.24), clock_text(3661)) == ("1 234 567", "4.2 s", "01:01:01")
